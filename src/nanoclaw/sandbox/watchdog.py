"""The disk limit of boxes: what bubblewrap cannot bound (security.md section 1.2, hole 6).

In: boxes with their writable folders. Out: a box over its limit is killed with reason `disk`; one that is close to it
is told about, once. A lenient watch lets a box that began over its limit live while it does not grow: it may be asked
to delete. A folder is walked only when its file system has lost, look by look, as much space as the box may still take,
and once a minute; between that a look costs one statvfs. A walk goes by descriptors (mounts.open_beneath), so a link or
a folder swapped under it leads nowhere; it counts blocks, not lengths, and files that a process holds open or mapped
after their name is gone.
Never: a walk on the loop's thread.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nanoclaw.clock import Clock
from nanoclaw.log import Log
from nanoclaw.sandbox.mounts import open_beneath
from nanoclaw.sandbox.runtimes.base import Box, BoxLabel, ExitReason

LOOK_SECONDS = 2.0
WALK_SECONDS = 60.0
MOST_ENTRIES = 1_000_000  # more than this is over any limit
MOST_WAITING_BYTES = 64 * 1024 * 1024  # of folders' names still to walk, all kept in memory
MOST_DESCRIPTORS = 100_000  # of one box; more than this is over any limit
MOST_PATH_BYTES = 4000  # openat2 takes no longer path; what lies deeper cannot be counted and is over any limit
CLOSE_PERCENT, AWAY_PERCENT = 90, 80  # told from there on; told again only after it was below that
SLACK, OVERHANG = 50, 5  # parts of the limit: what a box that begins over it may add, and how far over it may be at all
BLOCK = 512  # st_blocks' unit, whatever the file system's (stat(2))


@dataclass(slots=True)
class _Watched:
    """One box under watch: a walk is due when `lost`, what the file system lost since the last, is its `allowance`."""

    box: Box
    folders: tuple[Path, ...]
    limit_bytes: int
    allowance: int = 0
    lost: int = 0
    free: int = 0
    walked_at: float = float("-inf")
    lenient: bool = False
    image: Path | None = None  # a workspace that is a file system of its own: told about, kept by the kernel

    def note_free(self, free: int) -> None:
        """Count what the file system lost since the last look; what others gave back does not make up for it."""
        self.lost += max(0, self.free - free)
        self.free = free


def decide_ceiling(limit: int, used: int) -> int:
    """Return how much a box may take that began with `used`: over its limit a little more, so that it can tidy up."""
    return limit if used <= limit else min(used + limit // SLACK, limit + limit // OVERHANG)


def decide_walk(lost_bytes: int, allowance_bytes: int, idle_seconds: float) -> bool:
    """Whether a box could have gone over its limit since its last walk `idle_seconds` ago."""
    return lost_bytes >= allowance_bytes or idle_seconds >= WALK_SECONDS


@dataclass(frozen=True, slots=True)
class Usage:
    """What a walk found. `is_whole` is False when it was too much to count."""

    used_bytes: int
    is_whole: bool


def measure(folder: Path) -> Usage:
    """Return the space a folder takes; blocks about 1 s per 200,000 files."""
    try:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Usage(0, is_whole=True)
    try:
        return _measure(root)
    finally:
        os.close(root)


def _measure(root: int) -> Usage:
    used, entries, linked = 0, 0, set[int]()
    with closing(_walk(root)) as found_files:
        for path, found, waiting_bytes in found_files:
            entries += 1
            is_deep = len(os.fsencode(path)) > MOST_PATH_BYTES
            if is_deep or entries > MOST_ENTRIES or waiting_bytes > MOST_WAITING_BYTES:
                return Usage(used, is_whole=False)
            used += found.st_blocks * BLOCK if _is_first_seen(found, linked) else 0
    return Usage(used, is_whole=True)


def _walk(root: int) -> Generator[tuple[str, os.stat_result, int]]:
    """Yield every entry below a folder, with how many bytes of names wait to be walked."""
    waiting, waiting_bytes = ["."], 1
    while waiting:
        relative = waiting.pop()
        waiting_bytes -= len(relative)
        for name, found in _list(root, relative):
            path = f"{relative}/{name}"
            if stat.S_ISDIR(found.st_mode):
                waiting.append(path)
                waiting_bytes += len(path)
            yield path, found, waiting_bytes


def _is_first_seen(found: os.stat_result, linked: set[int]) -> bool:
    """Whether a file's space is not counted yet under another of its names."""
    if found.st_nlink == 1 or stat.S_ISDIR(found.st_mode):
        return True
    is_new = found.st_ino not in linked
    linked.add(found.st_ino)
    return is_new


def _list(root: int, relative: str) -> Generator[tuple[str, os.stat_result]]:
    """Yield the entries of one folder, one by one: it may hold millions. What vanished meanwhile counts nothing."""
    try:
        folder = _open_folder(root, relative)
    except OSError:
        return
    try:
        with os.scandir(folder) as entries:
            yield from ((entry.name, found) for entry in entries if (found := _stat_of(entry)) is not None)
    finally:
        os.close(folder)


def _stat_of(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def measure_unnamed(pid: int, device: int) -> Usage:
    """Return the space of files on `device` without a name that processes in the box of `pid` hold.

    Not seen: one that is only on its way in a socket, or mapped and closed where the host is not root. Blocks about
    1 ms per 100 processes and 3 us per descriptor.
    """
    sizes: dict[int, int] = {}
    for count, held in enumerate(_list_held(pid)):
        if count == MOST_DESCRIPTORS:
            return Usage(sum(sizes.values()), is_whole=False)
        with suppress(OSError):
            found = os.stat(held)
            if found.st_nlink == 0 and found.st_dev == device:
                sizes[found.st_ino] = found.st_blocks * BLOCK
    return Usage(sum(sizes.values()), is_whole=True)


def _list_held(pid: int) -> Iterator[str]:
    """Yield what the processes in the pid namespace of `pid` hold: paths in /proc of descriptors and mapped files."""
    namespace = _namespace_of(str(pid))
    if namespace is None:
        return  # the box is gone
    for process in filter(str.isdigit, os.listdir("/proc")):
        if _namespace_of(process) != namespace:
            continue
        for folder in (f"/proc/{process}/fd", f"/proc/{process}/map_files"):
            with suppress(OSError):  # it ended, or only root may look
                yield from (f"{folder}/{name}" for name in os.listdir(folder))


def _namespace_of(process: str) -> str | None:
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return None


def _open_folder(root: int, relative: str) -> int:
    """Open a folder to list it; one that the box closed to its own uid (and so to a host of the same) is opened up."""
    try:
        return open_beneath(root, relative, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        handle = open_beneath(root, relative, os.O_PATH | os.O_DIRECTORY)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)
    return open_beneath(root, relative, os.O_RDONLY | os.O_DIRECTORY)


class DiskNews(Protocol):
    """Hears how full a box's disk is: close to its limit, or over it, and then the box is being ended."""

    def __call__(self, label: BoxLabel, used: int, *, is_over: bool) -> None:
        """`used` in bytes."""
        ...


def nobody_hears(label: BoxLabel, used: int, *, is_over: bool) -> None:
    """Until somebody is told."""


class DiskWatchdog:
    """A service of the host: `run` until stopped; `watch` a box once it is released."""

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock = clock
        self._log = log
        self._watched: list[_Watched] = []
        self._told: set[Path] = set()  # workspaces that are close to their limit, and whose chat knows
        self.on_news: DiskNews = nobody_hears  # set by host.py

    def watch(
        self, box: Box, folders: Sequence[Path], limit_bytes: int, *, lenient: bool = False, image: Path | None = None
    ) -> None:
        """Keep `folders` together under `limit_bytes` until the box is forgotten."""
        self._watched.append(_Watched(box, tuple(folders), limit_bytes, lenient=lenient, image=image))

    def forget(self, box: Box) -> None:
        """Stop watching a box."""
        self._watched = [watched for watched in self._watched if watched.box is not box]

    async def run(self, stop: asyncio.Event) -> None:
        """Look every two seconds until `stop`."""
        while not stop.is_set():
            await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await stop.wait()

    async def look(self) -> None:
        """Walk what is due, and kill what is over its limit."""
        measured: dict[Path, Usage] = {}  # the boxes of a group share its workspace: one walk for all
        for watched in list(self._watched):
            now = self._clock.monotonic()
            if watched.image is not None:
                self._tell_when_close(watched, *_space_of(watched.image))
            watched.note_free(_free_bytes(watched.folders[0]))
            if not decide_walk(watched.lost, watched.allowance, now - watched.walked_at):
                continue
            is_first = watched.walked_at < 0
            watched.lost, watched.walked_at = 0, now
            for folder in watched.folders:
                if folder not in measured:
                    measured[folder] = await asyncio.to_thread(measure, folder)
            device = _device_of(watched.folders[0])
            unnamed = await asyncio.to_thread(measure_unnamed, watched.box.pid, device)
            usages = [*(measured[folder] for folder in watched.folders), unnamed]
            used = sum(usage.used_bytes for usage in usages)
            if is_first and watched.lenient:
                watched.limit_bytes = decide_ceiling(watched.limit_bytes, used)
            watched.allowance = watched.limit_bytes - used
            if watched.allowance < 0 or not all(usage.is_whole for usage in usages):
                self.forget(watched.box)
                self._log.warning("box.disk_exceeded", session=watched.box.label.session, used_bytes=used)
                self.on_news(watched.box.label, used, is_over=True)
                watched.box.kill(ExitReason.DISK)
            elif watched.image is None:
                self._tell_when_close(watched, used, watched.limit_bytes)

    def _tell_when_close(self, watched: _Watched, used: int, limit: int) -> None:
        """Tell at 90 % of the limit, once for a workspace."""
        workspace = watched.image or watched.folders[0]
        if used * 100 < limit * AWAY_PERCENT:
            self._told.discard(workspace)
        elif used * 100 >= limit * CLOSE_PERCENT and workspace not in self._told:
            self._told.add(workspace)
            self.on_news(watched.box.label, used, is_over=False)


def _device_of(folder: Path) -> int:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return -1  # no file lies on it


def _space_of(image: Path) -> tuple[int, int]:
    """Return how much of a mounted image is used, and how large it is."""
    try:
        found = os.statvfs(image)
    except OSError:
        return 0, 1  # gone: nothing to tell
    return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_blocks * found.f_frsize


def _free_bytes(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0  # gone, or not to be reached: its next walk says what is there
    return found.f_bfree * found.f_frsize
