"""Drives the Claude CLI over its documented stream-json interface.

The process is started by `start.py` before the event loop exists; here its pipes are joined to the loop. A session that
cannot be resumed is replaced by a new one, once, and the agent is told; what was pushed is pushed again.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable

from nanoclaw.runner.prompt import new_conversation
from nanoclaw.runner.providers.base import Event, Exited
from nanoclaw.runner.providers.claude_stream import ClaudeStream, Hopeless, SessionGone

MAX_LINE_BYTES = 64 * 1024 * 1024
KILLED_SECONDS = 1.0

Agent = subprocess.Popen[bytes]


class Lines(asyncio.Protocol):
    """Cuts the CLI's stdout into lines and puts them in a queue; None at its end."""

    def __init__(self, lines: asyncio.Queue[bytes | None]) -> None:
        self._lines = lines
        self._rest = bytearray()

    def data_received(self, data: bytes) -> None:
        """Queue the whole lines; a line without end is an agent gone wrong."""
        self._rest += data
        if b"\n" in data:
            *whole, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
            for line in whole:
                self._lines.put_nowait(line)
        elif len(self._rest) > MAX_LINE_BYTES:
            self._lines.put_nowait(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The CLI closed its stdout."""
        self._lines.put_nowait(None)


class ClaudeProvider:
    """One CLI process, or its replacement when a session could not be resumed."""

    covers = True
    commands = frozenset({"/compact", "/context", "/cost"})  # of the original's, those this CLI knows in -p mode (run)

    def __init__(self, agent: Agent, resumed: bool, respawn: Callable[[], Agent]) -> None:
        self._agent = agent
        self._resumed = resumed
        self._respawn = respawn  # starts the CLI with a new conversation
        self._stream = ClaudeStream()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._stdin: asyncio.WriteTransport | None = None
        self._stdout: asyncio.BaseTransport | None = None
        self._unconfirmed: list[tuple[str, str]] = []  # pushes before the first init
        self._requests = 0

    async def start(self) -> None:
        """Join the process's pipes to the loop."""
        loop = asyncio.get_running_loop()
        self._lines = asyncio.Queue()
        lines = self._lines
        self._stdout, _ = await loop.connect_read_pipe(lambda: Lines(lines), self._agent.stdout)
        self._stdin, _ = await loop.connect_write_pipe(asyncio.Protocol, self._agent.stdin)

    def push(self, prompt: str, uuid: str) -> None:
        """Write one user message."""
        if not self._stream.seen_init:
            self._unconfirmed.append((prompt, uuid))
        message = {"role": "user", "content": prompt}
        self._write({"type": "user", "uuid": uuid, "session_id": "", "parent_tool_use_id": None, "message": message})

    def interrupt(self) -> None:
        """Send the interrupt control request; the turn then ends with an aborted result."""
        self._requests += 1
        request = {"subtype": "interrupt"}
        self._write({"type": "control_request", "request_id": f"interrupt-{self._requests}", "request": request})

    async def events(self) -> AsyncIterator[Event]:
        """Everything the CLI says, until its stdout ends."""
        while True:
            line = await self._lines.get()
            if line is None:
                if await self._replace():
                    continue
                break
            for reading in self._stream.read(line):
                match reading:
                    case Hopeless():
                        self.interrupt()
                    case SessionGone():
                        pass  # the CLI exits now; the end of its stdout is handled above
                    case _:
                        yield reading
            if self._stream.seen_init:
                self._unconfirmed.clear()
        yield Exited(f"the agent's CLI ended ({await self._end(0.5)})")

    async def close(self, grace_seconds: float) -> None:
        """Close its stdin, which ends it; then by force. Bounded by the grace and one second."""
        if self._stdin is not None:
            self._stdin.close()
        await self._end(grace_seconds)

    async def _replace(self) -> bool:
        """Start a new conversation when the CLI ended before it could resume the old one; once."""
        if not self._resumed or self._stream.seen_init:
            return False
        self._resumed = False
        await self._end(1.0)
        pushes, self._unconfirmed = self._unconfirmed, []
        self._agent = self._respawn()
        self._stream = ClaudeStream()
        await self.start()
        for index, (prompt, uuid) in enumerate(pushes):
            self.push(new_conversation() + prompt if index == 0 else prompt, uuid)
        return True

    def _write(self, message: dict[str, object]) -> None:
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n")

    async def _end(self, grace_seconds: float) -> str:
        """Wait for the process, kill its group after the grace; say how it ended."""
        if not await self._ended_within(grace_seconds):
            kill_group(self._agent.pid)
            await self._ended_within(KILLED_SECONDS)
        for transport in (self._stdin, self._stdout):
            if transport is not None:
                transport.close()
        code = self._agent.returncode
        if code is None:
            return "it did not die"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    async def _ended_within(self, seconds: float) -> bool:
        if self._agent.poll() is not None:
            return True
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        process = os.pidfd_open(self._agent.pid)
        loop.add_reader(process, ended.set)
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(process)
            os.close(process)
        return self._agent.poll() is not None


def kill_group(pid: int) -> None:
    """Kill a process and what it started in its session."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
