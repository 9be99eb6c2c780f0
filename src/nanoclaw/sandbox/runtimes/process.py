"""A box that is a child process of the host: its pipes, its end, and what is cleared away after it.

Everything is driven by the loop's readiness: three pipes and two pidfds (the monitor's and the box's first
process's). The box is over when both processes are gone; only then are cgroup, record and listeners given back.
What a box writes to its pipes is hostile: unknown bytes are ignored, equal bells merged, a flood only slows itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from nanoclaw.contract.mailbox import ALIVE, LOOK, OUT
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.cgroup import BoxCgroup
from nanoclaw.sandbox.runtimes.base import BoxExit, BoxLabel, BoxUsage, ExitReason, wait_then_kill
from nanoclaw.sandbox.wire import plain

CHUNK_BYTES = 4096
STDERR_BYTES = 16 * 1024
WINDOW_SECONDS = 0.1
READS_PER_WINDOW = 100
KILL_SECONDS = 10.0
UNKNOWN_SECONDS = 2.0
CGROUP_TRIES = 9  # 5 ms, doubled each time: 2.5 s in all
CGROUP_WAIT_SECONDS = 0.005
INFO_BYTES = 4096


class _Info(msgspec.Struct):
    """What bubblewrap tells on --info-fd; it tells more."""

    child: int = msgspec.field(name="child-pid")


@dataclass(frozen=True, slots=True)
class BoxPipes:
    """The host's ends of a box's pipes."""

    stdin: int
    stdout: int
    stderr: int
    info: int
    block: int


class Pipe:
    """One output pipe of a box, read as the loop says; a flood is read at most READS_PER_WINDOW times per window."""

    def __init__(self, descriptor: int, take: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._take = take
        self._reads = 0
        self._window_ends = 0.0
        self.is_open = True
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        now = self._loop.time()
        if now >= self._window_ends:
            self._reads, self._window_ends = 0, now + WINDOW_SECONDS
        self._reads += 1
        if self._reads > READS_PER_WINDOW:
            self._loop.remove_reader(self._descriptor)
            self._loop.call_at(self._window_ends, self._resume)
            return
        self._read_once()

    def _resume(self) -> None:
        if self.is_open:
            self._loop.add_reader(self._descriptor, self._read)

    def _read_once(self) -> bool:
        try:
            data = os.read(self._descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self._take(data)
        return True

    def drain(self) -> None:
        """Take what is left, once nobody can write any more."""
        while self.is_open and self._read_once():
            pass
        self.close()

    def close(self) -> None:
        """Stop reading; `take` hears of it as an empty chunk."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._take(b"")


class ProcessBox:
    """Implements `base.Box` over a Popen and the host's ends of its pipes, which it takes over."""

    def __init__(
        self,
        label: BoxLabel,
        process: subprocess.Popen[bytes],
        pipes: BoxPipes,
        cgroup: BoxCgroup,
        on_over: Callable[[ProcessBox], None],
    ) -> None:
        self.label = label
        self.pid = 0
        self.listeners: list[socket.socket] = []
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._block_fd: int | None = pipes.block
        self._cgroup = cgroup
        self._on_over = on_over
        self._exit: BoxExit | None = None
        self._is_over = asyncio.Event()
        self._reason: ExitReason | None = None
        self._rung: dict[bytes, None] = {}
        self._news = asyncio.Event()
        self._stderr = bytearray()
        self._info = bytearray()
        self._told = asyncio.Event()
        self._is_doomed = False
        self._tries = 0
        self._stdin: int | None = pipes.stdin
        os.set_blocking(pipes.stdin, False)
        self._out = Pipe(pipes.stdout, self._take_bells)
        self._err = Pipe(pipes.stderr, self._take_stderr)
        self._info_pipe = Pipe(pipes.info, self._take_info)
        self._handles: set[int] = set()
        self._watch(process.pid, self._see_monitor_gone)

    @property
    def stderr_tail(self) -> str:
        """The last 16 KiB of what it said on stderr, without anything a terminal obeys."""
        return "\n".join(map(plain, self._stderr.decode(errors="replace").split("\n")))

    @property
    def monitor_pid(self) -> int:
        """Pid of bubblewrap's own process, the host's child."""
        return self._process.pid

    async def identify(self) -> None:
        """Wait until bubblewrap has told the pid of the box's first process; SandboxError when it ends instead."""
        await self._told.wait()
        if self.pid == 0:
            await self.wait()
            raise SandboxError(f"The sandbox did not start: {self.stderr_tail.strip()[-500:]}")

    def release(self) -> None:
        """Let the command run."""
        if self._block_fd is not None:
            with suppress(BrokenPipeError):
                os.write(self._block_fd, b"\n")
            os.close(self._block_fd)
            self._block_fd = None

    async def measure(self) -> BoxUsage:
        """Return what its cgroups count."""
        return BoxUsage() if self._exit is not None else self._cgroup.measure()

    def ring(self) -> None:
        """Ring the runner's doorbell; a full pipe already holds bells enough."""
        if self._stdin is not None:
            with suppress(BlockingIOError, BrokenPipeError):
                os.write(self._stdin, LOOK)

    async def bells(self) -> AsyncIterator[bytes]:
        """Yield the runner's doorbells, equal ones merged; ends when the box is over (its init holds stdout)."""
        while self._rung or self._out.is_open:
            await self._news.wait()
            self._news.clear()
            rung, self._rung = self._rung, {}
            for bell in rung:
                yield bell

    async def wait(self) -> BoxExit:
        """Wait until every process of the box is gone."""
        await self._is_over.wait()
        return self._exit or self._result()

    async def stop(self, grace_seconds: float) -> BoxExit:
        """Close stdin, give it `grace_seconds`, kill; SandboxError when it cannot be seen to be gone."""
        if self._reason is None:
            self._reason = ExitReason.STOPPED
        self._close_stdin()
        grace_seconds = grace_seconds if self._block_fd is None else 0
        return await wait_then_kill(self, (grace_seconds, KILL_SECONDS), mend="Restart the machine.")

    def kill(self, reason: ExitReason = ExitReason.KILLED) -> None:
        """Kill the first process, and with it every process of the box, and the monitor.

        Before bubblewrap has told the first process's pid this waits for it up to UNKNOWN_SECONDS: until its release
        a first process does not yet die with its monitor (run), and nobody would know it.
        """
        if self._exit is not None:
            return
        self._reason = reason
        self._is_doomed = True
        if self._told.is_set():
            self._kill_all()
        else:
            self._loop.call_later(UNKNOWN_SECONDS, self._kill_all)

    def _kill_all(self) -> None:
        for handle in self._handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)

    def _watch(self, pid: int, see_gone: Callable[[int], None]) -> None:
        handle = os.pidfd_open(pid)
        self._handles.add(handle)
        self._loop.add_reader(handle, see_gone, handle)

    def _see_monitor_gone(self, handle: int) -> None:
        self._info_pipe.drain()  # may name the first process only now
        self._forget(handle)
        self._kill_all()  # a first process still held does not die with its monitor
        if not self._handles:
            self._clear_away()

    def _see_first_gone(self, handle: int) -> None:
        self._forget(handle)
        if self._handles:  # the monitor is about to tell the command's exit code
            self._loop.call_later(UNKNOWN_SECONDS, self._kill_all)
        else:
            self._clear_away()

    def _forget(self, handle: int) -> None:
        self._loop.remove_reader(handle)
        self._handles.discard(handle)
        os.close(handle)

    def _clear_away(self) -> None:
        if self._exit is None:
            self._process.wait()  # it is gone: this only reaps
            for pipe in (self._out, self._err):
                pipe.drain()
            self._exit = self._result()
            self._close_stdin()
            if self._block_fd is not None:
                os.close(self._block_fd)
                self._block_fd = None
            for listener in self.listeners:
                listener.close()
        if not self._cgroup.remove() and self._tries < CGROUP_TRIES:
            self._tries += 1
            self._cgroup.kill()  # one that neither of the two was an ancestor of any more
            self._loop.call_later(CGROUP_WAIT_SECONDS * 2**self._tries, self._clear_away)
            return
        self._on_over(self)
        self._is_over.set()

    def _result(self) -> BoxExit:
        code = self._process.returncode
        code = 128 - code if code < 0 else code
        kills = self._cgroup.out_of_memory_kills()
        reason = self._reason or ExitReason.EXITED
        if kills and code != 0 and reason in (ExitReason.EXITED, ExitReason.STOPPED):
            reason = ExitReason.MEMORY
        return BoxExit(code, reason, self.stderr_tail, kills)

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def _take_bells(self, data: bytes) -> None:
        for bell in (OUT, ALIVE):
            if bell in data:
                self._rung[bell] = None
        if self._rung or not data:
            self._news.set()

    def _take_stderr(self, data: bytes) -> None:
        self._stderr += data
        del self._stderr[:-STDERR_BYTES]

    def _take_info(self, data: bytes) -> None:
        self._info += data
        if self._told.is_set() or (data and not self._info.rstrip().endswith(b"}") and len(self._info) < INFO_BYTES):
            return
        with suppress(msgspec.MsgspecError, OSError):  # it ended before it told: `identify` says so
            pid = msgspec.json.decode(bytes(self._info), type=_Info).child
            self._watch(pid, self._see_first_gone)
            self.pid = pid
        self._told.set()
        if self._is_doomed:
            self._kill_all()
