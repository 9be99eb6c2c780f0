"""A box that is a container: its streams, its end, and what is cleared away after it.

In: what docker.py built, held. The host reads the attached connection itself: frames of the engine (8 bytes and a
payload) with the box's stdout and stderr. What a box writes is hostile: unknown bytes are ignored, equal bells merged,
a flood only slows itself. The end of the connection, or of the container's first process, leads to `bury`, in a thread.
Never: blocks the loop; believes the engine for longer than its time limit: where it does not answer, the host ends the
box's first process itself, and the container is removed when the engine is back.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.contract.mailbox import ALIVE, LOOK, OUT
from nanoclaw.sandbox.cgroup import BoxCgroup
from nanoclaw.sandbox.records import find_gone
from nanoclaw.sandbox.runtimes.base import BoxExit, BoxLabel, BoxUsage, ExitReason, wait_then_kill
from nanoclaw.sandbox.runtimes.docker_spec import GO
from nanoclaw.sandbox.runtimes.engine import Engine
from nanoclaw.sandbox.runtimes.engine_words import EngineError
from nanoclaw.sandbox.runtimes.process import STDERR_BYTES, Pipe
from nanoclaw.sandbox.wire import plain

HEADER_BYTES = 8
STDOUT, STDERR = 1, 2  # the first byte of a frame
KILLED_CODE = 128 + signal.SIGKILL
STREAM_SECONDS = 2.0  # for the last words of a box whose first process is gone
END_SECONDS = 3.0  # for the engine to have seen that a container has ended
PROCESS_SECONDS = 5.0
STOP_SECONDS = 30.0  # beyond the grace: all of the above, and then some
GONE = 404


@dataclass(frozen=True, slots=True)
class Built:
    """A started container whose command is held, and everything of the host's that belongs to it."""

    label: BoxLabel
    container: str
    pid: int
    handle: int | None  # pidfd of its first process, where that is a process of this machine
    stream: socket.socket
    rest: bytes
    listeners: list[socket.socket]
    folder: Path
    cgroup: BoxCgroup | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container ended. `is_lost`: the engine has not removed it yet."""

    code: int
    out_of_memory: bool = False
    words: str = ""
    is_lost: bool = False


class Frames:
    """Takes the engine's frames apart; keeps no payload."""

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self._take = take
        self._header = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Hand on what `data` holds of each stream."""
        while data:
            data = self._take_payload(data) if self._left else self._take_header(data)

    def _take_header(self, data: bytes) -> bytes:
        missing = HEADER_BYTES - len(self._header)
        self._header += data[:missing]
        if len(self._header) == HEADER_BYTES:
            self._stream, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
            self._header = b""
        return data[missing:]

    def _take_payload(self, data: bytes) -> bytes:
        part, rest = data[: self._left], data[self._left :]
        self._left -= len(part)
        self._take(self._stream, part)
        return rest


class DockerBox:
    """Implements `base.Box` over a built container, which it takes over."""

    def __init__(
        self,
        built: Built,
        engine: Engine,
        in_thread: Callable[[Callable[[], Ending | None]], asyncio.Future[Ending | None]],
        on_over: Callable[[DockerBox, bool], None],
    ) -> None:
        self.label = built.label
        self.pid = built.pid
        self.listeners = built.listeners
        self.built = built
        self._engine = engine
        self._in_thread = in_thread
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._exit: BoxExit | None = None
        self._is_over = asyncio.Event()
        self._is_burying = False
        self._is_released = False
        self._reason: ExitReason | None = None
        self._rung: dict[bytes, None] = {}
        self._news = asyncio.Event()
        self._stderr = bytearray()
        self._memory_kills = 0
        self._frames = Frames(self._take_part)
        self._frames.feed(built.rest)
        self._stream = built.stream
        self._reader = Pipe(os.dup(built.stream.fileno()), self._take)
        self._handle = built.handle
        if self._handle is not None:
            self._loop.add_reader(self._handle, self._see_first_gone)

    def __repr__(self) -> str:
        return f"DockerBox({self.label}, {self.built.container[:12]})"

    @property
    def container(self) -> str:
        """Return the engine's id of it."""
        return self.built.container

    @property
    def stderr_tail(self) -> str:
        """The last 16 KiB of what it said on stderr, without anything a terminal obeys."""
        return "\n".join(map(plain, self._stderr.decode(errors="replace").split("\n")))

    def release(self) -> None:
        """Let the command run."""
        if not self._is_released and self._reason is None and self._exit is None:
            self._is_released = True
            self._send(GO)

    async def measure(self) -> BoxUsage:
        """Return what its cgroups count, else what the engine does."""
        if self._exit is not None:
            return BoxUsage()
        if self.built.cgroup is not None:
            return self.built.cgroup.measure()
        with suppress(EngineError):
            return await asyncio.to_thread(self._engine.usage, self.container)
        return BoxUsage()

    def ring(self) -> None:
        """Ring the runner's doorbell; a full connection already holds bells enough."""
        if self._is_released and self._exit is None:
            self._send(LOOK)

    async def bells(self) -> AsyncIterator[bytes]:
        """Yield the runner's doorbells, equal ones merged; ends when the box is over."""
        while self._rung or self._reader.is_open:
            await self._news.wait()
            self._news.clear()
            rung, self._rung = self._rung, {}
            for bell in rung:
                yield bell

    async def wait(self) -> BoxExit:
        """Wait until every process of the box is gone."""
        await self._is_over.wait()
        return self._exit or BoxExit(KILLED_CODE, ExitReason.KILLED, "")

    async def stop(self, grace_seconds: float) -> BoxExit:
        """End its stdin, give it `grace_seconds`, kill; SandboxError when it cannot be seen to be gone."""
        if self._reason is None:
            self._reason = ExitReason.STOPPED
        self._hang_up()
        return await wait_then_kill(self, (grace_seconds, STOP_SECONDS), mend="Restart the container engine.")

    def kill(self, reason: ExitReason = ExitReason.KILLED) -> None:
        """Kill the first process, and with it every process of the box: at once here, and through the engine."""
        if self._exit is not None:
            return
        self._reason = reason
        if self._handle is not None:
            with suppress(OSError):  # gone, or another user's: the engine may
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if not self._is_burying:
            self._in_thread(self._kill_by_engine).add_done_callback(self._see_killed)

    def _kill_by_engine(self) -> Ending | None:
        try:
            self._engine.kill(self.container, END_SECONDS)
        except EngineError as error:
            return Ending(KILLED_CODE, words=str(error), is_lost=True)
        return None

    def _see_killed(self, done: asyncio.Future[Ending | None]) -> None:
        if not done.cancelled() and done.exception() is None and done.result() is not None:
            self._bury()  # the engine does not hear us: nor will its connection tell the end

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # full, or over
            self._stream.send(data)

    def _hang_up(self) -> None:
        with suppress(OSError):
            self._stream.shutdown(socket.SHUT_WR)

    def _see_first_gone(self) -> None:
        if self._handle is not None:
            self._loop.remove_reader(self._handle)
        if self.built.cgroup is not None:  # gVisor's end by memory is not told by the engine (run); its cgroup is next
            self._memory_kills = self.built.cgroup.out_of_memory_kills()
        self._loop.call_later(STREAM_SECONDS, self._bury)  # sooner, when its connection ends

    def _take(self, data: bytes) -> None:
        self._frames.feed(data)
        if not data:
            self._news.set()
            self._bury()

    def _take_part(self, stream: int, data: bytes) -> None:
        if stream == STDERR:
            self._stderr += data
            del self._stderr[:-STDERR_BYTES]
        elif stream == STDOUT:
            for bell in (OUT, ALIVE):
                if bell in data:
                    self._rung[bell] = None
            if self._rung:
                self._news.set()

    def _bury(self) -> None:
        if not self._is_burying:
            self._is_burying = True
            self._in_thread(lambda: bury(self._engine, self.built)).add_done_callback(self._settle)

    def _settle(self, done: asyncio.Future[Ending | None]) -> None:
        ending = None if done.cancelled() or done.exception() is not None else done.result()
        ending = ending or Ending(KILLED_CODE, words="Its end could not be seen.", is_lost=True)
        self._reader.drain()
        self._stream.close()
        if self._handle is not None:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None
        for listener in self.listeners:
            listener.close()
        self._exit = self._result(ending)
        self._news.set()
        self._on_over(self, ending.is_lost)
        self._is_over.set()

    def _result(self, ending: Ending) -> BoxExit:
        reason = self._reason or (ExitReason.KILLED if ending.words else ExitReason.EXITED)
        kills = max(self._memory_kills, int(ending.out_of_memory))
        if kills and ending.code != 0 and reason in (ExitReason.EXITED, ExitReason.STOPPED):
            reason = ExitReason.MEMORY
        tail = "\n".join(part for part in (self.stderr_tail, ending.words) if part)
        return BoxExit(ending.code, reason, tail, kills)


def bury(engine: Engine, built: Built) -> Ending:
    """See that a container is over, end it when it is not, remove it. Blocks up to 25 s; never fails."""
    try:
        ending = _end_by_engine(engine, built.container)
    except EngineError as error:
        words = "Somebody removed its container." if error.status == GONE else f"{error} {error.mend}".strip()
        _end_process(built.handle)
        ending = Ending(KILLED_CODE, words=words, is_lost=error.status != GONE)
    shutil.rmtree(built.folder, ignore_errors=True)
    return ending


def _end_by_engine(engine: Engine, container: str) -> Ending:
    try:
        engine.wait(container, END_SECONDS)
    except EngineError as error:
        if error.status == GONE:
            raise
        engine.kill(container, END_SECONDS)
        engine.wait(container, END_SECONDS)
    state = engine.inspect(container, END_SECONDS).state
    try:
        engine.remove(container, PROCESS_SECONDS)
    except EngineError:
        return Ending(state.exit_code, state.out_of_memory, is_lost=True)
    return Ending(state.exit_code, state.out_of_memory)


def _end_process(handle: int | None) -> None:
    """Kill a container's first process without the engine, and wait until it is gone."""
    if handle is not None:
        with suppress(OSError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        find_gone([handle], PROCESS_SECONDS)
