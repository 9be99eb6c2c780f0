"""The gateway's own files: whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.files import read_whole, write_whole


def test_a_file_comes_back_as_it_was_written_and_is_its_owners_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"one")
    write_whole(tmp_path / "a", b"two")
    assert read_whole(tmp_path / "a") == b"two"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_is_not_there_is_none_and_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    assert read_whole(tmp_path / "none") is None
    (tmp_path / "folder").mkdir()
    with pytest.raises(OperatorError, match="gateway/folder cannot be read"):
        read_whole(tmp_path / "folder")


def test_a_file_longer_than_its_limit_is_refused_not_cut(tmp_path: Path) -> None:
    write_whole(tmp_path / "long", b"x" * 11)
    with pytest.raises(OperatorError, match="longer than 10 bytes"):
        read_whole(tmp_path / "long", 10)
    assert read_whole(tmp_path / "long", 11) == b"x" * 11


def test_what_a_crash_left_half_written_is_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    (tmp_path / "a.new").write_bytes(b"hal")
    assert read_whole(tmp_path / "a") == b"old"
    write_whole(tmp_path / "a", b"new")
    assert read_whole(tmp_path / "a") == b"new"
    assert not (tmp_path / "a.new").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    (tmp_path / "a.new").mkdir()
    with pytest.raises(OperatorError, match="Nothing was changed"):
        write_whole(tmp_path / "a", b"new")
    assert read_whole(tmp_path / "a") == b"old"
