"""`nanoclaw mounts`: the file is changed with everything else in it kept, and `test` says what decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw.cli.verbs import run
from nanoclaw.errors import OperatorError
from nanoclaw.sandbox.allowlist import Root, parse_allowlist
from nanoclaw.sandbox.allowlist_edit import put_root, remove_root

BY_A_PERSON = """\
# what I gave away
blocked = ["private"]  # mine

[[root]] # the scans
path = "/srv/scans"  # of 2026
note = "scans"

# old
[[root]]
path = '/srv/old'
read_write = true
"""


def test_a_root_is_put_in_changed_and_taken_out_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "mounts.toml"
    path.write_text(BY_A_PERSON)
    assert not put_root(path, Root('/srv/a "b" \\c', True, "it's"))
    assert path.read_text().startswith(BY_A_PERSON)
    assert put_root(path, Root("/srv/old"))
    remove_root(path, '/srv/a "b" \\c')
    text = path.read_text()
    assert "# what I gave away" in text and 'path = "/srv/scans"  # of 2026' in text
    assert parse_allowlist(text).roots == (Root("/srv/scans", False, "scans"), Root("/srv/old"))
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OperatorError, match="is no root in"):
        remove_root(path, "/srv")


@pytest.mark.parametrize("text", ["root = [{path = '/srv/x'}]\n", "x = '''\n[[root]]\n'''", "[[root]\n"])
def test_a_file_that_cannot_be_changed_safely_is_left_as_it_is(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mounts.toml"
    path.write_text(text)
    for change in (lambda: put_root(path, Root("/srv/x", True)), lambda: remove_root(path, "/srv/x")):
        with pytest.raises(OperatorError):
            change()
    assert path.read_text() == text


def test_the_verbs_allow_list_test_and_forget(
    disk_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", str(disk_path / "home"))
    docs = disk_path / "srv" / "docs"
    docs.mkdir(parents=True)

    def says(*words: str, code: int = 0) -> str:
        assert run(["mounts", *words]) == code, capsys.readouterr()
        told = capsys.readouterr()
        return told.out + told.err

    assert "Nothing is allowed" in says("list")
    assert "mounts allow" in says("test", str(docs), code=1)
    assert f"Allowed: {disk_path}/srv, read-only" in says("allow", str(disk_path / "srv"), "--note", "papers")
    assert "papers" in says("list")
    assert "config/mounts.toml:2, root" in says("test", str(docs))
    assert "Read-write needs" in says("test", str(docs), "--read-write")
    changed = says("allow", str(disk_path / "srv"), "--read-write")
    assert "Changed" in changed
    assert "Sandboxes that run keep" in changed and "ncl groups restart" in changed
    assert "read-write." in says("test", str(docs), "--read-write")
    for bad, why in (
        ("/", "never given"), ("/etc", "never given to a sandbox: it is of the system"),
        (str(disk_path / "home"), "never given"),
        ("/no/such", "no folder"), (f"{docs}\n", "line breaks"), ("/" + "x" * 4_000, "1 to 1000"),
        (f"{disk_path}/srv/../srv", "no `..`"),
    ):  # fmt: skip
        assert why in says("allow", bad, code=2)
    assert "Forgotten" in says("forget", str(disk_path / "srv"))
    assert "no root in" in says("forget", str(disk_path / "srv"), code=2)
    (disk_path / "home" / "config" / "mounts.toml").write_text("[[root]\n")
    assert "not valid TOML" in says("list", code=1)
    assert "Mend" in says("allow", str(docs), code=2)
