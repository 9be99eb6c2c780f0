"""7g builds: packages that a person has approved are built for a group, verified, then swapped in.

In: an order (flow/self_change.py after a yes, an operator's `ncl`); rows of `package_builds` that are not over.
Out: the group's next box has the new set; its agent is told what came of it, its chat that it takes a while.
Writes: `package_builds`, `container_configs` (packages and set, in the transaction that ends the build), `inbox`,
`outbox`, `audit`.
Never: builds two at once; changes a group's set before the new one was seen to work; gives up the old one for a build
that failed.
Fails: the build is `failed` with the reason, the old set stays; a host killed in mid-build begins it again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace

from nanoclaw.channels.plain_text import neutralise
from nanoclaw.contract.message import SystemIn
from nanoclaw.domain.group import BuildState, GroupConfig, Packages
from nanoclaw.domain.packages import PackageChange, count, describe, describe_change, merge, missing_of
from nanoclaw.domain.session import SessionId
from nanoclaw.errors import Refused, SandboxError, StoreFull
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.live import LiveRuns
from nanoclaw.flow.means import Means
from nanoclaw.flow.requests import tell_agent
from nanoclaw.sandbox.packages import BuildFailed, BuiltSet, PackageBuilder, Wanted
from nanoclaw.store.audit import Entry
from nanoclaw.store.builds import Build
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.tables import Tables

ACTION = "install_packages"  # what notes about builds are called, as the agent's tool is
LOOK_SECONDS = 60.0  # between two looks that no hint asked for
FULL_SECONDS = 2.0  # between two tries on a full disk
SLOW_SECONDS = 3.0  # a build that takes longer is announced in the chat
LEFT_SECONDS = 60.0  # a set that was replaced stays this long: a start that was under way may still use it
MOST_OPEN = 5  # builds of one group that wait
MOST_DETAIL = 1_500


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What is to change for whom. `session` is whose agent is told, `by` the user who said yes."""

    group: str
    session: str | None
    change: PackageChange
    by: str | None
    actor: str = ""  # for the audit, where no user said so


def request_build(connection: sqlite3.Connection, tables: Tables, order: BuildOrder, after: Aftermath, now: int) -> str:
    """Queue a build, of names that `parse_packages` returned; return words for who asked. Raises Refused."""
    config = tables.groups.config(connection, order.group)
    whole = merge(config.packages, order.change)
    if unknown := missing_of(config.packages, order.change.remove):
        raise Refused(f"Not installed: {', '.join(unknown)}. Installed is {describe(config.packages)}.")
    waiting = tables.builds.count_open(connection, order.group)
    if waiting >= MOST_OPEN:
        raise Refused(f"{MOST_OPEN} builds of this assistant's packages wait already. Try again when they are over.")
    if whole == config.packages and count(order.change.remove) == 0 and config.packages_set and not waiting:
        return f"That is installed already: {describe(order.change.add)}."
    build = tables.builds.add(connection, (order.group, order.session), order.change, order.by, now)
    actor = f"user:{order.by}" if order.by else order.actor or "operator"
    entry = Entry(now, "packages.ordered", actor, order.group, "allow", describe_change(order.change))
    tables.audit.append(connection, entry)
    after.build = True
    how = "You are told" if order.session else f"`ncl groups builds` shows how it ends (group {order.group})"
    return f"The packages are being built now ({describe_change(order.change)}; build {build.id}). {how}."


@dataclass(frozen=True, slots=True)
class _Ready:
    """A build that was begun."""

    build: Build
    wanted: Wanted
    refused: str = ""  # why it cannot be built, others having come before it


class Builds:
    """The queue of builds; one is worked at, off the loop."""

    def __init__(
        self,
        means: Means,
        live: LiveRuns,
        choose: Callable[[GroupConfig], PackageBuilder],
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        self._means = means
        self._live = live
        self._choose = choose
        self._slow_seconds = slow_seconds
        self._hinted = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self.carry: Callable[[Aftermath], None] = lambda _: None  # set by host.py

    def hint(self) -> None:
        """Something was ordered. Never blocks."""
        self._hinted.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Build what is ordered until `stop`; a build that is under way then is begun again by the next host."""
        self._means.spawn(self._watch(stop), "builds stop")
        while not stop.is_set():
            self._hinted.clear()
            try:
                while not stop.is_set() and await self.look():
                    pass
                await self.tidy()
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._hinted.wait()
            except StoreFull as error:
                self._means.log.warning("store.filled", error=str(error))
                await asyncio.sleep(FULL_SECONDS)
            except TimeoutError:
                continue

    async def look(self) -> bool:
        """Build what is next; False: nothing waits."""
        ready = await self._means.store.write(self._begin)
        if ready is None:
            return False
        done = asyncio.Event()
        self._means.spawn(self._work(ready, done), "build")
        self._means.spawn(self._announce(ready.build, done), "build announce")
        await done.wait()
        return True

    async def tidy(self) -> None:
        """Remove sets that no box uses any more."""
        groups = await self._means.store.read(self._means.tables.groups.list_with_archived)
        for group in groups:
            config, replaced_at = await self._means.store.read(
                lambda connection, group=group: self._facts(connection, group.id)
            )
            if not config.packages_set and replaced_at is None:
                continue
            if replaced_at is not None and self._means.clock.now_ms() - replaced_at < LEFT_SECONDS * 1000:
                continue
            used = {run.packages_set for run in self._live if run.group.id == group.id} | {config.packages_set}
            try:
                builder = self._choose(config)
                if config.packages_set and not builder.owns(config.packages_set):
                    await self._means.store.write(lambda connection, name=group.id: self._build_anew(connection, name))
                await builder.remove_unused(group.id, frozenset(used - {""}))
            except (OSError, SandboxError) as error:
                self._means.log.warning("packages.kept", group=group.id, error=str(error))

    def _build_anew(self, connection: sqlite3.Connection, group: str) -> None:
        """Queue the same set for another runtime, unless the last build failed or one waits."""
        builds = self._means.tables.builds
        last = builds.list_of(connection, group, 1)
        if last and last[0].state is BuildState.DONE:
            builds.add(connection, (group, None), PackageChange(), None, self._means.clock.now_ms())
            self._hinted.set()

    def _facts(self, connection: sqlite3.Connection, group: str) -> tuple[GroupConfig, int | None]:
        tables = self._means.tables
        return tables.groups.config(connection, group), tables.builds.last_end(connection, group)

    async def _watch(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._hinted.set()
        if self._working is not None:
            self._working.cancel()

    def _begin(self, connection: sqlite3.Connection) -> _Ready | None:
        tables = self._means.tables
        build = tables.builds.find_next(connection)
        if build is None or not tables.builds.begin(connection, build.id):
            return None
        config = tables.groups.config(connection, build.agent_group)
        whole, refused = config.packages, ""
        try:
            whole = merge(config.packages, build.change)
        except Refused as error:  # others came before it
            refused = error.reason
        return _Ready(build, Wanted(build.id, build.agent_group, whole, config), refused)

    async def _work(self, ready: _Ready, done: asyncio.Event) -> None:
        build, wanted, log = ready.build, ready.wanted, self._means.log
        self._working = asyncio.current_task()
        log.info("packages.build_started", build=build.id, group=build.agent_group)
        try:
            if ready.refused:
                raise BuildFailed(ready.refused)
            built = await self._choose(wanted.config).build(wanted) if count(wanted.packages) else BuiltSet("")
        except (SandboxError, OSError) as error:
            mend = error.mend if isinstance(error, SandboxError) else ""
            log.warning("packages.build_failed", build=build.id, error=str(error))
            await self._end(ready, None, f"{error} {mend}".strip())
        except Exception as error:  # boundary: else the next host would begin it again, and end by it again
            log.error("packages.build_crashed", build=build.id, error=repr(error))
            await self._end(ready, None, f"Something unexpected broke it: {type(error).__name__}.")
        else:
            self._means.reached("build.made")
            await self._end(ready, built, built.note)
        finally:
            self._working = None
            done.set()

    async def _end(self, ready: _Ready, built: BuiltSet | None, detail: str) -> None:
        after, now = Aftermath(), self._means.clock.now_ms()
        said = cut_detail(detail)
        try:
            await self._means.store.write(lambda connection: self._finish(connection, ready, (built, said), after, now))
        except StoreFull as error:  # it is still `building`: the next look builds it again
            self._means.log.warning("store.filled", error=str(error))
            return
        self.carry(after)

    def _finish(
        self,
        connection: sqlite3.Connection,
        ready: _Ready,
        result: tuple[BuiltSet | None, str],
        after: Aftermath,
        now: int,
    ) -> None:
        tables, build, (built, detail) = self._means.tables, ready.build, result
        state = BuildState.FAILED if built is None else BuildState.DONE
        if not tables.builds.end(connection, build.id, state, detail, now):
            return
        tables.builds.prune(connection, build.agent_group)
        config = tables.groups.config(connection, build.agent_group)
        if built is not None:
            changed = replace(config, packages=ready.wanted.packages, packages_set=built.name)
            tables.groups.configure(connection, build.agent_group, changed, now)
            after.renew[build.agent_group] = None
        verdict = "deny" if built is None else "allow"
        tables.audit.append(
            connection,
            Entry(now, f"packages.{state}", "host", build.agent_group, verdict, describe_change(build.change)),
        )
        if build.session is not None:
            words = (
                say_end(build, ready.wanted.packages, detail) if built else say_failure(build, config.packages, detail)
            )
            note = SystemIn(ACTION, str(state), words, now)
            tell_agent(connection, tables, build.session, note, trigger=True)
            after.wake[SessionId(build.session)] = None

    async def _announce(self, build: Build, done: asyncio.Event) -> None:
        """Say in the chat that it takes a while, when it does."""
        try:
            async with asyncio.timeout(self._slow_seconds):
                await done.wait()
        except TimeoutError:
            after, now = Aftermath(), self._means.clock.now_ms()
            try:
                await self._means.store.write(lambda connection: self._say_slow(connection, build, after, now))
            except StoreFull as error:  # an error that leaves a task would stop the host
                self._means.log.warning("store.filled", error=str(error))
                return
            self.carry(after)

    def _say_slow(self, connection: sqlite3.Connection, build: Build, after: Aftermath, now: int) -> None:
        tables = self._means.tables
        session = tables.sessions.find(connection, build.session) if build.session else None
        if session is None or session.chat is None:
            return
        words = NewDelivery(
            session=session.id,
            run=0,
            seq=None,
            turn=None,
            reply_to=None,
            chat=session.chat,
            thread=session.thread,
            text=f"Installing {describe(build.change.add)}. This may take some minutes.",
            notice=True,
        )
        tables.outbox.add(connection, words, now)
        after.chats[session.chat] = None
        after.lanes[Lane(session.id, session.chat, session.thread or "")] = None


def say_end(build: Build, packages: Packages, note: str) -> str:
    """Return what an agent is told of a build that is done."""
    words = f"Done: {describe_change(build.change)}. Installed in this sandbox now: {describe(packages)}."
    return f"{words} {note}".strip()


def say_failure(build: Build, packages: Packages, detail: str) -> str:
    """Return what an agent is told of a build that failed."""
    words = (
        f"That could not be done: {describe_change(build.change)}. Nothing changed; installed is {describe(packages)}."
    )
    return f"{words} Why: {detail}"


def cut_detail(detail: str) -> str:
    """Return the end of what was said, safe to show: it may hold what a hostile package printed."""
    lines = [neutralise(line) for line in detail.strip()[-4 * MOST_DETAIL :].splitlines()]
    return "\n".join(lines)[-MOST_DETAIL:]
