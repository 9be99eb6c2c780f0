"""The runner's parts put together, and its life: doorbell, signs of life, signals, the end.

In: stdin, one byte a look, its end means stop; SIGTERM means stop. Out: stdout, `o` news and `h` alive; stderr, one
event a line for the operator. Never: waits for the host to read its doorbell.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from functools import partial
from typing import cast

from nanoclaw.contract.mailbox import ALIVE, OUT, OUTBOUND, OUTBOX
from nanoclaw.runner.desk import TurnDesk
from nanoclaw.runner.loop import EXIT_FAILED, Loop, Ports, Signal
from nanoclaw.runner.mailbox import Inbound, Outbound, RunRow
from nanoclaw.runner.mcp import ToolServer
from nanoclaw.runner.providers.base import Provider
from nanoclaw.runner.providers.claude import ClaudeProvider
from nanoclaw.runner.providers.claude_command import known_session
from nanoclaw.runner.providers.echo import EchoProvider
from nanoclaw.runner.start import EXIT_USAGE, Started, spawn_agent
from nanoclaw.runner.tools import build_tools, offer_ncl
from nanoclaw.runner.tools_self import self_tools

STDIN, STDOUT = 0, 1
BEAT_SECONDS = 15.0
ALIVE_AT_MOST_EVERY_SECONDS = 1.0
CLOSE_SECONDS = 2.0


class Doorbell:
    """The bytes on stdin and stdout. A byte the host does not read is lost; the poll behind it repairs that."""

    def __init__(self) -> None:
        self._rang_alive_at = 0.0
        os.set_blocking(STDOUT, False)

    def out(self) -> None:
        """Say that outbound.db has news."""
        self._ring(OUT)

    def alive(self) -> None:
        """Say that the agent lives; at most once a second."""
        now = time.monotonic()
        if now - self._rang_alive_at >= ALIVE_AT_MOST_EVERY_SECONDS:
            self._rang_alive_at = now
            self._ring(ALIVE)

    def _ring(self, byte: bytes) -> None:
        try:
            os.write(STDOUT, byte)
        except OSError:
            return  # full, or the host is gone: the end of stdin says that


def main(started: Started) -> int:
    """Serve the run; returns the exit code (0 ended, 2 not started, 3 the attempt failed)."""
    if started.recovered:
        return 0
    if started.run is None or started.tools_socket is None:
        return EXIT_USAGE
    try:
        return asyncio.run(serve(started, started.run))
    except Exception as error:  # boundary: whatever broke, the attempt failed and the host tries again
        kind, words = type(error).__name__, "; ".join(str(part) for part in causes(error))
        log(f"run.failed rows=? reason='{kind}: {words}'")
        return EXIT_FAILED


def causes(error: BaseException) -> list[BaseException]:
    """The errors inside a group, else the error itself."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for part in cast("BaseExceptionGroup[BaseException]", error).exceptions for cause in causes(part)]
    return [error]


async def serve(started: Started, run: RunRow) -> int:
    """Build the parts, run the loop to its end, close everything."""
    bell = Doorbell()
    provider = build_provider(started, run)
    inbound = Inbound(started.places.inside)
    outbound = Outbound(os.path.join(started.places.outside, OUTBOUND), run.settings.first_seq, bell.out)
    loop = Loop(run, Ports(inbound, outbound, provider, bell.alive, log, time.monotonic))
    outbox = os.path.join(started.places.outside, OUTBOX)
    desk = TurnDesk(loop, inbound, outbox, run.settings.workspace, time.monotonic)
    loop.on_look = desk.rung
    table = (*build_tools(desk, run.settings.tool_seconds), *self_tools(desk))
    tools = ToolServer(table, offer_ncl(desk) if run.settings.ncl else None)
    await provider.start()
    listen_to_host(loop)
    async with asyncio.TaskGroup() as group:
        pump = group.create_task(loop.pump(provider.events()))
        beat = group.create_task(beat_forever(bell))
        if started.tools_socket is not None:
            await tools.start(started.tools_socket)
        code = await loop.run()
        beat.cancel()
        await provider.close(CLOSE_SECONDS if code == 0 else 0.0)
        await tools.close()
        pump.cancel()
    outbound.close()
    return code


def build_provider(started: Started, run: RunRow) -> Provider:
    """The provider the settings name. Exits 2 for a name nobody knows."""
    if started.agent is not None and started.tools_socket is not None:
        port = started.tools_socket.getsockname()[1]
        respawn = partial(spawn_agent, run.settings, started.environment, port, None)
        return ClaudeProvider(started.agent, known_session(run.settings.continuation) is not None, respawn)
    if run.settings.provider == "echo":
        return EchoProvider(run.settings.continuation)
    log(f"runner.refused unknown provider {run.settings.provider!r}; known: claude, echo")
    sys.exit(EXIT_USAGE)


def listen_to_host(loop: Loop) -> None:
    """Turn bytes on stdin into looks, its end and SIGTERM into a stop."""
    running = asyncio.get_running_loop()

    def readable() -> None:
        data = os.read(STDIN, 4096)
        if not data:
            running.remove_reader(STDIN)
        loop.signal(Signal.LOOK if data else Signal.STOP)

    running.add_reader(STDIN, readable)
    running.add_signal_handler(signal.SIGTERM, loop.signal, Signal.STOP)


async def beat_forever(bell: Doorbell) -> None:
    """Renew the host's lease."""
    while True:
        bell.alive()
        await asyncio.sleep(BEAT_SECONDS)


def log(line: str) -> None:
    """One event for the operator."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
