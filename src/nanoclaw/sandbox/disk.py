"""A file system of its own for a workspace (root hosts): an ext4 image in `data/disks/`, over `groups/<folder>`.

In: an agent group's image and workspace, the size its limit asks for, what a new workspace begins with.
Out: the image, mounted; it grows with the limit, while nothing is mounted, and never shrinks.
Order: image made whole under another name -> renamed -> an empty folder of root's -> mounted. A host that dies between
two of these leaves what the next one goes on from; a mount outlives its host and is found again. An image whose
workspace is not mounted stops the start of its boxes: an agent must never work in the empty folder below it.
Never: touches a workspace that is a plain folder; removes a file of one; mounts devices or set-uid files.
Fails: SandboxError with what mends it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.domain.limits import MIB
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.mounts import remove_tree

TOOLS_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
TOOL_SECONDS = 120.0  # e2fsck of a large image; mkfs takes 10 ms
OPTIONS = "loop,nodev,nosuid"
FIXED = 1  # e2fsck(8): errors were corrected
MEND = (
    "`workspace_images` needs e2fsprogs and loop devices; without it in config.toml new workspaces are plain folders."
)


@dataclass(frozen=True, slots=True)
class Disk:
    """One agent group's image and where it is mounted. `uid` owns what a new one begins with."""

    image: Path
    workspace: Path
    size_bytes: int
    uid: int

    @property
    def is_mounted(self) -> bool:
        """Whether the workspace is a file system of its own now."""
        return os.path.ismount(self.workspace)


def open_disk(disk: Disk, fill: Callable[[Path], None], *, make: bool) -> bool:
    """Mount a group's image, made by `fill` in a folder when there is none and `make`; blocks 20 ms.

    False: its workspace is, or will be, a plain folder. Raises SandboxError, OSError.
    """
    if disk.is_mounted and not (_needs_room(disk) and _try_to_close(disk)):
        return True  # one that boxes use grows when the last of them is over
    is_new = not disk.image.exists()
    if is_new:
        if not make or disk.workspace.exists():
            return False
        _make(disk, fill)
    elif _needs_room(disk):
        _grow(disk)
    disk.workspace.mkdir(mode=0o700, exist_ok=True)
    if any(disk.workspace.iterdir()):
        raise SandboxError(
            f"{disk.workspace} has files in it, and its disk {disk.image} is not mounted over them.",
            mend=f"Move them away, e.g. to {disk.workspace}.aside; they can be copied back when it is mounted.",
        )
    _run("mount", "-o", OPTIONS, str(disk.image), str(disk.workspace))
    if is_new:
        disk.workspace.chmod(0o700)
        with suppress(OSError):
            (disk.workspace / "lost+found").rmdir()  # for people it is only odd; e2fsck makes one when it needs it
    return True


def close_disk(disk: Disk) -> None:
    """Take a group's image off its workspace; nothing when it is not on it. Raises SandboxError while it is in use."""
    if disk.is_mounted:
        _run("umount", str(disk.workspace))


def _try_to_close(disk: Disk) -> bool:
    with suppress(SandboxError):
        close_disk(disk)
    return not disk.is_mounted


def remove_disk(disk: Disk) -> None:
    """Erase a group's image with everything on it. Raises SandboxError, OSError."""
    close_disk(disk)
    disk.image.unlink(missing_ok=True)


def _make(disk: Disk, fill: Callable[[Path], None]) -> None:
    disk.image.parent.mkdir(mode=0o700, exist_ok=True)
    first, draft = disk.image.with_suffix(".first"), disk.image.with_suffix(".new")
    remove_tree(first)  # of a host that died here
    first.mkdir(mode=0o700)
    fill(first)
    with open(draft, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(disk.size_bytes)
    owner = f"root_owner={disk.uid}:{disk.uid},lazy_itable_init=1,lazy_journal_init=1"
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", owner, "-d", str(first), str(draft))
    with open(draft, "rb+") as file:
        os.fsync(file.fileno())
    draft.rename(disk.image)
    remove_tree(first)


def _needs_room(disk: Disk) -> bool:
    """Whether the limit asks for more than the file system has; also when a host died between file and file system."""
    size = disk.image.stat().st_size
    return size < disk.size_bytes or size - _file_system_bytes(disk.image) >= MIB


def _file_system_bytes(image: Path) -> int:
    """Return the size of an ext4 file system by its superblock (ext4(5), Documentation/filesystems/ext4/super.rst)."""
    with open(image, "rb") as file:
        file.seek(1024)
        block = file.read(1024)
    if len(block) < 1024 or block[0x38:0x3A] != b"\x53\xef":
        return image.stat().st_size  # no file system: mounting it says so
    low, high = int.from_bytes(block[0x4:0x8], "little"), int.from_bytes(block[0x150:0x154], "little")
    return ((high << 32) + low) * (1024 << int.from_bytes(block[0x18:0x1C], "little"))


def _grow(disk: Disk) -> None:
    """Make an image that is not mounted larger, its journal replayed and what a power cut left mended."""
    _run("e2fsck", "-f", "-p", str(disk.image), allowed=FIXED)
    if disk.image.stat().st_size < disk.size_bytes:
        os.truncate(disk.image, disk.size_bytes)
    _run("resize2fs", str(disk.image))


def _run(*command: str, allowed: int = 0) -> str:
    env = {"PATH": TOOLS_PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"The disk of a workspace cannot be made ready: {error}", mend=MEND) from None
    if done.returncode not in (0, allowed):
        said = (done.stderr.strip() or done.stdout.strip())[-300:]
        raise SandboxError(f"The disk of a workspace cannot be made ready: {command[0]}: {said}", mend=MEND)
    return done.stdout
