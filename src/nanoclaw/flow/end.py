"""5c end: a run that is over is drained, settled and removed; every row it held goes on or is buried with words.

In: a run whose box is seen to be gone, and why.
Out: the store as if the run had never been, but for what it had finished.
Writes: what collect writes; `inbox` (claimed -> queued | dead), `sessions` (-> over), the run's folder (removed).
Never: rolls back a hot journal itself (a throw-away box does); opens outbound.db read-write.
Fails: an unreadable outbound.db is an AgentFault: nothing more of it is applied, the rows go on.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.domain.session import RunEnd
from nanoclaw.domain.turn import Bury, Requeue, decide_retry
from nanoclaw.errors import AgentFault, MailboxBusy, SandboxError, StaleClaim
from nanoclaw.flow.collect import Collect, Collected, RunKey
from nanoclaw.flow.compose import Places, is_of_this_boot
from nanoclaw.flow.files import files_from_json, take_files
from nanoclaw.flow.means import Means
from nanoclaw.flow.start import Starter
from nanoclaw.sandbox.mailbox import Mailbox
from nanoclaw.sandbox.mounts import remove_tree
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.inbox import Claim

MOST_DETAIL = 300  # characters of a reason that go into the chat and the log


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run whose box is gone, and why."""

    key: RunKey
    group: AgentGroup
    mailbox: Mailbox
    end: RunEnd
    detail: str


class Ender:
    """Ends runs, after a normal stop as after a crash of the host."""

    def __init__(self, means: Means, collect: Collect, starter: Starter) -> None:
        self._means = means
        self._collect = collect
        self._starter = starter

    async def end(self, run: EndedRun) -> Collected:
        """Drain, settle and remove a run. Returns what its last words were. Raises StoreError."""
        done = Collected()
        run = await self._drained(run, done)
        self._means.reached("end.drained")
        await self._means.store.write(lambda connection: self._settle(connection, run, done))
        self._means.reached("end.settled")
        try:
            await self._means.blocking(run.mailbox.remove)
        except OSError as error:  # it is nobody's any more; the next start of the host tries again
            self._means.log.warning("run.leftover_kept", error=str(error))
        self._means.log.info(
            "run.ended", session=run.key.session, run=run.key.fence, why=run.end.value, detail=run.detail[:MOST_DETAIL]
        )
        return done

    async def _drained(self, run: EndedRun, done: Collected) -> EndedRun:
        detail = run.detail
        if not is_of_this_boot(run.mailbox.directory):
            return run  # it ended before its mailbox was made, or in a power cut, which leaves no file to be trusted
        session = await self._means.store.read(
            lambda connection: self._means.tables.sessions.get(connection, run.key.session)
        )
        counters = (session.collected_message, session.collected_ack)  # an earlier try to end it may have got this far
        try:
            if run.mailbox.has_hot_journal():
                await self._roll_back(run)
            while True:
                out = await self._means.blocking(run.mailbox.read, *counters)
                taken = await self._means.blocking(take_files, run.mailbox, out)
                applied = await self._means.store.write(
                    lambda connection, out=out, at=counters, taken=taken: self._collect.apply(
                        connection, run.key, out, at, taken
                    )
                )
                counters = (applied.message, applied.ack)
                done.after.add(applied.after)
                done.spent += applied.spent
                if run.end is RunEnd.AGENT_FAILED:
                    detail = out.state_of("failure") or detail  # the runner's own words, rather than its log's
                if not applied.more_work:
                    return EndedRun(run.key, run.group, run.mailbox, run.end, detail)
        except StaleClaim:
            return run
        except (AgentFault, MailboxBusy, SandboxError, OSError) as error:
            self._means.log.warning("mailbox.refused", session=run.key.session, run=run.key.fence, error=str(error))
            blamed = run.end if run.end.blames_agent else RunEnd.FAULT
            return EndedRun(run.key, run.group, run.mailbox, blamed, run.detail or str(error))

    async def _roll_back(self, run: EndedRun) -> None:
        config = self._means.config
        session = config.paths.session(run.group.id, run.key.session)
        places = Places(
            workspace=config.paths.workspace(run.group.folder),
            home=session / "home",
            compose=config.paths.compose(run.group.folder),
            session=session,
        )
        label = BoxLabel(run.key.session, run.key.fence, config.install)
        await self._starter.recover(run.group, run.mailbox, label, places)

    def _settle(self, connection: sqlite3.Connection, run: EndedRun, done: Collected) -> None:
        tables, now = self._means.tables, self._means.clock.now_ms()
        not_before = 0
        blamed = False  # only the oldest trigger row answers for the run: the rows behind it had no part in its end
        for row in tables.inbox.claimed(connection, run.key.session, run.key.fence):
            if blamed or not row.trigger or not run.end.counts:
                tables.inbox.requeue(connection, row, run.key.fence, blame=False)
                continue
            blamed = True
            match decide_retry(row.failures + 1, run.end, run.detail[:MOST_DETAIL], now):
                case Requeue(at):
                    tables.inbox.requeue(connection, row, run.key.fence, blame=True)
                    not_before = at
                case Bury(words):
                    tables.inbox.bury(connection, row, run.key.fence, now)
                    done.spent += [file.path for file in files_from_json(row.files)]
                    claim = Claim(run.key.session, run.key.fence, row.seq, row.attempt)
                    self._collect.say(connection, claim, (row, words), done)
        tables.sessions.set_over(connection, run.key.session, run.key.fence, now, not_before=not_before)


def remove_leftovers(sessions: Path, live: set[tuple[str, int]]) -> int:
    """Remove folders of runs that are over (all but `live`: (session, fence)); return how many. Blocks."""
    count = 0
    for folder in sessions.glob("*/*/runs/*"):
        session, fence = folder.parent.parent.name, folder.name
        if fence.isdigit() and (session, int(fence)) not in live:
            remove_tree(folder)
            count += 1
    return count
