"""The turn: rows in, pushes to the provider, its results out.

In: looks (doorbell or poll), the provider's events. Out: replies, notices, acks, state; an exit code.
Writes: outbound.db, through mailbox.Outbound; a result's replies and its finished acks are one transaction.
Never: answers a row without trigger by itself; finishes a row no result named; drops what the agent said.
Fails: the provider ends or hangs with rows taken, or gives up on the model: failed acks, exit 3, the host tries again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum

from nanoclaw.contract.message import ChatOut, OutKind, message_uuid, to_json
from nanoclaw.runner.answer import Answer, parse_answer
from nanoclaw.runner.mailbox import FAILED, FINISHED, TAKEN, Ack, Destination, Draft, Inbound, Outbound, Row, RunRow
from nanoclaw.runner.prompt import (
    agent_of,
    build_prompt,
    command_of,
    find_timezone,
    nudge,
    origin_of,
    unknown_destinations,
)
from nanoclaw.runner.providers.base import (
    Aborted,
    Activity,
    Began,
    Event,
    Exited,
    Failure,
    Init,
    Missing,
    Provider,
    Result,
    ToolClosed,
    ToolOpened,
)
from nanoclaw.runner.turn import OpenTool, Turn, Work, acks_for, decide_hang

POLL_SECONDS = 1.0
BUSY_TRIES = 30  # polls in a row that may fail to read inbound.db
INTERRUPT_SECONDS = 5.0  # between interrupt and kill
STOP_SECONDS = 3.0  # what a graceful stop leaves a turn to end by itself

WITHOUT = "MCP servers that did not start: {names}. The work goes on without their tools."
EXIT_DONE = 0
EXIT_FAILED = 3


class Signal(StrEnum):
    """What reaches the loop besides the provider's events."""

    LOOK = "look"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Ports:
    """What the loop speaks with, and its clock in seconds."""

    inbound: Inbound
    outbound: Outbound
    provider: Provider
    alive: Callable[[], None]  # tells the host that the agent lives
    log: Callable[[str], None]
    now: Callable[[], float]


class Loop:
    """Serves one run. Everything happens in `run`, one thing after the other; tools are called between."""

    def __init__(self, run: RunRow, ports: Ports) -> None:
        self._settings = run.settings
        self._ports = ports
        self._zone = find_timezone(run.settings.timezone)
        self._queue: asyncio.Queue[Signal | Event] = asyncio.Queue()
        self._turn = Turn(run.fence)
        self._last_seq = 0
        self._riding: list[Row] = []  # rows without trigger, until one with a trigger comes
        self._waiting: list[tuple[Row, ...]] = []  # groups for a provider that takes no push during a turn
        self._last_row: Row | None = None  # the one answered last
        self._known: tuple[Destination, ...] = ()
        self._unreadable = 0
        self._stop_at: float | None = None
        self._kill_at: float | None = None
        self._hang = ""
        self._exit_code: int | None = None
        self.on_look: Callable[[], None] = lambda: None  # whoever waits for the host's answers

    def signal(self, what: Signal) -> None:
        """Ring the loop; may be called from the event loop's callbacks."""
        self._queue.put_nowait(what)

    async def pump(self, events: AsyncIterator[Event]) -> None:
        """Feed the provider's events to the loop until its last one."""
        async for event in events:
            self._queue.put_nowait(event)

    async def run(self) -> int:
        """Serve until told to stop, the provider ends, or it fails. Returns the process's exit code."""
        self._look()
        while self._exit_code is None:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    item = await self._queue.get()
            except TimeoutError:
                item = Signal.LOOK
            match item:
                case Signal.LOOK:
                    self._look()
                case Signal.STOP:
                    self._begin_stop()
                case _:
                    self._on_event(item)
            self._watch()
        return self._exit_code

    def current_row(self) -> Row | None:
        """The row the agent works on, else the one it answered last."""
        work = self._turn.current()
        return work.rows[-1] if work is not None else self._last_row

    def places(self) -> tuple[Destination, ...]:
        """The places of now, or those known last when inbound.db cannot be read: an answer is not lost over it."""
        try:
            self._known = self._ports.inbound.read_destinations()
        except sqlite3.Error as error:
            self._ports.log(f"mailbox.failed error={str(error)!r}")
        return self._known

    def post(self, draft: Draft, *, said: bool) -> int:
        """Write a message in the middle of a turn; `said`: the turn has an answer. Returns its seq."""
        self._turn.sent = self._turn.sent or said
        return self._write([draft])[0]

    # -- rows ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._stop_at is not None:
            return
        try:
            rows = self._ports.inbound.read_after(self._last_seq)
        except sqlite3.Error as error:
            self._unreadable += 1  # each is followed by a poll
            if self._unreadable >= BUSY_TRIES:
                self._fail(f"inbound.db cannot be read: {error}")
            return
        self._unreadable = 0
        for row in rows:
            self._last_seq = row.seq
            if command_of(row):  # a push of its own: what rides along waits for the next message
                self._waiting.append((row,))
                continue
            self._riding.append(row)
            if row.trigger:
                self._waiting.append(tuple(self._riding))
                self._riding = []
        self._push_waiting()
        self.on_look()

    def _push_waiting(self) -> None:
        taken: list[Row] = []
        while self._waiting and self._may_push(self._waiting[0]):
            rows = self._waiting.pop(0)
            command = command_of(rows[-1])
            if command and command.split()[0] not in self._ports.provider.commands:
                self._refuse(rows, f"This agent does not know the command {command.split()[0]}.")
                continue
            try:
                prompt = command or build_prompt(rows, self._settings.timezone, self._zone)
            except (ValueError, KeyError, TypeError) as error:
                self._refuse(rows, f"This message could not be read: {error}")
                continue
            uuid = message_uuid(rows[-1].inbox_id, rows[-1].attempt)
            self._ports.provider.push(prompt, uuid)
            self._turn.push(Work(uuid, rows, command=command), self._ports.now())
            taken += rows
        if taken:
            acks = [Ack(row.seq, row.attempt, TAKEN) for row in taken]
            self._write(acks=acks, state=(("phase", "working"),))

    def _may_push(self, rows: tuple[Row, ...]) -> bool:
        """A command would be taken for words when it came in the middle of a turn, and so would words during one."""
        if self._turn.idle:
            return True
        commands = command_of(rows[-1]) or any(work.command for work in self._turn.open.values())
        return self._ports.provider.covers and not commands

    def _refuse(self, rows: tuple[Row, ...], words: str) -> None:
        acks = [Ack(row.seq, row.attempt, FINISHED) for row in rows]
        self._write([self._draft(ChatOut(words, notice=True), rows[-1].seq)], acks)

    # -- the provider -------------------------------------------------------------------------------------------

    def _on_event(self, event: Signal | Event) -> None:
        self._turn.event_at = self._ports.now()
        self._ports.alive()
        match event:
            case Init(continuation):
                self._write(state=(("continuation", continuation),))
            case Began(uuids):
                self._turn.started += uuids
            case Missing(servers):
                self._ports.log(f"runner.mcp_server_failed names={','.join(servers)}")
                self._tell(WITHOUT.format(names=", ".join(servers)))
            case ToolOpened(id, name):
                self._turn.tools[id] = OpenTool(name, self._ports.now())
                self._write(state=(("tool", name),))
            case ToolClosed(id):
                self._turn.tools.pop(id, None)
                self._write(state=(("tool", next((t.name for t in self._turn.tools.values()), "")),))
            case Result(text, covers):
                self._on_result(text, covers)
            case Failure():
                self._on_failure(event)
            case Aborted():
                self._on_aborted()
            case Exited(reason):
                self._on_exit(reason)
            case Activity() | Signal():
                pass

    def _tell(self, words: str) -> None:
        """Say something of the harness's own in the middle of a turn."""
        row = self.current_row()
        if row is not None and not agent_of(row):  # another agent would take it for its answer
            self._write([self._draft(ChatOut(words, notice=True), row.seq)])

    def _on_result(self, text: str, covers: tuple[str, ...]) -> None:
        known = self.places()
        names = frozenset(place.name for place in known)
        sent_by_tool, turn = self._turn.sent, self._turn.id
        works = self._turn.take(covers, self._ports.now())
        if not works:
            self._on_unasked(parse_answer(text, names), turn)
            return
        last = works[-1]
        self._last_row = last.rows[-1]
        answer = parse_answer(text, names, origin_of(last.rows[-1]))
        drafts = [self._draft(ChatOut(part.text, part.to), last.reply_to) for part in answer.parts]
        done = bool(drafts) or sent_by_tool or any(work.answered for work in works)
        if answer.unknown and not any(work.reported for work in works):
            names = tuple(sorted({part.to or "" for part in answer.unknown}))
            self._write(drafts, turn=turn)
            self._ask_again(works, unknown_destinations(names, known), reported=True, sent=bool(drafts) or sent_by_tool)
            return
        drafts += [self._misaddressed(part.to or "", part.text, last.reply_to) for part in answer.unknown]
        if not drafts and not done and last.command:
            drafts.append(self._draft(ChatOut(f"{last.command.split()[0]} is done."), last.reply_to))
        if not drafts and not done and not any(work.nudged for work in works):
            self._ask_again(works, nudge(), reported=False, sent=False)
            return
        self._finish(works, drafts, turn)

    def _on_unasked(self, answer: Answer, turn: str) -> None:
        """A result that answers no row: nothing may be lost, so its text goes where the last one went."""
        if self._last_row is None:
            self._ports.log(f"turn.unasked parts={len(answer.parts)}")
            return
        parts = [*answer.parts, *answer.unknown]
        if parts:
            self._write([self._draft(ChatOut(part.text), self._last_row.seq) for part in parts], turn=turn)

    def _ask_again(self, works: list[Work], words: str, *, reported: bool, sent: bool) -> None:
        """Push a follow-up of the harness; its result finishes the rows."""
        rows = tuple(row for work in works for row in work.rows)
        before = works[-1]
        uuid = message_uuid(f"{before.uuid}:{'report' if reported else 'nudge'}", before.rows[-1].attempt)
        work = Work(
            uuid,
            rows,
            answered=sent or any(w.answered for w in works),
            nudged=not reported or any(w.nudged for w in works),
            reported=reported or any(w.reported for w in works),
        )
        self._ports.provider.push(words, uuid)
        self._turn.push(work, self._ports.now())

    def _on_failure(self, failure: Failure) -> None:
        self._ports.log(f"turn.failed retryable={failure.retryable} words={failure.words!r}")
        if failure.retryable:
            self._fail(failure.words)
            return
        turn = self._turn.id
        works = self._turn.take(failure.covers or tuple(self._turn.open), self._ports.now())
        if works:
            drafts = [self._draft(ChatOut(failure.words, notice=True), works[-1].reply_to)]
            state = (("continuation", ""),) if failure.forget else ()
            self._finish(works, drafts, turn, state)
        if failure.forget:
            self._exit_code = EXIT_DONE

    def _on_aborted(self) -> None:
        if self._stop_at is not None:
            self._exit_code = EXIT_DONE
        else:
            self._fail(self._hang or "the turn was interrupted")

    def _on_exit(self, reason: str) -> None:
        if self._stop_at is not None:
            self._exit_code = EXIT_DONE
        else:
            self._fail(self._hang or reason)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _finish(
        self, works: list[Work], drafts: list[Draft], turn: str, state: tuple[tuple[str, str], ...] = ()
    ) -> None:
        phase = "idle" if self._turn.idle else "working"
        self._write(drafts, acks_for(works, FINISHED), (("phase", phase), ("tool", ""), *state), turn)
        self._ports.log(f"turn.finished turn={turn} rows={sum(len(w.rows) for w in works)} messages={len(drafts)}")
        if self._stop_at is not None and self._turn.idle:
            self._exit_code = EXIT_DONE
        self._push_waiting()

    def _fail(self, reason: str) -> None:
        works = list(self._turn.open.values())
        self._write(acks=acks_for(works, FAILED), state=(("phase", "idle"), ("tool", ""), ("failure", reason)))
        self._ports.log(f"run.failed rows={sum(len(w.rows) for w in works)} reason={reason!r}")
        self._turn.open.clear()
        self._exit_code = EXIT_FAILED

    def _begin_stop(self) -> None:
        if self._stop_at is not None:
            return
        if self._turn.idle:
            self._exit_code = EXIT_DONE
            return
        self._stop_at = self._ports.now() + STOP_SECONDS
        self._ports.provider.interrupt()

    def _watch(self) -> None:
        """The clock's rules: a stop that takes too long, a hang, the kill after an interrupt."""
        now = self._ports.now()
        if self._exit_code is not None:
            return
        if self._stop_at is not None:
            if now >= self._stop_at:
                self._exit_code = EXIT_DONE
            return
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._fail(self._hang)
            return
        hang = decide_hang(self._turn, self._settings, now)
        if hang is not None:
            self._ports.log(f"turn.hung reason={hang!r}")
            self._hang, self._kill_at = hang, now + INTERRUPT_SECONDS
            self._ports.provider.interrupt()

    # -- writing ------------------------------------------------------------------------------------------------

    def _draft(self, chat: ChatOut, reply_to: int | None) -> Draft:
        return Draft(OutKind.CHAT, to_json(chat), reply_to)

    def _misaddressed(self, name: str, text: str, reply_to: int) -> Draft:
        """Words for a place nobody knows, reported once already: they reach the chat rather than nobody."""
        return self._draft(ChatOut(f"(meant for {name!r}, a place I do not know)\n{text}"), reply_to)

    def _write(
        self,
        drafts: list[Draft] | None = None,
        acks: list[Ack] | None = None,
        state: tuple[tuple[str, str], ...] = (),
        turn: str | None = None,
    ) -> list[int]:
        return self._ports.outbound.write(turn or self._turn.id, drafts or (), acks or (), state)
