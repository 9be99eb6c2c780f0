"""The files that tell running boxes of the way out: kept current in place, whole, and of nobody else's making."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from nanoclaw.config import Paths
from nanoclaw.flow.outside import OutsideFiles, write_in_place
from nanoclaw.gateway.client import Outside
from nanoclaw.log import open_log

OLD = Outside("OLD CA\n", {"": ("api.anthropic.com",), "coder": ("api.anthropic.com", "pypi.org")})
NEW = Outside("THE NEW CA\n", {"": ()})


class Place:
    """A home with the folders of two agent groups, and what the gateway says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said = OLD
        self.log = io.StringIO()
        for folder in ("main", "coder"):
            (root / "compose" / folder).mkdir(parents=True)
        self.files = OutsideFiles(Paths(root, root / "run"), lambda: self.said, open_log("debug", self.log))

    def read(self, folder: str, name: str) -> str:
        return (self.root / "compose" / folder / name).read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_group_gets_the_names_of_its_own_rules_or_else_those_of_every_group(place: Place) -> None:
    place.files.compose("main")
    place.files.compose("coder")
    assert place.read("main", "hosts") == "127.0.0.1 localhost agent\n127.0.0.1 api.anthropic.com\n"
    assert place.read("coder", "hosts").endswith("127.0.0.1 api.anthropic.com\n127.0.0.1 pypi.org\n")
    assert place.read("main", "ca.pem") == place.read("coder", "ca.pem") == "OLD CA\n"


def test_a_running_box_sees_a_change_because_the_file_stays_the_same_one(place: Place) -> None:
    place.files.refresh()
    path = place.root / "compose" / "coder" / "hosts"
    with path.open() as mounted:
        before = path.stat().st_ino
        place.said = NEW
        place.files.refresh()
        assert path.stat().st_ino == before
        assert mounted.read() == "127.0.0.1 localhost agent\n"
    assert place.read("main", "ca.pem") == "THE NEW CA\n"


def test_what_is_the_same_is_not_written_again(place: Place) -> None:
    place.files.refresh()
    path = place.root / "compose" / "main" / "ca.pem"
    os.utime(path, ns=(1, 1))
    place.files.refresh()
    assert path.stat().st_mtime_ns == 1


def test_a_file_that_others_could_not_read_or_that_was_cut_short_is_whole_again(place: Place) -> None:
    path = place.root / "compose" / "main" / "ca.pem"
    path.write_text("OLD")
    path.chmod(0o600)
    place.files.refresh()
    assert place.read("main", "ca.pem") == "OLD CA\n"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_link_in_the_place_of_a_file_is_not_followed(place: Place) -> None:
    victim = place.root / "victim"
    victim.write_text("kept")
    (place.root / "compose" / "main" / "hosts").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        place.files.compose("main")
    place.files.refresh()  # the other group is served all the same
    assert victim.read_text() == "kept"
    assert "127.0.0.1 pypi.org" in place.read("coder", "hosts")
    assert "outside.refresh_failed" in place.log.getvalue()


def test_a_home_without_a_composed_folder_is_no_error(tmp_path: Path) -> None:
    log = io.StringIO()
    OutsideFiles(Paths(tmp_path, tmp_path), Outside, open_log("debug", log)).refresh()
    assert "outside.refresh_failed" in log.getvalue()
    write_in_place(tmp_path / "new", b"x")
    assert (tmp_path / "new").read_bytes() == b"x"
