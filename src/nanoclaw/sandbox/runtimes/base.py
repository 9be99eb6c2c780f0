"""What builds boxes: the protocol every runtime implements, and the words both sides of it use.

A box is started *held*: its namespaces and listeners exist, nothing of it runs until `release()`.
Doorbells (contract/mailbox.py) are hints; `bells()` may merge equal ones.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from nanoclaw.domain.group import Kernel
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.spec import SandboxSpec


class ExitReason(StrEnum):
    """Why a box is over."""

    EXITED = "exited"  # its command ended by itself
    STOPPED = "stopped"  # the host asked (`stop`) and it went within its grace
    KILLED = "killed"  # the host killed it
    MEMORY = "memory"  # the kernel killed in it for its memory limit, and it ended
    DISK = "disk"  # the watchdog killed it for its disk limit


@dataclass(frozen=True, slots=True)
class BoxLabel:
    """Whose box it is; `install` is this NanoClaw home's own id."""

    session: str
    fence: int
    install: str


@dataclass(frozen=True, slots=True)
class BoxExit:
    """How a box ended. `code` is the command's exit code, or 128 + signal; `stderr_tail` its last 16 KiB of stderr."""

    code: int
    reason: ExitReason
    stderr_tail: str
    out_of_memory_kills: int = 0


@dataclass(frozen=True, slots=True)
class BoxUsage:
    """What a box takes now, by the kernel's own count; None where nothing counts it."""

    memory_bytes: int | None = None
    processes: int | None = None
    cpu_seconds: float | None = None
    out_of_memory_kills: int | None = None  # since it began


class Hold(StrEnum):
    """By what a limit or a wall is kept."""

    KERNEL = "kernel"  # it cannot be passed
    WATCHED = "watched"  # it can be passed for a moment, then the box is ended
    NONE = "none"  # nothing keeps it here


@dataclass(frozen=True, slots=True)
class Capability:
    """One line of a runtime's table: what it keeps, by what, and in plain words how."""

    name: str
    hold: Hold
    how: str


class Box(Protocol):
    """One box, held until `release()`. All methods from the loop's thread."""

    @property
    def label(self) -> BoxLabel:
        """Whose it is."""
        ...

    @property
    def pid(self) -> int:
        """Pid, on the host, of the box's first process."""
        ...

    @property
    def listeners(self) -> list[socket.socket]:
        """The listeners on the box's loopback, in the order of `spec.ports`; the box closes them when it is over."""
        ...

    def release(self) -> None:
        """Let the command run."""
        ...

    async def measure(self) -> BoxUsage:
        """Return what the box takes now; empty once it is over."""
        ...

    def ring(self) -> None:
        """Ring the runner's doorbell; never blocks, never fails (a lost byte costs a poll)."""
        ...

    def bells(self) -> AsyncIterator[bytes]:
        """Yield the runner's doorbells, single bytes, equal ones merged; ends when the box is over. One reader."""
        ...

    async def wait(self) -> BoxExit:
        """Wait until every process of the box is gone; may be called often and by many."""
        ...

    async def stop(self, grace_seconds: float) -> BoxExit:
        """Close its stdin, wait up to `grace_seconds`, then kill; returns when every process is seen to be gone."""
        ...

    def kill(self, reason: ExitReason = ExitReason.KILLED) -> None:
        """Kill every process of the box at once; `wait` tells when they are gone."""
        ...


async def wait_then_kill(box: Box, seconds: tuple[float, float], mend: str) -> BoxExit:
    """Wait for a box that was asked to go: the first `seconds` for itself; killed then, the others to see it gone.

    Raises SandboxError with `mend` when it is not.
    """
    for_itself, to_be_gone = seconds
    try:
        async with asyncio.timeout(for_itself):
            return await box.wait()
    except TimeoutError:
        box.kill()
    except asyncio.CancelledError:
        box.kill()
        raise
    try:
        async with asyncio.timeout(to_be_gone):
            return await box.wait()
    except TimeoutError:
        raise SandboxError("A sandbox could not be ended.", mend=mend) from None


class Runtime(Protocol):
    """What builds boxes."""

    @property
    def name(self) -> str:
        """`bubblewrap`, `docker`, ..."""
        ...

    @property
    def kernel(self) -> Kernel:
        """Whose kernel its boxes run on."""
        ...

    def capabilities(self) -> tuple[Capability, ...]:
        """Return what it keeps on this machine, and by what. Does not block."""
        ...

    def check(self) -> None:
        """Raise SandboxError, with what mends it, when this machine cannot run boxes. Blocks up to 10 s."""
        ...

    def check_image(self, image: str) -> None:
        """Raise SandboxError when what boxes are made of is not here yet; '': the runtime's own. Blocks up to 10 s."""
        ...

    async def list_boxes(self, install: str) -> list[BoxLabel]:
        """Return the labels of the boxes of this install that are there now, an earlier host's too."""
        ...

    async def start(self, spec: SandboxSpec, label: BoxLabel) -> Box:
        """Start a held box; raises SandboxError, and then nothing of it is left."""
        ...

    async def end_orphans(self, install: str) -> int:
        """End boxes of this install that outlived their host; return how many."""
        ...

    async def close(self) -> None:
        """Kill what still runs and give back what the runtime holds."""
        ...
