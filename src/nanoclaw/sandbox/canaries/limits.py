"""Canaries of limits: run in a box of their own whose limits are small, each takes more than it may.

`processes`, `open_files` and `temporary_files` report like the others. `memory` and `disk` may end the box, which the
host sees: they say on stdout that they begin.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from typing import TypedDict

from nanoclaw.sandbox.canaries.probe import Reached

MIB = 1024 * 1024
SLACK = 2  # times the limit: so much is tried
DISK_FILE = "/workspace/.nanoclaw-canary"
TMP_FILE = "/tmp/.nanoclaw-canary"  # noqa: S108 - in the box
BEGUN = b"o"  # a bell of the runner (contract/mailbox.py): any runtime carries it to the host


class LimitsQuestion(TypedDict):
    """The limits of this box, and which of them are tried in it."""

    limits: list[str]
    memory_bytes: int
    processes: int
    open_files: int
    tmp_bytes: int
    disk_bytes: int


def processes(question: LimitsQuestion) -> str:
    """More processes than it may have. Where nobody else bounds them the runner does, as here."""
    most = question["processes"]
    if (made := _fork_until_refused(most * SLACK)) < most:
        return f"{made} were made"
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    if (made := _fork_until_refused(most * SLACK)) < most:
        return f"{made} were made, by the runner's own limit"
    raise Reached(f"{made} processes were made")


def _fork_until_refused(most: int) -> int:
    """Return how many processes could be made; they are gone afterwards."""
    children: list[int] = []
    try:
        while len(children) < most:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
    except OSError:
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)
    return len(children)


def open_files(question: LimitsQuestion) -> str:
    """More files than it may have open."""
    opened: list[int] = []
    try:
        while len(opened) < question["open_files"] * SLACK:
            opened.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return f"{len(opened)} were opened ({errno.errorcode.get(error.errno or 0, '')})"
    finally:
        for descriptor in opened:
            os.close(descriptor)
    raise Reached(f"{len(opened)} files were opened")


def temporary_files(question: LimitsQuestion) -> str:
    """More in /tmp than fits."""
    return _fill(TMP_FILE, question["tmp_bytes"])


def disk(question: LimitsQuestion) -> str:
    """More in its workspace than it may keep; a watched limit ends the box while this waits."""
    try:
        return _fill(DISK_FILE, question["disk_bytes"], keep=True)
    except Reached:
        os.write(sys.stdout.fileno(), BEGUN)
        sys.stdin.read()  # the host ends it, or closes this
        raise


def _fill(path: str, limit_bytes: int, *, keep: bool = False) -> str:
    written, block = 0, os.urandom(MIB)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while written < limit_bytes * SLACK:
            written += os.write(descriptor, block)
    except OSError as error:
        return f"full after {written // MIB} MB ({errno.errorcode.get(error.errno or 0, '')})"
    finally:
        os.close(descriptor)
        if not keep:
            os.unlink(path)
    raise Reached(f"{written // MIB} MB were written")


def memory(question: LimitsQuestion) -> str:
    """More memory than it may have: the kernel ends whoever takes it, the box or a process of it."""
    pid = os.fork()
    if pid == 0:
        try:
            taken = [b"\1" * MIB for _ in range(question["memory_bytes"] * SLACK // MIB)]
            os.write(sys.stdout.fileno(), BEGUN)
            sys.stdin.read()  # it keeps what it has taken until the host ends it, or closes this
            os._exit(0 if taken else 1)
        except MemoryError:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 0:
        raise Reached(f"{question['memory_bytes'] * SLACK // MIB} MB were taken")
    return "it was killed" if code == -signal.SIGKILL else "it was refused"


LIMITS = (processes, open_files, temporary_files, disk, memory)
