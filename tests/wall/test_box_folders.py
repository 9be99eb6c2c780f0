"""Folders of the machine in a box: what was checked is what is mounted, or the box never runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.domain.group import ExtraMount
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.allowlist import AllowlistFile
from nanoclaw.sandbox.folders import Folders, OpenFolders
from tests.wall.conftest import BOX_UID, Wall

SHOW = "print(*sorted(os.listdir('/extra/docs')), open('/extra/docs/word').read(), file=sys.stderr)"
WRITE = "open('/extra/docs/new', 'w').write('x')"


class Shelf:
    """An allowed folder with a good and a secret folder beside it; `docs` is what a group was given."""

    def __init__(self, wall: Wall, base: Path, *, writable: bool = False) -> None:
        self.root, self.secret = base / "srv", base / "other-groups"
        base.chmod(0o755)
        for folder, word in ((self.root / "docs", "good"), (self.secret, "planted")):
            folder.mkdir(parents=True)
            (folder / "word").write_text(word)
            os.chown(folder, BOX_UID, -1)
        allowlist = base / "mounts.toml"
        allowlist.write_text(f"[[root]]\npath = '{self.root}'\nread_write = {'true' if writable else 'false'}\n")
        folders = Folders(AllowlistFile(allowlist), ())
        self.opened = OpenFolders(folders, [ExtraMount(str(self.root / "docs"), writable=True)])
        self.opened.open()
        wall.inputs = replace(wall.inputs, extra=self.opened.mounts)


async def test_a_folder_is_seen_under_its_name_and_read_only_unless_its_root_says_otherwise(
    wall: Wall, disk_path: Path
) -> None:
    shelf = Shelf(wall, disk_path)
    assert await wall.probe(SHOW) == "word good\n"
    said = await wall.probe(f"try:\n    {WRITE}\nexcept OSError as error:\n    say(error.errno)")
    assert said == "30\n"
    shelf.opened.close()


async def test_a_folder_of_a_read_write_root_can_be_written(wall: Wall, disk_path: Path) -> None:
    shelf = Shelf(wall, disk_path, writable=True)
    await wall.probe(WRITE)
    assert (shelf.root / "docs" / "new").read_text() == "x"
    shelf.opened.close()


def by_rename(shelf: Shelf) -> None:
    shelf.secret.rename(shelf.root / "docs")


def by_link(shelf: Shelf) -> None:
    (shelf.root / "docs").symlink_to(shelf.secret)


def by_a_link_above(shelf: Shelf) -> None:
    docs = shelf.secret.parent / "decoy" / "docs"
    docs.mkdir(parents=True)
    (docs / "word").write_text("planted")
    shelf.root.rename(shelf.root.with_name("srv.away"))
    shelf.root.symlink_to(docs.parent)


@pytest.mark.parametrize("swap", [by_rename, by_link, by_a_link_above])
async def test_a_folder_that_is_replaced_after_the_check_is_never_seen(
    wall: Wall, disk_path: Path, swap: Callable[[Shelf], None]
) -> None:
    shelf = Shelf(wall, disk_path)
    if swap is not by_a_link_above:
        (shelf.root / "docs").rename(shelf.root / "moved")
    swap(shelf)
    with pytest.raises(SandboxError, match="was replaced"):
        await wall.start("import os, sys\n" + SHOW)
    shelf.opened.close()  # the fixture looks for descriptors that were left open


async def test_a_folder_that_is_gone_after_the_check_stops_the_start_at_once(wall: Wall, disk_path: Path) -> None:
    shelf = Shelf(wall, disk_path)
    (shelf.root / "docs").rename(Path(f"{shelf.root}.gone"))
    with pytest.raises(SandboxError, match="cannot be given to a sandbox"):
        await wall.start("import os, sys\n" + SHOW)
    shelf.opened.close()
