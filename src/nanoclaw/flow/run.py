"""5d, 7a run: keeps the live runs: starts them, hears their doorbells, reads their mailboxes, ends them.

In: sessions to start; doorbells; the end of a box.
Out: collected rows (stage 7) and their aftermath.
Writes: through start, collect and end.
Never: has two runs of a session; lets one broken box stop the host.
Fails: AgentFault ends that run with the chat told; SandboxError ends the start; StoreFull is tried again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress

from nanoclaw.contract.mailbox import ALIVE, OUT
from nanoclaw.contract.message import SystemIn, to_json
from nanoclaw.domain.limits import describe_disk, describe_memory
from nanoclaw.domain.session import RunEnd, SessionId
from nanoclaw.errors import AgentFault, MailboxBusy, SandboxError, StaleClaim, StoreFull
from nanoclaw.flow.aftermath import Aftermath, AnswerTo
from nanoclaw.flow.collect import Collect, Collected, RunKey
from nanoclaw.flow.end import EndedRun, Ender, remove_leftovers
from nanoclaw.flow.files import files_from_json, remove_files, remove_unreferenced, take_files
from nanoclaw.flow.live import LiveRun, LiveRuns
from nanoclaw.flow.means import Means
from nanoclaw.flow.requests import tell_agent
from nanoclaw.flow.seats import Seats
from nanoclaw.flow.start import Starter, StartPlan
from nanoclaw.gateway.client import GatewayClient
from nanoclaw.sandbox.inbound import DestinationRow
from nanoclaw.sandbox.mailbox import Mailbox
from nanoclaw.sandbox.runtimes.base import BoxExit, BoxLabel, ExitReason

BUSY_SECONDS = 30.0  # a lock on outbound.db held this long is a fault (architecture section 6)
FULL_SECONDS = 1.0  # between two tries to write on a full disk what must be written
RENEW_GRACE_SECONDS = 3.0
RUNNER_FAILED = 3  # the runner's exit code when its provider failed and it has said so in its acks


class RunKeeper:
    """The live runs and everything that happens to them."""

    def __init__(
        self,
        means: Means,
        live: LiveRuns,
        starter: Starter,
        collect: Collect,
        ender: Ender,
        gateway: GatewayClient,
        seats: Seats,
        *,
        changed: Callable[[str], None],
        typing: Callable[[str, bool], None],
    ) -> None:
        self._means = means
        self._live = live
        self._starter = starter
        self._collect = collect
        self._ender = ender
        self._gateway = gateway
        self._seats = seats
        self._changed = changed
        self._typing = typing
        self._unwanted: dict[SessionId, RunEnd] = {}  # to be ended as soon as they have started
        # set by host.py: the stages need each other
        self.wake: Callable[[SessionId], None] = lambda session: None
        self.tell: Callable[[str, str], None] = lambda session, words: None
        self.carry: Callable[[Aftermath], None] = lambda after: None

    async def start(self, session: SessionId) -> None:
        """Start a run for a session that has none, when something is due and it has a seat or gets one."""
        self._unwanted.pop(session, None)
        wanted = await self._starter.want(session)
        if wanted is None:
            self._seats.leave(session)
        elif self._seats.take(wanted):
            try:
                await self._start(session)
            finally:
                if self._live.find(session) is None:  # else its seat is given back when it is over
                    self._seats.leave(session)
        else:
            self._make_room()

    async def _start(self, session: SessionId) -> None:
        plan = await self._starter.plan(session)
        if plan is None:
            return
        log = self._means.log.bind(session=session, run=plan.fence)
        began = self._means.clock.monotonic()
        try:
            run = await self._starter.start(plan)
        except (SandboxError, OSError, sqlite3.Error, StoreFull) as error:  # sqlite3: the mailbox on a full disk
            mend = error.mend if isinstance(error, SandboxError) else ""
            log.error("run.start_failed", error=str(error), mend=mend)
            await self._end_unstarted(plan, f"{error} {mend}".strip())
            return
        self._live.add(run)
        if (end := self._unwanted.pop(session, None)) is not None:
            self.end_soon(run, end, "")
        took = int((self._means.clock.monotonic() - began) * 1000)
        log.info("run.started", rows=len(plan.claimed.rows), took_ms=took)
        self._means.spawn(self._serve(run), f"run {session}")
        if run.chat:
            self._typing(run.chat, True)
        now = self._means.clock.now_ms()
        await self._means.store.write(
            lambda connection: self._means.tables.sessions.set_running(connection, session, plan.fence, now, run.proof)
        )

    async def collect(self, run: LiveRun) -> None:
        """Read a run's outbound.db and apply it; a fault ends the run."""
        async with run.collecting:
            try:
                await self._collect_all(run)
                run.busy_since = None
            except MailboxBusy as busy:
                self._note_busy(run, busy)
            except StaleClaim:
                self.end_soon(run, RunEnd.STOPPED, "another run took over")
            except StoreFull as error:
                run.seen_version = (0, 0)  # the sweep looks again
                self._means.log.warning("store.filled", error=str(error))
            except (AgentFault, OSError) as fault:  # OSError: the disk below this one file
                self.end_soon(run, RunEnd.FAULT, str(fault))

    def end_soon(self, run: LiveRun, end: RunEnd, detail: str) -> None:
        """Kill a run's box; its serving task does the rest. The first reason given stands."""
        if run.ending is None:
            run.ending, run.detail = end, detail
            run.box.kill()

    async def stop(self, run: LiveRun, end: RunEnd, grace_seconds: float) -> None:
        """Ask a run's box to go, kill it after `grace_seconds`; returns when the run is over.

        A box that cannot be ended keeps its session: a second one would work beside it in the same folders.
        """
        if run.ending is None:
            run.ending = end
            await self._note_stopping(run)
            try:
                await run.box.stop(grace_seconds)
            except SandboxError as error:
                self._means.log.error("box.stuck", session=run.session, run=run.fence, error=str(error))
        await run.over.wait()

    def end_now(self, session: SessionId, end: RunEnd) -> None:
        """End a session's run at once, tools included, also one that is being started."""
        run = self._live.find(session)
        if run is not None:
            self.end_soon(run, end, "")
        else:
            self._unwanted[session] = end

    def answer(self, answer: AnswerTo) -> None:
        """Give an answer to an agent that waits for it; one whose run is over waits no more."""
        run = self._live.find(SessionId(answer.session))
        if run is not None and run.fence == answer.fence and run.ending is None:
            self._means.spawn(self._answer(run, answer), f"answer {run.session}")

    def refresh(self, group: str) -> None:
        """Tell the live runs of an agent group where it may send now."""
        for run in self._live:
            if run.group.id == group and run.ending is None:
                self._means.spawn(self._refresh(run), f"refresh {run.session}")

    def renew(self, group: str) -> None:
        """End the live runs of an agent group that is set up anew, each when it has answered what it holds."""
        for run in self._live:
            if run.group.id == group and run.ending is None:
                run.outdated = True
                self._end_outdated(run)

    def hear_disk(self, label: BoxLabel, used: int, *, is_over: bool) -> None:
        """A box's files are close to its limit: its chat is told. Over it, the end of its run says so."""
        run = self._live.find(SessionId(label.session))
        if run is None or run.fence != label.fence:
            return
        words = describe_disk(used, run.limits, run.group.folder)
        if is_over:
            run.detail = run.detail or words
        else:
            self.tell(run.session, words[0].upper() + words[1:])

    async def recover(self) -> None:
        """After a start of the host: end the runs of the host before, whose boxes are gone."""
        sessions = await self._means.store.read(self._means.tables.sessions.list_live)
        for session in sessions:
            group = await self._means.store.read(
                lambda connection, session=session: self._means.tables.groups.get(connection, session.agent_group)
            )
            directory = self._means.config.paths.run_directory(group.id, session.id, session.fence)
            key = RunKey(session.id, session.fence, group.id, session.chat)
            ended = EndedRun(key, group, Mailbox(directory), RunEnd.HOST_DIED, "")
            await self._announce(await self._ender.end(ended))
        try:
            sessions = self._means.config.paths.home / "sessions"
            await self._means.blocking(remove_leftovers, sessions, set())
            waiting = await self._means.store.read(self._means.tables.inbox.list_files)
            kept = {file.path for text in waiting for file in files_from_json(text)}
            await self._means.blocking(remove_unreferenced, sessions, kept)
        except OSError as error:
            self._means.log.warning("run.leftover_kept", error=str(error))

    async def _serve(self, run: LiveRun) -> None:
        try:
            async for bell in run.box.bells():
                run.alive_at = self._means.clock.monotonic()
                if bell == OUT:
                    await self.collect(run)
                elif bell == ALIVE and run.claimed and run.chat:
                    self._typing(run.chat, True)
            exit_ = await run.box.wait()
            end, detail = decide_end(run.ending, exit_, run.memory_kills)
            if end is RunEnd.MEMORY:
                detail = describe_memory(run.limits, run.group.folder)
            async with run.collecting:
                await self._finish(run, end, run.detail or detail)
        finally:
            self._starter.forget(run.box)
            self._live.remove(run)
            self._seats.leave(run.session)
            self.wake(run.session)

    async def _answer(self, run: LiveRun, answer: AnswerTo) -> None:
        try:
            await self._means.blocking(run.mailbox.put_answer, str(answer.seq), to_json(answer.answer))
        except (MailboxBusy, OSError, sqlite3.Error) as error:  # the tool's own time limit tells the agent
            self._means.log.warning("answer.lost", session=run.session, run=run.fence, error=str(error))
            return
        run.box.ring()

    async def _refresh(self, run: LiveRun) -> None:
        places = await self._means.store.read(
            lambda connection: self._means.tables.chats.destinations(connection, run.group.id)
        )
        rows = [DestinationRow(place.name, place.kind, place.display_name) for place in places]
        try:
            await self._means.blocking(run.mailbox.put_destinations, rows)
        except (MailboxBusy, OSError, sqlite3.Error) as error:  # its next start knows
            self._means.log.warning("destinations.postponed", session=run.session, error=str(error))
            return
        names = frozenset(place.name for place in places)
        new, run.destinations = sorted(names - run.destinations), names
        if new:  # its instructions say so only from its next start on
            note = SystemIn(
                "destinations", "changed", f"You may now write to: {', '.join(new)}.", self._means.clock.now_ms()
            )
            tables = self._means.tables
            await self._means.store.write(lambda connection: tell_agent(connection, tables, run.session, note))

    async def _finish(self, run: LiveRun, end: RunEnd, detail: str) -> None:
        key = RunKey(run.session, run.fence, run.group.id, run.chat)
        done = await self._end(EndedRun(key, run.group, run.mailbox, end, detail))
        self._gateway.close_turn(run.session, run.fence)
        await self._gateway.unlisten(run.session, run.fence)
        await self._announce(done)
        if run.chat:
            self._typing(run.chat, False)
            self._changed(run.chat)

    async def _end(self, ended: EndedRun) -> Collected:
        """End a run; on a full disk as soon as there is room, for until then its session can have no other."""
        while True:
            try:
                return await self._ender.end(ended)
            except StoreFull as error:
                self._means.log.error("store.filled", error=str(error))
                await asyncio.sleep(FULL_SECONDS)

    async def _note_stopping(self, run: LiveRun) -> None:
        now = self._means.clock.now_ms()
        try:
            await self._means.store.write(
                lambda connection: self._means.tables.sessions.set_stopping(connection, run.session, run.fence, now)
            )
        except StoreFull as error:  # for people to see, and no step depends on it
            self._means.log.warning("store.filled", error=str(error))

    async def _end_unstarted(self, plan: StartPlan, detail: str) -> None:
        directory = self._means.config.paths.run_directory(plan.group.id, plan.session.id, plan.fence)
        key = RunKey(plan.session.id, plan.fence, plan.group.id, plan.session.chat)
        done = await self._end(EndedRun(key, plan.group, Mailbox(directory), RunEnd.NO_START, detail))
        self._gateway.close_turn(plan.session.id, plan.fence)
        await self._gateway.unlisten(plan.session.id, plan.fence)
        await self._announce(done)

    async def _collect_all(self, run: LiveRun) -> None:
        more = True
        while more and run.ending is None:
            self._look(run)
            out = await self._means.blocking(run.mailbox.read, run.collected_message, run.collected_ack)
            taken = await self._means.blocking(take_files, run.mailbox, out)
            self._means.reached("collect.read")
            key = RunKey(run.session, run.fence, run.group.id, run.chat)
            counters = (run.collected_message, run.collected_ack)
            done = await self._means.store.write(
                lambda connection, out=out, taken=taken: self._collect.apply(connection, key, out, counters, taken)  # noqa: B023
            )
            self._means.reached("collect.applied")
            run.used_at = self._means.clock.monotonic()
            if done.finished:
                run.finished_at = run.used_at
            run.collected_message, run.collected_ack, run.claimed = done.message, done.ack, done.claimed
            await self._announce(done)
            if done.claimed == 0:
                await self._note_kills(run)
                self._gateway.close_turn(run.session, run.fence)
                if run.chat:
                    self._typing(run.chat, False)
                self._end_outdated(run)
                self._make_room()
                self.wake(run.session)  # what waited because the box held as much as it may
            more = done.more_work

    async def _note_kills(self, run: LiveRun) -> None:
        """Tell the chat when a program was killed for memory and its agent lives on: it may have left half a work."""
        with suppress(SandboxError):
            kills = (await run.box.measure()).out_of_memory_kills or 0
            if kills > run.memory_kills:
                run.memory_kills = kills
                self.tell(run.session, f"By the way, {describe_memory(run.limits, run.group.folder, 'a program')}")

    def _end_outdated(self, run: LiveRun) -> None:
        if run.outdated and run.claimed == 0 and run.ending is None:
            self._means.spawn(self.stop(run, RunEnd.IDLE, RENEW_GRACE_SECONDS), f"renew {run.session}")

    def _make_room(self) -> None:
        """End idle boxes for those who wait for a seat, the least recently used first."""
        leaving = [run for run in self._live if run.ending is not None or (run.outdated and run.claimed == 0)]
        short = self._seats.short - sum(self._seats.seats_of(run.session) for run in leaving)
        idle = [run for run in self._live if run not in leaving and run.claimed == 0]
        for run in sorted(idle, key=lambda run: run.used_at):
            if short <= 0:
                return
            short -= self._seats.seats_of(run.session)
            run.outdated = True
            self._end_outdated(run)

    def _look(self, run: LiveRun) -> None:
        try:
            found = run.mailbox.outbound_db.stat()
        except OSError:
            return  # the reading that follows says what is wrong with it
        run.seen_version = (found.st_mtime_ns, found.st_size)

    async def _announce(self, done: Collected) -> None:
        self.carry(done.after)
        if done.spent:
            await self._means.blocking(remove_files, self._means.config.paths.home / "sessions", done.spent)

    def _note_busy(self, run: LiveRun, busy: MailboxBusy) -> None:
        now = self._means.clock.monotonic()
        run.seen_version = (0, 0)
        if run.busy_since is None:
            run.busy_since = now
        elif now - run.busy_since > BUSY_SECONDS:
            self.end_soon(run, RunEnd.FAULT, str(busy))


def decide_end(asked: RunEnd | None, exit_: BoxExit, known_kills: int = 0) -> tuple[RunEnd, str]:
    """Decide why a run is over: what the host asked for, else what its box says. `known_kills` were told before."""
    tail = exit_.stderr_tail.strip().rpartition("\n")[2]
    if asked is not None:
        return asked, ""
    if exit_.code == RUNNER_FAILED and exit_.out_of_memory_kills:  # the agent was killed, its runner says it failed
        return (RunEnd.MEMORY, "") if exit_.out_of_memory_kills > known_kills else (RunEnd.AGENT_FAILED, tail)
    match exit_.reason:
        case ExitReason.MEMORY:
            return RunEnd.MEMORY, ""
        case ExitReason.DISK:
            return RunEnd.DISK, ""
        case ExitReason.STOPPED:
            return RunEnd.STOPPED, ""
        case ExitReason.EXITED | ExitReason.KILLED:
            return (RunEnd.AGENT_FAILED if exit_.code == RUNNER_FAILED else RunEnd.BOX_DIED), tail
