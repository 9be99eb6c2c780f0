"""Paths an agent wrote: opened beneath a root and nowhere else, and removed whatever they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw.sandbox.mounts import open_beneath, read_beneath, remove_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("the key")
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("mine")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inner").symlink_to("sub/file")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "second").hardlink_to(folder / "sub" / "file")
    os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    "path",
    [
        "link",
        "inner",
        "folder/secret",
        "../secret",
        "sub/../../secret",
        "/etc/passwd",
        "sub/../../root/sub/file",
        "missing",
        "",
    ],
)
def test_what_leads_elsewhere_or_through_a_link_is_not_opened(root_fd: int, path: str) -> None:
    with pytest.raises(OSError):
        os.close(open_beneath(root_fd, path, os.O_RDONLY))


def test_what_lies_beneath_is_opened(root_fd: int) -> None:
    for flags in (os.O_RDONLY, os.O_PATH, os.O_RDWR):
        descriptor = open_beneath(root_fd, "sub/file", flags)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
    with pytest.raises(OSError):
        open_beneath(root_fd, "link", os.O_CREAT | os.O_WRONLY, 0o600)


def test_only_a_plain_file_with_one_name_and_a_bounded_size_is_read(root: Path) -> None:
    (root / "own").write_bytes(b"12345")
    assert read_beneath(root, "own", 5) == b"12345"
    for path, limit in (("own", 4), ("fifo", 100), ("second", 100), ("sub", 100), ("link", 100)):
        with pytest.raises(OSError):
            read_beneath(root, path, limit)


def test_a_tree_is_removed_whatever_is_in_it(root: Path, tmp_path: Path) -> None:
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for depth in range(1500):
        os.mkdir("deep", dir_fd=here)
        (os.mkdir("beside", dir_fd=here) if depth % 100 == 0 else None)
        below = os.open("deep", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (root / "sub").chmod(0)
    (root / "\udcff").touch()
    remove_tree(root)
    remove_tree(root)
    assert not root.exists()
    assert (tmp_path / "secret").read_text() == "the key"
