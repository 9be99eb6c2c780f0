"""The allowlist of folders: every mistake in it allows nothing and is named; it is read again when it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanoclaw.errors import OperatorError
from nanoclaw.sandbox.allowlist import Allowlist, AllowlistFile, Root, find_blocked, parse_allowlist

MISTAKES = {
    "[[root]\npath = '/srv'": "not valid TOML",
    "roots = []": "unknown key 'roots'",
    "root = '/srv'": "`root` is a list",
    "root = ['/srv']": "root 1 is not a table",
    "[[root]]\nread_write = true": "root 1 needs `path`",
    "[[root]]\npath = 7": "root 1 needs `path`",
    "[[root]]\npath = 'srv/x'": "a path is absolute",
    "[[root]]\npath = ''": "a path has 1 to",
    "[[root]]\npath = '~other/x'": "a path is absolute",
    "[[root]]\npath = '/srv/../etc'": "no `..`",
    '[[root]]\npath = "/srv/a\\nb"': "no line breaks",
    f"[[root]]\npath = '/{'x' * 4000}'": "a path has 1 to",
    "[[root]]\npath = '/srv'\nread_write = 'yes'": "`read_write` is true or false",
    "[[root]]\npath = '/srv'\nreadwrite = true": "unknown key 'readwrite'",
    "[[root]]\npath = '/srv'\nnote = 4": "`note` is one line",
    "[[root]]\npath = '/srv'\n[[root]]\npath = '/srv'": "there twice",
    "blocked = 'x'": "`blocked` is a list",
    "blocked = ['']": "`blocked` is a list",
    "blocked = [1]": "`blocked` is a list",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_every_mistake_is_named_and_allows_nothing(text: str, tmp_path: Path) -> None:
    good = "[[root]]\npath = '/srv/good'\n"
    path = tmp_path / "mounts.toml"
    path.write_text(text + "\n" + good if text.startswith("blocked") else text)
    read = AllowlistFile(path).read()
    assert read.roots == () and MISTAKES[text] in read.fault and str(path) in read.fault


def test_a_file_that_is_missing_no_text_too_large_or_no_file_allows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mounts.toml"
    file = AllowlistFile(path)
    assert file.read() == Allowlist()
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in file.read().fault
    path.write_text("#" * 300_000)
    assert "no plain file" in file.read().fault
    path.unlink()
    os.mkfifo(path)
    assert "no plain file" in file.read().fault


@pytest.mark.parametrize("value", ["1" * 5_000, "[" * 9_000], ids=["a number too long", "lists too deep"])
def test_a_file_that_the_parser_gives_up_on_allows_nothing(value: str, tmp_path: Path) -> None:
    path = tmp_path / "mounts.toml"
    path.write_text(f"blocked = {value}\n")
    assert "not valid TOML" in AllowlistFile(path).read().fault


def test_it_is_read_again_when_it_changes_and_mended_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "mounts.toml"
    file = AllowlistFile(path)
    path.write_text("[[root]]\npath = '/srv/a'\n")
    first = file.read()
    assert first.roots == (Root("/srv/a"),) and file.read() is first
    path.write_text("[[root]\n")
    assert file.read().roots == () and file.read().fault
    draft = tmp_path / "draft"
    draft.write_text("[[root]]\npath = '/srv/b'\n")
    os.utime(draft, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    draft.replace(path)
    assert file.read().roots == (Root("/srv/b"),)
    path.unlink()
    assert file.read() == Allowlist()


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "mounts.toml"
    file = AllowlistFile(path)
    path.write_text("[[root]]\npath = '/srv/a'\n")
    assert file.read().roots == (Root("/srv/a"),)
    before = path.stat()
    path.write_text("[[root]]\npath = '/srv/b'\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    wait_for_tick(path, before.st_ctime_ns)
    assert file.read().roots == (Root("/srv/b"),)


def wait_for_tick(path: Path, since_ns: int) -> None:
    """Touch a file's mode until its change time is another: the kernel counts in ticks."""
    while path.stat().st_ctime_ns == since_ns:
        path.chmod(0o600)


def test_blocked_words_are_looked_for_anywhere_in_small_letters() -> None:
    allowlist = parse_allowlist("blocked = ['Private', 'work/secret-plans']")
    blocked = (
        "/home/a/.ssh", "/x/.SSH/y", "/x/my-credentials.d", "/x/.environment", "/x/ID_RSA.bak", "/x/private",
        "/PRIVATE/x", "/srv/work/secret-plans/b",
    )  # fmt: skip
    assert all(find_blocked(allowlist, path) for path in blocked)
    assert find_blocked(allowlist, "/srv/ssh/environment/secret-plans") is None


def test_a_note_and_a_read_write_flag_are_kept() -> None:
    text = "blocked = ['x']\n[[root]]\npath = '~/notes'\nread_write = true\nnote = 'mine'\n"
    assert parse_allowlist(text) == Allowlist((Root("~/notes", True, "mine"),), ("x",))
    with pytest.raises(OperatorError, match="at most 200"):
        parse_allowlist("".join(f"[[root]]\npath = '/srv/{n}'\n" for n in range(201)))
