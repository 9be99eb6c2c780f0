"""A folder held by descriptor: what was checked stays what it is, whatever its path leads to later.

In: a path. Out: a `Pin`, whose descriptor, identity and way to the root belong to one and the same folder.
`confirm_pins` looks into a held box, before anything of it runs, at what really was mounted: bubblewrap opens its
sources by path (0.8 has no --bind-fd), so what it opened is compared with what was pinned.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.spec import Mount

SYS_OPENAT2, AT_FDCWD = 437, -100  # the number is the same on every architecture
RESOLVE_NO_MAGICLINKS = 0x02
DEEPEST = 300  # folders on the way to the root
MOUNTED_SECONDS = 10.0  # a held box has its mounts within milliseconds of telling its pid
LOOK_SECONDS = 0.002

Identity = tuple[int, int]  # st_dev, st_ino: no other folder has it while a descriptor is open


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class Pin:
    """One folder. `real`: its path now, without links; `lineage`: itself and every folder above it, by identity."""

    descriptor: int
    real: Path
    lineage: tuple[Identity, ...]

    @property
    def identity(self) -> Identity:
        """Which folder it is."""
        return self.lineage[0]

    def close(self) -> None:
        """Let go of it; once."""
        os.close(self.descriptor)


def open_pin(path: Path) -> Pin:
    """Resolve a path once and hold the folder it leads to. Raises OSError; blocks as the file system does."""
    descriptor = _open_folder(path)
    try:
        real = os.readlink(f"/proc/self/fd/{descriptor}")
        mine = os.fstat(descriptor)
        if not real.startswith("/") or not os.path.samestat(mine, os.lstat(real)):  # removed, or moved this moment
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return Pin(descriptor, Path(real), tuple(_walk_up(descriptor)))
    except BaseException:  # boundary: no descriptor stays open when it cannot be judged
        os.close(descriptor)
        raise


def find_lineage(path: Path) -> tuple[Identity, ...]:
    """Return the identities of a folder and all above it; () when it is not there."""
    try:
        pin = open_pin(path)
    except OSError:
        return ()
    pin.close()
    return pin.lineage


async def confirm_pins(pid: int, mounts: Iterable[Mount]) -> None:
    """Raise SandboxError unless every pinned mount of a held box is the very folder that was pinned."""
    for mount in mounts:
        if mount.descriptor is not None:
            await _confirm(pid, mount, mount.descriptor)


async def _confirm(pid: int, mount: Mount, descriptor: int) -> None:
    wanted, deadline = os.fstat(descriptor), time.monotonic() + MOUNTED_SECONDS
    while time.monotonic() < deadline:
        found = _look_inside(pid, mount.target)
        if found is not None and os.path.samestat(found, wanted):
            return
        if found is not None:
            raise SandboxError(f"The folder {mount.source} was replaced while a sandbox was being started.")
        await asyncio.sleep(LOOK_SECONDS)  # bubblewrap has told its pid and is still at its mounts
    raise SandboxError(f"It cannot be seen what was mounted for {mount.source}.")


def _look_inside(pid: int, target: str) -> os.stat_result | None:
    """Return what a box has at `target`; None while it has not left this machine's own root, or not got there."""
    inside = f"/proc/{pid}/root"
    try:
        if os.path.samestat(os.stat(f"{inside}/"), os.stat("/")):
            return None
    except PermissionError:  # for a moment, while it changes who it is
        return None
    except OSError:
        raise SandboxError("The sandbox ended while its folders were looked at.") from None
    try:
        return os.lstat(f"{inside}{target}")
    except OSError:
        return None


def _open_folder(path: Path) -> int:
    how = _OpenHow(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS)
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise OSError(errno.EINVAL, "the path holds a NUL", str(path))
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(SYS_OPENAT2, AT_FDCWD, ctypes.c_char_p(raw), ctypes.byref(how), ctypes.sizeof(how))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return result


def _walk_up(descriptor: int) -> Iterable[Identity]:
    """Yield the identity of a folder and of each above it, through mounts, to the root."""
    current = os.dup(descriptor)
    last: Identity | None = None
    try:
        for _ in range(DEEPEST):
            found = os.fstat(current)
            if not stat.S_ISDIR(found.st_mode) or (found.st_dev, found.st_ino) == last:
                return  # the root's `..` is the root
            last = (found.st_dev, found.st_ino)
            yield last
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = above
        raise OSError(errno.ELOOP, "too many folders above it")
    finally:
        os.close(current)
