"""A runtime whose boxes run in this process: a real mailbox on disk, an agent that follows a script.

`runtime.script.replies("hello")` says what the agent does with the next rows it takes; `runtime.script_for("family")`
does so for one chat (by the name of its destination). With no act left it repeats what it was told. An act is any
`async def act(turn: BoxTurn) -> None`, so a test can misbehave in ways that nobody thought of here.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanoclaw.contract.mailbox import ALIVE, IN_DIRECTORY, OUT, OUT_DIRECTORY, OUTBOUND
from nanoclaw.contract.message import ChatIn, ChatOut, OutKind, chat_from_json, to_json
from nanoclaw.contract.request import AgentRequest
from nanoclaw.runner.mailbox import FAILED, FINISHED, TAKEN, Ack, Draft, Inbound, Outbound, Row, recover
from nanoclaw.sandbox.runtimes.base import BoxExit, BoxLabel, BoxUsage, ExitReason
from nanoclaw.sandbox.spec import SandboxSpec

RUNNER_FAILED = 3
SpawnBox = Callable[[Coroutine[Any, Any, None], str], None]


class BoxGone(Exception):
    """Raised in an act to end its box, with this exit."""

    def __init__(self, exit_: BoxExit) -> None:
        super().__init__(exit_.reason)
        self.exit = exit_


class Script:
    """What an agent does with the next rows it takes, one act for each time it takes some."""

    def __init__(self) -> None:
        self._acts: deque[Act] = deque()

    def then(self, act: Act) -> None:
        """Add any act."""
        self._acts.append(act)

    def next(self) -> Act | None:
        """Return the next act and forget it."""
        return self._acts.popleft() if self._acts else None

    def replies(self, *texts: str, to: str | None = None) -> None:
        """Answer and finish."""

        async def act(turn: BoxTurn) -> None:
            turn.finish(*texts, to=to)

        self.then(act)

    def ends_silently(self) -> None:
        """Finish without a word."""
        self.replies()

    def fails(self, reason: str = "the provider gave up") -> None:
        """Say that the attempt failed, and exit as the runner does."""

        async def act(turn: BoxTurn) -> None:
            turn.write(acks=FAILED)
            turn.exit(RUNNER_FAILED, reason)

        self.then(act)

    def dies(self, code: int = 1, words: str = "", reason: ExitReason = ExitReason.EXITED) -> None:
        """End the box with rows taken."""

        async def act(turn: BoxTurn) -> None:
            turn.exit(code, words, reason)

        self.then(act)

    def hangs(self) -> None:
        """Do nothing until the box is ended."""

        async def act(turn: BoxTurn) -> None:
            await turn.wait(asyncio.Event())

        self.then(act)

    def sends_then(self, text: str, act: Act) -> None:
        """Use the `send_message` tool, then do `act`."""

        async def both(turn: BoxTurn) -> None:
            turn.send(text)
            await act(turn)

        self.then(both)


class BoxTurn:
    """The rows an agent has taken, and what it may do about them."""

    def __init__(self, box: ScriptedBox, rows: list[Row]) -> None:
        self.box = box
        self.rows = rows

    @property
    def texts(self) -> list[str]:
        """What the rows that trigger say."""
        return [chat.text for row, chat in self.chats if row.trigger]

    @property
    def chats(self) -> list[tuple[Row, ChatIn]]:
        """The chat rows, typed."""
        return [(row, chat_from_json(row.content)) for row in self.rows if row.kind == "chat"]

    async def wait(self, event: asyncio.Event) -> None:
        """Wait for the test, as an agent that works or hangs."""
        self.box.at_rest = True
        await event.wait()
        self.box.at_rest = False

    async def more(self) -> None:
        """Wait for follow-ups and take them into this turn."""
        self.rows += await self.box.take()

    def send(self, text: str, to: str | None = None, reply_to: int | None = None) -> None:
        """Send a message now, in the middle of the turn."""
        self.write([self.draft(text, to, reply_to)])

    def ask(self, action: str, arguments: str = "{}") -> None:
        """Ask something of the host."""
        self.write([Draft(OutKind.REQUEST, AgentRequest(action, arguments).to_json(), self.rows[-1].seq)])

    def finish(self, *texts: str, to: str | None = None, notice: bool = False) -> None:
        """Write the replies and the finished acks of all rows taken, in one transaction."""
        self.write([self.draft(text, to, notice=notice) for text in texts], FINISHED)
        self.box.number += 1

    def draft(self, text: str, to: str | None = None, reply_to: int | None = None, *, notice: bool = False) -> Draft:
        """Return a message that answers the last row taken, or the row `reply_to`."""
        answered = self.rows[-1].seq if reply_to is None else reply_to
        return Draft(OutKind.CHAT, to_json(ChatOut(text, to, notice)), answered)

    def write(self, drafts: list[Draft] | None = None, acks: str = "", **state: str) -> None:
        """Commit messages, one ack for each row taken, and state; ring the host."""
        told = [Ack(row.seq, row.attempt, acks) for row in self.rows] if acks else []
        self.box.outbound.write(self.box.turn_id, drafts or [], told, list(state.items()))

    def exit(self, code: int, words: str = "", reason: ExitReason = ExitReason.EXITED) -> None:
        """End the box."""
        raise BoxGone(BoxExit(code, reason, words))


Act = Callable[[BoxTurn], Awaitable[None]]


class ScriptedBox:
    """One box (runtimes/base.Box): takes rows at each doorbell and plays its script."""

    def __init__(self, spec: SandboxSpec, label: BoxLabel, pid: int, choose: Callable[[list[Row]], Act]) -> None:
        self.spec = spec
        self.number = 1
        self.seen: list[Row] = []
        self.released = False
        self.at_rest = False  # waits: for a doorbell with nothing unread, or for the test
        self.muted = False  # its doorbells are lost
        self.stop_asked = False
        self.stubborn = False  # will not go when it is asked to
        self._label = label
        self._pid = pid
        self._choose = choose
        self._look = asyncio.Event()
        self._bells: asyncio.Queue[bytes] = asyncio.Queue()
        self._killed = asyncio.Event()
        self._exit: BoxExit | None = None
        self._gone = asyncio.Event()
        self._listeners: list[socket.socket] = []
        self._outbound: Outbound | None = None
        self.held: list[sqlite3.Connection] = []  # closed with the box, as the kernel drops a dead process's locks

    @property
    def label(self) -> BoxLabel:
        """Whose it is."""
        return self._label

    @property
    def pid(self) -> int:
        """A number that looks like one."""
        return self._pid

    @property
    def listeners(self) -> list[socket.socket]:
        """Real ones, on the loopback of this machine; nothing in here calls a model."""
        return self._listeners

    @property
    def in_directory(self) -> Path:
        """Where `inbound.db` lies on the host, as the spec says."""
        return _source_of(self.spec, IN_DIRECTORY)

    @property
    def outbound_db(self) -> Path:
        """Where `outbound.db` lies on the host, as the spec says."""
        return _source_of(self.spec, f"{OUT_DIRECTORY}/{OUTBOUND}")

    @property
    def outbound(self) -> Outbound:
        """The runner's own writer of `outbound.db`."""
        if self._outbound is None:
            run = Inbound(str(self.in_directory)).read_run()
            self._outbound = Outbound(str(self.outbound_db), run.settings.first_seq, lambda: self.bell(OUT))
        return self._outbound

    @property
    def turn_id(self) -> str:
        """The turn's name: fence and number."""
        return f"{self._label.fence}-{self.number}"

    @property
    def is_gone(self) -> bool:
        """Whether it is over."""
        return self._gone.is_set()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way in it: it is gone, or it waits and every doorbell was heard."""
        return self.is_gone or (self.at_rest and self._bells.empty())

    def release(self) -> None:
        """Let the agent work."""
        self.released = True
        self._look.set()

    async def measure(self) -> BoxUsage:
        """Nothing counts it."""
        return BoxUsage()

    def ring(self) -> None:
        """Ring the runner's doorbell."""
        if self.released:  # a held box hears nothing
            self.at_rest = False
            self._look.set()

    def bell(self, byte: bytes) -> None:
        """Ring the host's doorbell."""
        if not self.muted or not byte:
            self._bells.put_nowait(byte)

    async def bells(self) -> AsyncIterator[bytes]:
        """Yield the runner's doorbells; ends with the box."""
        while (byte := await self._bells.get()) != b"":
            yield byte
        self._bells.put_nowait(b"")  # for whoever listens again

    async def wait(self) -> BoxExit:
        """Wait until the box is gone."""
        await self._gone.wait()
        return self._exit or BoxExit(0, ExitReason.EXITED, "")

    async def stop(self, grace_seconds: float) -> BoxExit:
        """Ask it to go: it interrupts what it does and goes at once, unless it is stubborn."""
        self.stop_asked = True
        if not self.stubborn:
            self._end(BoxExit(0, ExitReason.STOPPED, ""))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        self.kill()
        return await self.wait()

    def kill(self, reason: ExitReason = ExitReason.KILLED) -> None:
        """Kill it."""
        self._end(BoxExit(137, reason, ""))

    def _end(self, exit_: BoxExit) -> None:
        if self._exit is None:
            self._exit = exit_
        self._killed.set()

    async def hear(self) -> None:
        """Wait for the next doorbell."""
        self._look.clear()
        self.at_rest = True
        await self._look.wait()

    async def take(self) -> list[Row]:
        """Wait for rows not seen yet, up to the last one that triggers, and take them; as the runner does."""
        inbound = Inbound(str(self.in_directory))
        while True:
            rows = list(inbound.read_after(self.seen[-1].seq if self.seen else 0))
            while rows and not rows[-1].trigger:
                rows.pop()
            if rows:
                break
            await self.hear()
        self.at_rest = False
        self.seen += rows
        self.outbound.write(self.turn_id, (), [Ack(row.seq, row.attempt, TAKEN) for row in rows])
        return rows

    async def live(self) -> None:
        """Be the box's processes, until killed or gone by itself."""
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in self.spec.ports]
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._work())
                killed = group.create_task(self._killed.wait())
                await asyncio.wait((work, killed), return_when=asyncio.FIRST_COMPLETED)
                work.cancel()
                killed.cancel()
        finally:
            if self._outbound is not None:
                self._outbound.close()
            for resource in (*self.held, *self._listeners):
                resource.close()
            self._gone.set()
            self.bell(b"")

    async def _work(self) -> None:
        await self._look.wait()
        try:
            if self.spec.command[-1] == "--recover":
                recover(str(self.outbound_db))
                return
            self.bell(ALIVE)
            while True:
                rows = await self.take()
                await self._choose(rows)(BoxTurn(self, rows))
        except BoxGone as gone:
            self._end(gone.exit)


def _source_of(spec: SandboxSpec, target: str) -> Path:
    return next(mount.source for mount in spec.mounts if mount.target == target)
