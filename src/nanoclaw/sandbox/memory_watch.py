"""The memory limit of boxes where no cgroup keeps it: a normal user's host without a delegated one.

In: boxes with their limits. Out: a box over its limit is killed with reason `memory`. Twice a second what the processes
in its pid namespace have of their own is added up (RssAnon + RssShmem, which counts what forks share more than once);
only a sum over the limit is counted again exactly (Pss). RLIMIT_AS is no way: it counts addresses, of which
every JIT takes gigabytes. Files on the box's /tmp are memory too, and not seen: /tmp has a limit of its own.
Never: a look on the loop's thread; anything while no box is watched.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass

from nanoclaw.log import Log
from nanoclaw.sandbox.runtimes.base import Box, ExitReason

LOOK_SECONDS = 0.5
OWN = ("RssAnon:", "RssShmem:")
EXACT = ("Pss:",)


@dataclass(frozen=True, slots=True)
class _Watched:
    box: Box
    limit_bytes: int


class MemoryWatch:
    """A service of the host: `run` until stopped; `watch` a box that no cgroup bounds once it is released."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._watched: list[_Watched] = []

    def watch(self, box: Box, limit_bytes: int) -> None:
        """Keep a box under `limit_bytes` until it is forgotten."""
        self._watched.append(_Watched(box, limit_bytes))

    def forget(self, box: Box) -> None:
        """Stop watching a box; one that was not watched is no error."""
        self._watched = [watched for watched in self._watched if watched.box is not box]

    async def run(self, stop: asyncio.Event) -> None:
        """Look twice a second, while there is a box to watch, until `stop`."""
        while not stop.is_set():
            if self._watched:
                await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await stop.wait()

    async def look(self) -> None:
        """Kill what is over its limit. Reads 2 files for each process of this machine, 20 us each."""
        namespaces = await asyncio.to_thread(list_namespaces)
        for watched in list(self._watched):
            used = await asyncio.to_thread(measure_memory, watched.box.pid, namespaces, watched.limit_bytes)
            if used > watched.limit_bytes:
                self.forget(watched.box)
                self._log.warning("box.memory_exceeded", session=watched.box.label.session, used_bytes=used)
                watched.box.kill(ExitReason.MEMORY)


def list_namespaces() -> dict[str, list[str]]:
    """Return the processes that we may look into, by their pid namespace."""
    found: dict[str, list[str]] = {}
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it ended, or is somebody else's
            found.setdefault(os.readlink(f"/proc/{process}/ns/pid"), []).append(process)
    return found


def measure_memory(pid: int, namespaces: dict[str, list[str]], enough: int) -> int:
    """Return the memory of the processes in the pid namespace of `pid`, exactly once more than `enough` seems taken."""
    processes: list[str] = []
    with suppress(OSError):  # the box is gone
        processes = namespaces.get(os.readlink(f"/proc/{pid}/ns/pid"), [])
    used = sum(_read(process, "status", OWN) for process in processes)
    return used if used <= enough else sum(_read(process, "smaps_rollup", EXACT) for process in processes)


def _read(process: str, file: str, names: tuple[str, ...]) -> int:
    """Return the sum of some lines of a file of a process, in bytes; 0 when it is gone."""
    with suppress(OSError), open(f"/proc/{process}/{file}", encoding="ascii", errors="replace") as lines:
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))
    return 0
