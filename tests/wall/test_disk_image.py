"""Workspaces that are file systems of their own: made, found again, grown, erased; a host killed meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nanoclaw.config import Settings
from nanoclaw.domain.group import BoxLimits
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.disk import Disk, close_disk, open_disk, remove_disk
from nanoclaw.sandbox.spec import MIB
from nanoclaw.store.defaults import FOLDER
from tests.flow.test_limits_path import limit
from tests.flow.world import Home, open_world

UID = 1879048193


def fill(folder: Path) -> None:
    (folder / "memory").write_text("# Memory\n")
    os.chown(folder / "memory", UID, UID)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "data").mkdir()
    (tmp_path / "groups").mkdir()
    made = Disk(tmp_path / "data" / "disks" / "g.img", tmp_path / "groups" / "main", 64 * MIB, UID)
    if os.geteuid() != 0:
        pytest.skip("only a root host mounts images: run as root")
    probe = Disk(tmp_path / "data" / "probe.img", tmp_path / "groups" / "probe", 16 * MIB, UID)
    try:
        open_disk(probe, fill, make=True)
    except SandboxError as error:
        pytest.skip(f"no image can be mounted here ({error}): needs e2fsprogs, loop devices and CAP_SYS_ADMIN")
    finally:
        close_disk(probe)
    yield made
    close_disk(made)


def size_of(disk: Disk) -> int:
    space = os.statvfs(disk.workspace)
    return space.f_blocks * space.f_frsize


def loops(disk: Disk) -> str:
    """The loop devices of its image; the kernel lets one go a moment after the unmount."""
    deadline = time.monotonic() + 5
    while True:
        found = subprocess.run(["losetup", "-j", disk.image], capture_output=True, text=True, check=True).stdout
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_a_new_workspace_is_a_file_system_of_the_groups_own_uid_and_of_the_size_of_its_limit(disk: Disk) -> None:
    assert open_disk(disk, fill, make=True)
    found = os.stat(disk.workspace)
    assert (found.st_uid, found.st_mode & 0o777, os.listdir(disk.workspace)) == (UID, 0o700, ["memory"])
    assert 0.8 * 64 * MIB < size_of(disk) <= 64 * MIB
    with open(disk.workspace / "big", "wb") as file, pytest.raises(OSError) as full:
        os.posix_fallocate(file.fileno(), 0, 65 * MIB)
    assert full.value.errno == errno.ENOSPC
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    options = next(line.split()[5] for line in mounts if str(disk.workspace) in line)
    assert {"nodev", "nosuid"} <= set(options.split(","))


def test_it_is_found_again_mounted_or_not_with_all_its_files(disk: Disk) -> None:
    open_disk(disk, fill, make=True)
    (disk.workspace / "work").write_text("mine")
    assert open_disk(disk, fill, make=False)  # as a host after one that was killed
    close_disk(disk)
    assert os.listdir(disk.workspace) == []
    assert open_disk(disk, fill, make=False)  # as after a start of the machine, whatever the setting says now
    assert (disk.workspace / "work").read_text() == "mine"
    close_disk(disk)
    assert loops(disk) == ""


@pytest.mark.parametrize("mounted", [True, False])
def test_it_grows_with_its_limit_and_never_shrinks(disk: Disk, *, mounted: bool) -> None:
    open_disk(disk, fill, make=True)
    (disk.workspace / "work").write_text("mine")
    if not mounted:
        close_disk(disk)
    for size in (128, 32):
        other = Disk(disk.image, disk.workspace, size * MIB, UID)
        assert open_disk(other, fill, make=True)
        assert size_of(disk) > 100 * MIB
    assert (disk.workspace / "work").read_text() == "mine"


def test_one_that_is_in_use_grows_when_it_is_not_any_more(disk: Disk) -> None:
    open_disk(disk, fill, make=True)
    larger = Disk(disk.image, disk.workspace, 128 * MIB, UID)
    with open(disk.workspace / "memory"):
        assert open_disk(larger, fill, make=True)
        assert size_of(disk) < 70 * MIB
    assert open_disk(larger, fill, make=True)
    assert size_of(disk) > 100 * MIB


def test_one_whose_file_grew_before_its_host_died_grows_at_the_next_start(disk: Disk) -> None:
    open_disk(disk, fill, make=True)
    close_disk(disk)
    os.truncate(disk.image, 128 * MIB)
    open_disk(disk, fill, make=True)
    assert size_of(disk) > 100 * MIB


def test_a_plain_workspace_stays_one(disk: Disk) -> None:
    disk.workspace.mkdir()
    (disk.workspace / "work").write_text("mine")
    assert not open_disk(disk, fill, make=True)
    assert not disk.image.exists()


def test_files_below_an_image_that_is_not_mounted_are_neither_hidden_nor_worked_on(disk: Disk) -> None:
    open_disk(disk, fill, make=True)
    close_disk(disk)
    (disk.workspace / "work").write_text("of whom?")
    with pytest.raises(SandboxError, match="files in it") as refused:
        open_disk(disk, fill, make=True)
    assert "Move them away" in refused.value.mend
    assert (disk.workspace / "work").exists()


def test_what_is_no_image_stops_the_start_and_is_kept(disk: Disk) -> None:
    disk.image.parent.mkdir()
    disk.image.write_bytes(b"x" * 64 * MIB)
    with pytest.raises(SandboxError, match="cannot be made ready"):
        open_disk(disk, fill, make=True)
    assert disk.image.stat().st_size == 64 * MIB


def test_erased_it_leaves_nothing_and_one_in_use_is_not_erased(disk: Disk) -> None:
    open_disk(disk, fill, make=True)
    with open(disk.workspace / "memory"), pytest.raises(SandboxError, match="busy"):
        remove_disk(disk)
    assert disk.image.exists()
    remove_disk(disk)
    assert not disk.image.exists()
    assert not disk.is_mounted


MAKER = """
import sys
from pathlib import Path
from nanoclaw.sandbox.disk import Disk, open_disk
image, workspace = map(Path, sys.argv[1:3])
def fill(folder): (folder / "memory").write_text("# Memory")
open_disk(Disk(image, workspace, int(sys.argv[3]), 1000), fill, make=True)
"""


# Seen once: an image that `e2fsck -p` will not mend; the start then refuses with what it said (decision 0008).
@pytest.mark.long  # thirty hosts killed, each with the tools it had started
def test_a_host_killed_while_it_makes_mounts_or_grows_one_leaves_what_the_next_goes_on_from(disk: Disk) -> None:
    chance = random.Random(7)
    for step in range(30):
        command = [sys.executable, "-c", MAKER, disk.image, disk.workspace, str((64 + step) * MIB)]
        with subprocess.Popen(command, start_new_session=True) as host:
            time.sleep(chance.uniform(0.02, 0.25))
            with suppress(ProcessLookupError):
                os.killpg(host.pid, signal.SIGKILL)
        assert open_disk(Disk(disk.image, disk.workspace, 64 * MIB, UID), fill, make=True)
        if step == 0:
            (disk.workspace / "work").write_text("mine")
        assert (disk.workspace / "work").read_text() == "mine"
        assert (disk.workspace / "memory").exists()
        if step % 3 == 0:
            close_disk(disk)
    close_disk(disk)
    checked = subprocess.run(["e2fsck", "-f", "-n", disk.image], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert loops(disk) == ""


async def test_a_group_gets_one_at_its_first_start_is_told_when_it_is_full_and_is_erased_with_it(
    tmp_path: Path, disk: Disk
) -> None:
    home = Home(tmp_path / "home", settings=Settings(workspace_images=True))
    home.path.mkdir()
    async with open_world(home) as world:
        await limit(world, BoxLimits(disk_mb=64))
        chat = await world.chat()
        await chat.says("hi")
        await chat.hears("you said: hi")
        workspace = world.means.config.paths.workspace(FOLDER)
        group = world.run.group
        try:
            assert os.path.ismount(workspace)
            with open(workspace / "big", "wb") as file:
                space = os.statvfs(workspace)
                os.posix_fallocate(file.fileno(), 0, int(space.f_bavail * space.f_frsize * 0.95))
            await world.watchdog.look()
            await world.until(lambda: len(chat.heard) == 2)
            assert "of 64.0 MB. Delete some, or give it more" in chat.heard[1]
            assert len(world.live) == 1
        finally:
            await asyncio.to_thread(close_disk, Disk(world.means.config.paths.disk(group.id), workspace, 0, 0))
