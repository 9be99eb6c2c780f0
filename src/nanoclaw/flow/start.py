"""5b start: a session without a live run gets one: fence raised, rows claimed, mailbox made, box started, gateway told.

In: a session whose oldest trigger row is due.
Out: a LiveRun whose box runs, or the reason why there is none.
Writes: `sessions` (over -> starting -> running), `inbox` (claims), the run's folder.
Never: starts a second run of a session (raise_fence refuses); gives a box anything but its SandboxSpec.
Fails: SandboxError or OSError; the caller ends the run as NO_START, its rows wait for the next attempt.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from nanoclaw.contract.message import BoxServer, RunSettings, to_json
from nanoclaw.domain.group import GroupConfig
from nanoclaw.domain.limits import Limits, decide_limits
from nanoclaw.domain.session import RunState, SessionId
from nanoclaw.domain.turn import is_backing_off
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.claim import Claimed, claim
from nanoclaw.flow.compose import Places, find_places, mark_boot, open_known_workspaces, open_workspace, prepare_places
from nanoclaw.flow.files import place_files
from nanoclaw.flow.folders import GroupFolders
from nanoclaw.flow.groups import end_waiting
from nanoclaw.flow.live import LiveRun
from nanoclaw.flow.means import Means
from nanoclaw.flow.outside import OutsideFiles
from nanoclaw.flow.proof import Asked, Prover
from nanoclaw.flow.seats import Wanted, decide_seats_of
from nanoclaw.flow.skills import SkillShelf
from nanoclaw.gateway.client import GatewayClient, Grant
from nanoclaw.sandbox.folders import LeftOut
from nanoclaw.sandbox.inbound import DestinationRow, RunRow
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.mailbox import Mailbox, create_mailbox
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.packages_image import give_packages
from nanoclaw.sandbox.runtimes.base import Box, BoxLabel, Capability, Hold, Runtime
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.sandbox.spec import BoxInputs, Mount, SandboxSpec, build_spec
from nanoclaw.sandbox.watchdog import DiskWatchdog
from nanoclaw.store.chats import Destination
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.sessions import Session

MODEL_URL = "http://127.0.0.1:3128/anthropic"
INSTRUCTIONS = "/etc/claude-code/CLAUDE.md"


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What the first transaction of a start found and claimed."""

    session: Session
    fence: int
    group: AgentGroup
    config: GroupConfig
    destinations: list[Destination]
    claimed: Claimed


@dataclass(frozen=True, slots=True)
class BoxParts:
    """What every box of this host is built from."""

    runtimes: Runtimes
    gateway: GatewayClient
    interpreter: Interpreter
    agent_binary: Path | None
    source: Path  # src/nanoclaw, whose contract and runner are mounted in every box
    limits: Limits
    watchdog: DiskWatchdog
    memory_watch: MemoryWatch
    outside: OutsideFiles
    folders: GroupFolders
    skills: SkillShelf
    prover: Prover | None = None  # None: scripted boxes, which have no wall


def decide_memory_watch(capabilities: Sequence[Capability]) -> bool:
    """Whether a runtime leaves its boxes' memory to the host's watch."""
    return any(line.name == "memory" and line.hold is Hold.WATCHED for line in capabilities)


@dataclass(frozen=True, slots=True)
class Preview:
    """What the next box of a group would get."""

    runtime: str
    spec: SandboxSpec
    left_out: tuple[LeftOut, ...]


class Starter:
    """Starts runs."""

    def __init__(self, means: Means, parts: BoxParts) -> None:
        self._means = means
        self._parts = parts
        self._preparing = threading.Lock()  # two sessions of a group share its workspace and what is composed for it

    async def want(self, session: SessionId) -> Wanted | None:
        """Return which seats a session wants; None: nothing is due."""
        return await self._means.store.read(lambda connection: self._want(connection, session))

    async def plan(self, session: SessionId) -> StartPlan | None:
        """Raise the fence and claim what is due; None: nothing is due."""
        plan = await self._means.store.write(lambda connection: self._plan(connection, session))
        if plan is not None:
            self._means.reached("wake.claimed")
        return plan

    async def start(self, plan: StartPlan) -> LiveRun:
        """Build the mailbox and the box of a plan. Raises SandboxError or OSError; then no box is left."""
        means, parts = self._means, self._parts
        limits = decide_limits(parts.limits, plan.config.limits)
        runtime = await parts.runtimes.choose(plan.config)
        with closing(parts.folders.of(plan.config)) as given:
            await parts.folders.open(plan.group, plan.session.id, given)
            mailbox, places = await means.blocking(self._prepare, plan, given.mounts)
            means.reached("wake.projected")
            inputs = self._box_inputs((plan.group, limits), mailbox, places, recover=False)
            spec = self._spec(inputs, runtime.name, (plan.group, plan.config), given.mounts)
            asked = Asked(plan.group, plan.session.id)
            proof = await parts.prover.prove(asked, runtime, spec) if parts.prover else None
            box = await runtime.start(spec, BoxLabel(plan.session.id, plan.fence, means.config.install))
        try:
            await self._open_gateway(plan, box)
            box.release()
        except BaseException:  # boundary: whatever it was, a box that nobody serves must not stay
            box.kill()
            await box.wait()
            raise
        self._watch(box, runtime, (places, mailbox.outbox), limits)
        now = means.clock.monotonic()
        means.reached("wake.released")
        return LiveRun(
            session=plan.session.id,
            fence=plan.fence,
            group=plan.group,
            chat=plan.session.chat,
            box=box,
            mailbox=mailbox,
            collected_message=plan.session.last_seq,
            collected_ack=0,
            alive_at=now,
            used_at=now,
            claimed=plan.claimed.triggers,
            finished_at=now,
            limits=limits,
            proof=proof,
            destinations=frozenset(place.name for place in plan.destinations),
            packages_set=plan.config.packages_set,
        )

    def _watch(self, box: Box, runtime: Runtime, writable: tuple[Places, Path], limits: Limits) -> None:
        """Watch what the kernel does not keep of a box's limits here."""
        places, outbox = writable
        image = places.workspace if places.has_image else None
        counted = (places.home, outbox) if image else (places.workspace, places.home, outbox)
        self._parts.watchdog.watch(box, counted, limits.disk_bytes, lenient=True, image=image)
        if decide_memory_watch(runtime.capabilities()):
            self._parts.memory_watch.watch(box, limits.memory_bytes)

    def preview(self, connection: sqlite3.Connection, group: AgentGroup) -> Preview:
        """Return what a group's next box would get. Makes nothing; blocks as the disks of its folders do."""
        config, parts = self._means.tables.groups.config(connection, group.id), self._parts
        limits, paths = decide_limits(parts.limits, config.limits), self._means.config.paths
        mailbox = Mailbox(paths.run_directory(group.id, "SESSION", 0))
        places = find_places(self._means.config, group, "SESSION")
        with closing(parts.folders.of(config)) as given:
            given.open()
            inputs = self._box_inputs((group, limits), mailbox, places, recover=False)
            name = parts.runtimes.name_for(config)
            return Preview(name, self._spec(inputs, name, (group, config), given.mounts), given.left_out)

    def _spec(
        self, inputs: BoxInputs, runtime: str, whose: tuple[AgentGroup, GroupConfig], folders: tuple[Mount, ...]
    ) -> SandboxSpec:
        group, config = whose
        inputs = give_packages(inputs, runtime, self._means.config.paths.packages(group.id), config)
        return build_spec(replace(inputs, extra=(*inputs.extra, *folders)))

    def forget(self, box: Box) -> None:
        """A box is gone: it is watched no more."""
        self._parts.watchdog.forget(box)
        self._parts.memory_watch.forget(box)

    async def recover(self, group: AgentGroup, mailbox: Mailbox, label: BoxLabel, places: Places) -> None:
        """Let SQLite roll a hot journal back in a throw-away box over the same two files. Raises SandboxError."""
        config = await self._means.store.read(lambda connection: self._means.tables.groups.config(connection, group.id))
        runtime = await self._parts.runtimes.choose(config)
        inputs = self._box_inputs((group, self._parts.limits), mailbox, places, recover=True)
        box = await runtime.start(build_spec(inputs), label)
        box.release()
        await box.stop(10.0)

    async def _open_gateway(self, plan: StartPlan, box: Box) -> None:
        session, gateway = plan.session.id, self._parts.gateway
        await gateway.listen(Grant(session, plan.fence, plan.group.id, plan.group.folder), box.listeners)
        gateway.open_turn(session, plan.fence, plan.claimed.charge, plan.claimed.attempt)

    def _want(self, connection: sqlite3.Connection, session: SessionId) -> Wanted | None:
        tables = self._means.tables
        row = tables.sessions.get(connection, session)
        if not self._is_due(connection, row):
            return None
        own = tables.groups.config(connection, row.agent_group).limits
        return Wanted(session, row.agent_group, decide_seats_of(decide_limits(self._parts.limits, own)))

    def _is_due(self, connection: sqlite3.Connection, row: Session) -> bool:
        now = self._means.clock.now_ms()
        is_free = row.run_state == RunState.OVER and not is_backing_off(row.not_before, now)
        return is_free and self._means.tables.inbox.has_waiting_trigger(connection, row.id)

    def _plan(self, connection: sqlite3.Connection, session: SessionId) -> StartPlan | None:
        tables, now = self._means.tables, self._means.clock.now_ms()
        row = tables.sessions.get(connection, session)
        if not self._is_due(connection, row):
            return None
        group = tables.groups.get(connection, row.agent_group)
        if group.archived_at is not None:  # its last rows, written in the moment it was put away
            end_waiting(connection, tables, (group, session), Aftermath(), now)
            return None
        fence = tables.sessions.raise_fence(connection, session, now)
        return StartPlan(
            session=row,
            fence=fence,
            group=group,
            config=tables.groups.config(connection, group.id),
            destinations=tables.chats.destinations(connection, group.id),
            claimed=claim(connection, tables, session, (fence, group.id), now),
        )

    async def open_disks(self) -> None:
        """Mount the workspaces that are images, as after a start of the machine; what fails its next box tells."""
        groups = await self._means.store.read(self._means.tables.groups.list_with_archived)
        for group, error in await self._means.blocking(open_known_workspaces, self._means.config, groups):
            self._means.log.warning("disk.mount_failed", group=group, error=error)

    def _prepare(self, plan: StartPlan, folders: Sequence[Mount]) -> tuple[Mailbox, Places]:
        config = self._means.config
        limits = decide_limits(self._parts.limits, plan.config.limits)
        with self._preparing:
            open_workspace(config, plan.group, limits.disk_bytes)
            group, session, servers = plan.group, plan.session.id, plan.config.mcp_servers
            places = prepare_places(config, group, session, plan.destinations, folders, servers)
            self._parts.outside.compose(plan.group.folder)
            for skill in self._parts.skills.compose(places.compose, plan.config.skills):
                self._means.log.warning("skill.skipped", skill=skill.name, group=plan.group.id, reason=skill.fault)
        uid = config.box_uid(plan.group.number)
        directory = config.paths.run_directory(plan.group.id, plan.session.id, plan.fence)
        settings = to_json(self._settings(plan))
        mailbox = create_mailbox(directory, RunRow(plan.fence, plan.session.id, settings), uid, uid)
        mailbox.put_destinations([DestinationRow(d.name, d.kind, d.display_name) for d in plan.destinations])
        place_files(config.paths.home / "sessions", mailbox, plan.claimed.rows)
        mailbox.project(plan.claimed.rows)
        mark_boot(directory)
        return mailbox, places

    def _settings(self, plan: StartPlan) -> RunSettings:
        settings, last = self._means.config.settings, plan.session.last_seq
        limits = decide_limits(self._parts.limits, plan.config.limits)
        return RunSettings(
            provider=settings.provider or plan.group.provider,
            assistant=plan.group.name,
            timezone=self._means.config.timezone,
            workspace="/workspace",
            home="/home/agent",
            instructions=INSTRUCTIONS,
            model_url=MODEL_URL,
            continuation=plan.session.continuation or None,  # '' : the runner found it unusable
            first_seq=last + 1 if last % 2 == 0 else last + 2,
            model=settings.model or plan.group.model,
            effort=plan.group.effort,
            ncl=plan.group.cli_scope != "disabled",
            mcp_servers=tuple(
                BoxServer(name, server.command, server.args, server.env)
                for name, server in plan.config.mcp_servers.items()
            ),
            process_limit=limits.processes,
            idle_seconds=settings.hang_seconds,
            tool_seconds=settings.tool_seconds,
            turn_seconds=limits.turn_seconds,
        )

    def _box_inputs(
        self, whose: tuple[AgentGroup, Limits], mailbox: Mailbox, places: Places, *, recover: bool
    ) -> BoxInputs:
        config, parts, (group, limits) = self._means.config, self._parts, whose
        return BoxInputs(
            in_directory=mailbox.in_directory,
            outbound_db=mailbox.outbound_db,
            outbound_journal=mailbox.outbound_journal,
            outbox=mailbox.outbox,
            workspace=places.workspace,
            home=places.home,
            compose=places.compose,
            runner_source=parts.source,
            interpreter=parts.interpreter,
            agent_binary=parts.agent_binary,
            timezone=config.timezone,
            host_uid=config.box_uid(group.number) if config.is_root else None,
            limits=limits,
            recover=recover,
        )
