"""The whole data path in one process: the real stages, store and mailbox files; a scripted platform and scripted boxes.

A test is a transcript: `await chat.says("hi")`, `world.script.replies("hello")`, `await chat.hears("hello")`. Time is
a ManualClock; `await world.after(5)` lets it pass and then looks as the sweep does. `hears` waits for what must come;
`await world.quiet()` waits until nothing is under way, so that what did not come can be asserted.
"""

from __future__ import annotations

import asyncio
import io
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nanoclaw
from nanoclaw.admin.boxed import ACTION, join_ncl
from nanoclaw.admin.desk import Desk, Hands
from nanoclaw.admin.resources.approvals import by_operator
from nanoclaw.admin.resources.host import HostFacts
from nanoclaw.admin.resources.parts import Machine
from nanoclaw.boxes import make_folders
from nanoclaw.channels.base import Accepted, Channel, ClickAnswer, Incoming
from nanoclaw.config import Config, Paths, Settings
from nanoclaw.domain.people import Role
from nanoclaw.flow.aftermath import Aftermath, Carrier
from nanoclaw.flow.asking import AskPeople, build_asked
from nanoclaw.flow.chase import Chase
from nanoclaw.flow.collect import Collect
from nanoclaw.flow.deliver import Deliver
from nanoclaw.flow.end import Ender
from nanoclaw.flow.folders import GroupFolders
from nanoclaw.flow.gateway_news import GatewayNews
from nanoclaw.flow.lifetime import drain, recover
from nanoclaw.flow.live import LiveRun, LiveRuns
from nanoclaw.flow.means import Means
from nanoclaw.flow.notify import Notify
from nanoclaw.flow.outside import OutsideFiles
from nanoclaw.flow.proof import Prover, Trials
from nanoclaw.flow.receive import Intake, Receiver
from nanoclaw.flow.requests import Requests
from nanoclaw.flow.run import RunKeeper
from nanoclaw.flow.seats import Seats
from nanoclaw.flow.skills import SkillShelf
from nanoclaw.flow.start import BoxParts, Starter
from nanoclaw.flow.sweep import Sweep
from nanoclaw.flow.tell import Teller
from nanoclaw.flow.wake import Wake
from nanoclaw.gateway.client import GatewayClient, Outside
from nanoclaw.ids import UlidSource
from nanoclaw.log import open_log
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.sandbox.spec import Limits
from nanoclaw.sandbox.watchdog import DiskWatchdog
from nanoclaw.store.db import open_connection
from nanoclaw.store.defaults import FOLDER, Operator, make_defaults
from nanoclaw.store.migrate import open_store
from nanoclaw.store.tables import build_tables
from nanoclaw.supervise import ThreadBlocking
from nanoclaw.testing.fakes import ManualClock, RecordingGateway, ScriptedChannel
from nanoclaw.testing.scripted_box import Script, ScriptedBox
from nanoclaw.testing.scripted_runtime import ScriptedRuntime

DEADLINE_SECONDS = 10.0
CALM_LOOKS = 4
STEP_SECONDS = 0.002
INSTALL = "0badcafe"
CHANNEL = "scripted"
OPERATOR = "alice"


class Killed(BaseException):
    """The host was killed at a crash point."""


@dataclass
class Home:
    """What outlives a host: the folder on disk, the clock on the wall, the people at the other end of the platform."""

    path: Path
    clock: ManualClock = field(default_factory=ManualClock)
    channel: ScriptedChannel = field(default_factory=lambda: ScriptedChannel(CHANNEL))
    settings: Settings = field(default_factory=Settings)
    others: dict[str, ScriptedChannel] = field(default_factory=dict[str, ScriptedChannel])  # by name
    trials: Trials | None = None  # None: no box is tried before it starts
    said: int = 0  # messages people wrote, for their platform ids

    def config(self) -> Config:
        for name in ("data", "groups", "compose", "sessions"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        uid = 0 if self.path.stat().st_uid == 0 else self.path.stat().st_uid
        paths = Paths(home=self.path, run=self.path / "run")
        return Config(paths, self.settings, INSTALL, "UTC", OPERATOR, uid)


class Chat:
    """One chat of the scripted platform, with everybody in it."""

    def __init__(self, world: World, name: str, *, is_group: bool, channel: str = CHANNEL) -> None:
        self._world = world
        self._is_group = is_group
        self._channel = world.home.others.get(channel, world.channel)
        self.name = name

    @property
    def heard(self) -> list[str]:
        return self._channel.heard(self.name)

    async def says(self, text: str, sender: str = OPERATOR, **facts: Any) -> Accepted:
        return (await self.says_at_once(text, sender=sender, **facts))[0]

    async def says_at_once(self, *texts: str, sender: str = OPERATOR, **facts: Any) -> list[Accepted]:
        return await self._channel.receive(*(self.message(text, sender, **facts) for text in texts))

    def message(self, text: str, sender: str = OPERATOR, **facts: Any) -> Incoming:
        self._world.home.said += 1
        facts.setdefault("platform_id", f"platform-{self._world.home.said}")
        facts.setdefault("is_group", self._is_group)
        return Incoming(
            chat_id=self.name,
            sender=sender,
            sender_name=sender.title(),
            text=text,
            sent_at=self._world.clock.now_ms(),
            **facts,
        )

    async def presses(self, label: str, sender: str = OPERATOR, *, text: str = "") -> ClickAnswer:
        return await self._channel.press(self.name, sender, label, text=text)

    async def hears(self, *texts: str) -> None:
        """Wait until the chat has got exactly these texts since it was made."""
        await self._world.until(lambda: self.heard == list(texts), lambda: f"heard {self.heard}")


class World:
    """One life of the host over a Home."""

    def __init__(self, home: Home, group: asyncio.TaskGroup, crash_at: str) -> None:
        self.home, self.clock, self.channel = home, home.clock, home.channel
        self._group, self._crash_at = group, crash_at
        self._busy: list[str] = []
        self.dead = False
        self.has_memory = True  # for another box
        self.at: dict[str, Callable[[], None]] = {}  # what happens when the host reaches a crash point
        self.log_lines = io.StringIO()
        config, log = home.config(), open_log("debug", self.log_lines)
        self.blocking = ThreadBlocking()
        self.store = open_store(config.paths.database, home.clock.now_ms())
        self.tables = build_tables(UlidSource(home.clock, newest_id(config.paths.database)))
        self.gateway = RecordingGateway()
        self.runtime = ScriptedRuntime(self._spawn_box)
        self.live = LiveRuns()
        self.means = Means(config, self.store, self.tables, home.clock, log, self.spawn, self.blocking, self._reached)
        self.seats = Seats(home.settings.boxes_at_once or 64, home.clock.monotonic, lambda: self.has_memory)
        self.teller, self.watchdog = Teller(self.means), DiskWatchdog(home.clock, log)
        gateway = cast(GatewayClient, self.gateway)
        parts = BoxParts(
            Runtimes({"bubblewrap": lambda _: self.runtime}), gateway, Interpreter(Path("/usr/bin/python3")), None,
            Path(nanoclaw.__file__).parent, Limits(), self.watchdog, MemoryWatch(log),
            OutsideFiles(config.paths, Outside, log), GroupFolders(self.means, make_folders(config)),
            SkillShelf(home.path / "none", home.path / "skills"),
            Prover(self.means, home.trials) if home.trials else None,
        )  # fmt: skip
        starter = Starter(self.means, parts)
        channels: dict[str, Channel] = {CHANNEL: self.channel, **home.others}
        self.changed: list[str] = []
        notify = Notify(self.store, self.tables, channels, {CHANNEL: self.changed.append}, self.spawn)
        self.asked = build_asked(self.means)
        hands = Hands(
            self.asked.groups,
            by_operator(self.asked.approvals),
            self.asked.pairing.create,
            ("terminal", "uid:0"),
            Machine(parts.folders.folders, config.box_uid, parts.runtimes),
            starter.preview,
            lambda: HostFacts(1, 0, "rehearsal", len(self.live), self.seats.places()),
            lambda: None,
        )
        self.desk = Desk(self.tables, str(home.path), hands)
        self.boxed = join_ncl(self.asked.requests, self.tables, self.desk, "UTC")
        requests = Requests(self.tables, {**self.asked.handlers(), ACTION: self.boxed})
        self.collect = Collect(self.tables, requests, home.clock.now_ms)
        self.deliver = Deliver(
            self.store,
            self.tables,
            channels,
            home.clock,
            log,
            spawn=self.spawn,
            changed=notify.changed,
            reached=self._reached,
        )
        self.runs = RunKeeper(
            self.means,
            self.live,
            starter,
            self.collect,
            Ender(self.means, self.collect, starter),
            gateway,
            self.seats,
            changed=notify.changed,
            typing=notify.typing,
        )
        self.wake = Wake(self.means, self.live, self.runs, gateway, self.seats)
        self.runs.wake = self.seats.call = self.wake.hint
        self.runs.tell, self.watchdog.on_news = self.teller.tell_soon, self.runs.hear_disk
        self.groups = self.asked.groups
        self.chase = Chase(self.means, self.asked, channels)
        self.carrier = Carrier(
            self.deliver.hint,
            notify.changed,
            self.wake.hint,
            self.runs.answer,
            self.runs.refresh,
            self.runs.renew,
            self.runs.end_now,
            self.store.request_scrub,
            lambda group: self.spawn(self.groups.scaffold_soon(group), f"scaffold {group}"),
            self.chase.hint,
            self.gateway.tell,
        )
        self.news = GatewayNews(self.means, self.asked.egress)
        self.news.carry = self.carrier.carry
        self.runs.carry = self.carrier.carry
        self.chase.carry = self.teller.carry = parts.folders.carry = self.carrier.carry
        self.sweep = Sweep(
            self.means, self.live, self.runs, self.wake, self.deliver, self.chase, seats=self.seats, teller=self.teller
        )
        asking = AskPeople(self.asked)
        self.intake = Intake(self.tables, asking, log)
        asking.replay_by(self.intake.take_one)
        for name, channel in {CHANNEL: self.channel, **home.others}.items():
            channel.connect(self.receiver(self.carrier.carry, name))

    def receiver(self, carry: Callable[[Aftermath], None], channel: str = CHANNEL) -> Receiver:
        """A sink as host.py builds it."""
        told = (self.store, self.tables, self.clock, self.means.log)
        return Receiver(channel, self.intake, *told, carry=carry, reached=self._reached)

    # -- the stage ----------------------------------------------------------------------------------------------

    @property
    def script(self) -> Script:
        return self.runtime.script

    @property
    def boxes(self) -> list[ScriptedBox]:
        return self.runtime.boxes

    @property
    def run(self) -> LiveRun:
        """The only live run."""
        (run,) = self.live
        return run

    async def chat(self, name: str = "family", *, is_group: bool = False, **wiring: str) -> Chat:
        """Return a chat that is wired to the default agent; `wiring` sets columns of its wiring."""

        def make(connection: sqlite3.Connection) -> None:
            now = self.clock.now_ms()
            if self.tables.chats.find(connection, CHANNEL, name) is not None:
                return
            chat = self.tables.chats.add(connection, CHANNEL, name, now, is_group=is_group)
            agent = self.tables.groups.find_by_folder(connection, FOLDER)
            assert agent is not None
            self.tables.chats.wire(connection, chat, agent, now)
            for column, value in wiring.items():
                connection.execute(f"UPDATE messaging_group_agents SET {column} = ? WHERE messaging_group_id = ?",
                                   (value, chat.id))  # fmt: skip

        await self.store.write(make)
        return Chat(self, name, is_group=is_group)

    async def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the store."""
        return await self.store.read(lambda connection: [tuple(row) for row in connection.execute(query, values)])

    async def change(self, statement: str, *values: object) -> None:
        """Change the store behind the host's back."""
        await self.store.write(lambda connection: connection.execute(statement, values))

    async def outcomes(self) -> list[tuple[Any, ...]]:
        """(text, state, outcome, attempt) of every accepted message, in order."""
        return await self.rows(
            "SELECT b.text, i.state, i.outcome, i.attempt FROM inbox i JOIN inbound b ON b.id = i.inbound_id"
            " ORDER BY i.session_id, i.seq"
        )

    # -- time ---------------------------------------------------------------------------------------------------

    async def after(self, seconds: float) -> None:
        """Let time pass, look as the sweep does, and wait until that is done."""
        self.clock.advance(seconds)
        await self.sweep.look()
        await self.quiet()

    async def until(self, condition: Callable[[], bool], state: Callable[[], str] = lambda: "") -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited too long; {state()}\n{self.log_lines.getvalue()}")
            await asyncio.sleep(STEP_SECONDS)

    async def quiet(self) -> None:
        """Wait until nothing is under way but what waits for time, the test or the platform."""
        calm = 0
        deadline = time.monotonic() + DEADLINE_SECONDS
        while calm < CALM_LOOKS:
            ending = any(run.collecting.locked() or cast(ScriptedBox, run.box).is_gone for run in self.live)
            calm = 0 if self._busy or ending or not all(box.is_quiet for box in self.boxes) else calm + 1
            if time.monotonic() > deadline:
                raise AssertionError(f"never quiet: {self._busy}\n{self.log_lines.getvalue()}")
            await asyncio.sleep(STEP_SECONDS)

    # -- life and death -----------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self.dead:
            work.close()
            return
        try:
            task = self._group.create_task(work, name=name)
        except RuntimeError:  # the group is ending: an error, or a kill, that is raised once all have ended
            work.close()
            return
        if not name.startswith("run "):
            self._busy.append(name)
            task.add_done_callback(lambda _: self._busy.remove(name))

    async def recover(self) -> None:
        """What host.py does at its start."""
        await recover(self.deliver, self.runs)
        await self.sweep.look()

    async def drain(self) -> None:
        """What host.py does at a graceful stop."""
        await drain(self.wake, self.runs, self.live, 3.0)

    def close(self) -> None:
        """Give back threads and files; what was handed in to the store is still committed."""
        self.dead = True
        self.store.close()
        self.blocking.close()

    def _spawn_box(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._group.create_task(work, name=name)

    def _reached(self, point: str) -> None:
        self.at.get(point, lambda: None)()
        if point == self._crash_at:
            self._crash_at = ""
            self.dead = True
            raise Killed


@asynccontextmanager
async def open_world(home: Home | Path, *, crash_at: str = "") -> AsyncIterator[World]:
    """One life of the host. Leaving it is a kill: nothing is drained, every box is gone."""
    home = home if isinstance(home, Home) else Home(home)
    world: World | None = None
    try:
        async with asyncio.TaskGroup() as group:
            world = World(home, group, crash_at)
            await world.store.write(lambda connection: _populate(connection, world))
            yield world
            world.dead = True
            raise Killed
    except BaseExceptionGroup as errors:
        _, others = errors.split(Killed)
        if others is not None:
            raise others from None
    finally:
        if world is not None:
            world.close()


def newest_id(database: Path) -> str:
    """As host.py does at its start: ids go on after those of the life before."""
    with closing(open_connection(database, read_only=True)) as connection:
        return build_tables(lambda: "").outbox.newest_id(connection)


def _populate(connection: sqlite3.Connection, world: World) -> None:
    now = world.clock.now_ms()
    make_defaults(connection, world.tables, Operator("uid:0", "Operator"), now)
    people = world.tables.people
    if people.find_by_identity(connection, CHANNEL, OPERATOR) is None:
        people.grant(connection, people.add(connection, "Alice", CHANNEL, OPERATOR, now), Role.ADMIN, now)
