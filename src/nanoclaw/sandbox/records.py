"""What the host started, on disk, so that a later host can end what outlived an earlier one.

One file per live box in a folder of this home. A process is known by pid, start time and boot, all read by the host
from /proc; nothing a box says is used, and another install's boxes are never in this folder.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from nanoclaw.errors import SandboxError

START_TIME_FIELD = 19  # of /proc/<pid>/stat, counted after the command's closing parenthesis (proc(5): field 22)
RECORD_BYTES = 64 * 1024


class ProcessMark(msgspec.Struct, frozen=True):
    """One process for all time: pids come back, start times (clock ticks since boot) do not."""

    pid: int
    started: int


class BoxRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A box that was started: its monitor and its first process."""

    install: str
    session: str
    fence: int
    boot: str
    processes: tuple[ProcessMark, ...]
    cgroups: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return what its files and cgroups are called."""
        return box_name(self.session, self.fence)


def box_name(session: str, fence: int) -> str:
    """Return the name under which a run's box is kept on disk and in cgroups."""
    return f"{session}-{fence}"


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def mark_of(pid: int) -> ProcessMark | None:
    """Return the mark of a live process, None when there is none."""
    try:
        after = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return ProcessMark(pid, int(after[START_TIME_FIELD]))


class BoxRecords:
    """The folder of records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: BoxRecord) -> None:
        """Keep a record until `remove`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{record.name}.json"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(path)

    def remove(self, session: str, fence: int) -> None:
        """Forget a box that is over."""
        (self._folder / f"{box_name(session, fence)}.json").unlink(missing_ok=True)

    def list_of(self, install: str) -> Iterator[BoxRecord]:
        """Yield what an install has started and not seen end; a torn record is dropped."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                record = msgspec.json.decode(path.read_bytes()[:RECORD_BYTES], type=BoxRecord)
            except (OSError, msgspec.MsgspecError):
                path.unlink(missing_ok=True)
                continue
            if record.install == install:
                yield record


def find_gone(handles: Iterable[int], seconds: float) -> list[int]:
    """Return the pidfds whose processes are gone; waits up to `seconds` for one. select knows none over 1023."""
    waiting = select.poll()
    for handle in handles:
        waiting.register(handle, select.POLLIN)
    return [handle for handle, _ in waiting.poll(seconds * 1000)]


def end_processes(marks: Iterable[ProcessMark], deadline_seconds: float) -> int:
    """Kill those that still live and wait until they are gone; return how many. Raises SandboxError when one stays."""
    handles = [handle for handle in (_open_marked(mark) for mark in marks) if handle is not None]
    try:
        dead = find_gone(handles, 0)  # nobody has reaped them yet
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        waiting, deadline = set(handles) - set(dead), time.monotonic() + deadline_seconds
        while waiting and (left := deadline - time.monotonic()) > 0:
            waiting -= set(find_gone(waiting, left))
        if waiting:
            raise SandboxError("A sandbox left by an earlier host cannot be ended.", mend="Restart the machine.")
    finally:
        for handle in handles:
            os.close(handle)
    return len(handles) - len(dead)


def _open_marked(mark: ProcessMark) -> int | None:
    """Return a pidfd of exactly the marked process, None when it is gone."""
    try:
        handle = os.pidfd_open(mark.pid)
    except OSError:
        return None
    if mark_of(mark.pid) != mark:
        os.close(handle)
        return None
    return handle
