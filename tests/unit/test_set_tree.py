"""What a build box has left is looked through before others get it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nanoclaw.sandbox.packages import BuildFailed
from nanoclaw.sandbox.set_tree import inside, look_through


@pytest.mark.parametrize(
    ("link", "target", "kept"),
    [
        ("bin/x", "../npm/bin/x", "../npm/bin/x"),
        ("bin/x", "/opt/pkgs/npm/bin/x", "../npm/bin/x"),
        ("apt/usr/bin/x", "/etc/alternatives/x", "../../etc/alternatives/x"),
        ("apt/usr/bin/x", "y", "y"),
        ("x", "y/./z", "y/z"),
        ("bin/x", "/etc/passwd", None),
        ("bin/x", "../../etc/passwd", None),
        ("x", "../y", None),
        ("a/b/c/x", "d/../../../../y", None),
        ("bin/x", "/opt/pkgs/../../etc/passwd", "../etc/passwd"),
        ("apt/x", "/../../etc/passwd", "etc/passwd"),
        ("x", ".", None),
        ("x", "/opt/pkgs/", None),
        ("x", "", None),
    ],
)
def test_a_link_stays_inside_or_goes(link: str, target: str, kept: str | None) -> None:
    assert inside(link, target) == kept


def test_modes_are_plain_links_out_go_and_nothing_outside_changes(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    outside.chmod(0o600)
    root = tmp_path / "set"
    (root / "bin").mkdir(parents=True)
    for name, mode in (("suid", 0o4711), ("plain", 0o600), ("open", 0o666)):
        (root / "bin" / name).write_text(name)
        (root / "bin" / name).chmod(mode)
    (root / "bin" / "out").symlink_to(outside)
    (root / "bin" / "in").symlink_to("plain")
    (root / "bin").chmod(0o2700)
    assert look_through(root, None) == 1
    modes = {name: (root / "bin" / name).stat().st_mode & 0o7777 for name in ("suid", "plain", "open")}
    assert modes == {"suid": 0o755, "plain": 0o644, "open": 0o644}
    assert (root / "bin").stat().st_mode & 0o7777 == 0o755
    assert sorted(os.listdir(root / "bin")) == ["in", "open", "plain", "suid"]
    assert outside.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_special_file_ends_the_build(tmp_path: Path, kind: str) -> None:
    (tmp_path / "set").mkdir()
    if kind == "fifo":
        os.mkfifo(tmp_path / "set" / "x")
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "set" / "x"))
    with pytest.raises(BuildFailed, match="special file"):
        look_through(tmp_path / "set", None)


def test_folders_in_folders_without_end_end_the_build(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    with pytest.raises(BuildFailed, match="without end"):
        look_through(root, None)
