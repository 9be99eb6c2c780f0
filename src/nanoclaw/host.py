"""The composition root: every part, built in the order of the map. No logic.

`run_host(config)` runs until SIGTERM or an error. Exit codes: 0 stopped, 1 failed, 2 the operator can mend it.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from nanoclaw.admin.boxed import ACTION, join_ncl
from nanoclaw.admin.desk import Desk, Hands
from nanoclaw.admin.resources.approvals import by_operator
from nanoclaw.admin.resources.host import HostFacts
from nanoclaw.admin.resources.parts import Machine
from nanoclaw.admin.server import AdminServer, Back
from nanoclaw.boxes import build_parts, find_sandbox, make_builders, make_seats
from nanoclaw.channels.base import Channel
from nanoclaw.channels.terminal import Speaker, TerminalChannel
from nanoclaw.channels.terminal_feed import StoreFeed
from nanoclaw.children import Rehearsal, compile_runner, gateway_spawner
from nanoclaw.clock import SystemClock
from nanoclaw.config import Config
from nanoclaw.errors import NanoClawError, OperatorError
from nanoclaw.flow.aftermath import Carrier
from nanoclaw.flow.asking import AskPeople, build_asked
from nanoclaw.flow.builds import Builds
from nanoclaw.flow.chase import Chase
from nanoclaw.flow.collect import Collect
from nanoclaw.flow.deliver import Deliver
from nanoclaw.flow.end import Ender
from nanoclaw.flow.gateway_news import GatewayNews
from nanoclaw.flow.lifetime import drain, recover
from nanoclaw.flow.live import LiveRuns
from nanoclaw.flow.means import Means
from nanoclaw.flow.notify import Notify
from nanoclaw.flow.receive import Intake, Receiver
from nanoclaw.flow.requests import Requests
from nanoclaw.flow.run import RunKeeper
from nanoclaw.flow.start import Starter
from nanoclaw.flow.sweep import Sweep
from nanoclaw.flow.tell import Teller
from nanoclaw.flow.wake import Wake
from nanoclaw.gateway import control
from nanoclaw.gateway.client import GatewayClient, open_admin_socket
from nanoclaw.ids import UlidSource
from nanoclaw.log import Log, open_log
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.sandbox.watchdog import DiskWatchdog
from nanoclaw.store.defaults import Operator, make_defaults
from nanoclaw.store.migrate import open_store
from nanoclaw.store.tables import build_tables
from nanoclaw.supervise import Supervisor, ThreadBlocking, wait_first
from nanoclaw.unlock import VaultOpener

DRAIN_SECONDS = 10.0
STOP_GRACE_SECONDS = 3.0


def run_host(config: Config) -> int:
    """Run the host of this home; return the process's exit code."""
    log = open_log(config.settings.log_level)
    try:
        lock = take_lock(config)
        try:
            asyncio.run(serve(config, log))
        finally:
            os.close(lock)
    except (NanoClawError, BaseExceptionGroup) as error:
        return report_end(error, log)
    return 0


def report_end(error: BaseException, log: Log) -> int:
    """Say on stderr why the host ended; return the exit code. What is not ours to explain is raised again."""
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", cause)
        cause = inner.exceptions[0]
    if not isinstance(cause, NanoClawError):
        raise error
    if isinstance(cause, OperatorError):
        sys.stderr.write(f"nanoclaw: {cause}\n")
        return 2
    log.error("host.failed", error=str(cause))
    sys.stderr.write(f"nanoclaw: the host stopped: {cause}\n")
    return 1


def take_lock(config: Config) -> int:
    """Return the descriptor that holds this home's lock. Raises OperatorError when another host holds it."""
    descriptor = os.open(config.paths.lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise OperatorError(
            f"a host already runs on {config.paths.home}. Talk to it with `nanoclaw chat`, end it with `nanoclaw stop`"
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def model_state(rehearsal: Rehearsal, gateway: GatewayClient) -> str:
    """Return who answers, for `nanoclaw status`: key, rehearsal, or locked."""
    if rehearsal.active:
        return "rehearsal"
    return "locked" if gateway.vault.state.locked else "key"


def crash_point(spec: str) -> Callable[[str], None]:
    """Return what kills this process at a named point: `name`, or `name:3` for the third time; '' never does.

    `name:1:stop` stops it instead (SIGSTOP), so that a test can kill another process at that point. For tests/crash.
    """
    point, _, rest = spec.partition(":")
    count, _, how = rest.partition(":")
    left = [int(count or 1)]

    def reached(here: str) -> None:
        if here == point:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)

    return reached


async def serve(config: Config, log: Log) -> None:
    """Build everything in the order of the map and serve until asked to stop."""
    clock = SystemClock()
    began = clock.monotonic()
    supervisor, blocking = Supervisor(log), ThreadBlocking()
    store = open_store(config.paths.database, clock.now_ms())
    try:
        floor = await store.read(build_tables(UlidSource(clock)).outbox.newest_id)
        tables = build_tables(UlidSource(clock, floor))
        operator = Operator(f"uid:{config.uid}", config.settings.owner or config.operator)
        await store.write(lambda connection: make_defaults(connection, tables, operator, clock.now_ms()))
        means = Means(
            config=config,
            store=store,
            tables=tables,
            clock=clock,
            log=log,
            spawn=supervisor.spawn,
            blocking=blocking,
            reached=crash_point(config.crash_point),
        )
        host = await build(means, supervisor, operator)
        await host.run(began)
    finally:
        store.close()
        blocking.close()


@dataclass(frozen=True, slots=True)
class Host:
    """The built parts that run."""

    means: Means
    supervisor: Supervisor
    gateway: GatewayClient
    rehearsal: Rehearsal
    runtimes: Runtimes
    interpreter: Interpreter
    terminal: TerminalChannel
    receiver: Receiver
    live: LiveRuns
    runs: RunKeeper
    wake: Wake
    deliver: Deliver
    sweep: Sweep
    admin: AdminServer
    watchdog: DiskWatchdog
    memory_watch: MemoryWatch
    builds: Builds
    starter: Starter

    async def run(self, began: float) -> None:
        """Serve until asked to stop, then drain."""
        ready = asyncio.Event()
        await self.supervisor.run(
            {
                "gateway": self.gateway.run,
                "rehearsal": self.rehearsal.run,
                "recover": lambda _: self._recover(ready, began),
                "terminal": lambda stop: self._when(ready, stop, self.terminal.run(self.receiver, stop)),
                "sweep": lambda stop: self._when(ready, stop, self.sweep.run(stop)),
                "admin": self.admin.run,
                "watchdog": self.watchdog.run,
                "memory watch": self.memory_watch.run,
                "builds": lambda stop: self._when(ready, stop, self.builds.run(stop)),
                "compile": lambda _: self.means.blocking(compile_runner, self.interpreter),
            },
            self._drain,
        )
        await self.runtimes.close()

    async def _recover(self, ready: asyncio.Event, began: float) -> None:
        ended = await self.runtimes.end_orphans(self.means.config.install)
        if ended:
            self.means.log.warning("box.orphans_ended", count=ended)
        await self.starter.open_disks()
        await self.gateway.wait_ready()
        await recover(self.deliver, self.runs)
        ready.set()
        took = int((self.means.clock.monotonic() - began) * 1000)
        self.means.log.info("host.started", pid=os.getpid(), home=str(self.means.config.paths.home), took_ms=took)
        gc.freeze()  # what was made at start-up is not looked at again by every collection

    async def _when(self, ready: asyncio.Event, stop: asyncio.Event, service: Coroutine[Any, Any, None]) -> None:
        try:
            await wait_first(ready, stop)
            if not stop.is_set():
                await service
        finally:
            service.close()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await drain(self.wake, self.runs, self.live, STOP_GRACE_SECONDS)
        except TimeoutError:
            self.means.log.warning("host.drain_timed_out", runs=len(self.live))


async def build(means: Means, supervisor: Supervisor, operator: Operator) -> Host:
    """Build the parts; raises OperatorError with what mends it."""
    config, log, tables, store = means.config, means.log, means.tables, means.store
    runtimes, interpreter = await find_sandbox(means)
    # channels
    rehearsal = Rehearsal(config, log)
    terminal = TerminalChannel(
        config.paths.terminal_socket,
        StoreFeed(store, tables, lambda: rehearsal.active),
        Speaker(operator.handle, operator.name),
        means.clock,
        log,
        lambda work: supervisor.spawn(work, "terminal client"),
    )
    channels: dict[str, Channel] = {terminal.name: terminal}
    notify = Notify(store, tables, channels, {terminal.name: terminal.changed}, supervisor.spawn)

    # gateway
    async def forget_rules(folder: str) -> None:
        await gateway.rules.forget_group(folder)

    asked = build_asked(means, forget_rules)
    news = GatewayNews(means, asked.egress)

    def hear_gateway(event: control.GatewayEvent) -> None:
        log.info("gateway.told", event_kind=type(event).__name__)
        news.hear(event)

    def model_key(present: bool) -> None:
        rehearsal.model_key(present)
        terminal.rehearsing(not present)

    try:
        spawner, admin_listener = gateway_spawner(config), open_admin_socket(config.paths.gateway_socket)
    except OSError as error:
        raise OperatorError(
            f"the gateway's folder or socket cannot be made: {error}. Check {config.paths.home}"
        ) from error
    gateway = GatewayClient(
        spawner,
        admin_listener,
        on_event=hear_gateway,
        on_log=lambda line: log.info("gateway.logged", line=line),
        on_model_key=model_key,
        timezone=config.timezone,
        mirrors=config.mirrors,
    )
    rehearsal.announce = gateway.set_rehearsal
    VaultOpener(gateway.vault, config, log, supervisor.spawn).start()
    # sandbox
    parts = build_parts(means, gateway, runtimes, interpreter)
    gateway.on_outside = lambda: supervisor.spawn(means.blocking(parts.outside.refresh), "outside")
    # the data path
    live, seats, teller = LiveRuns(), make_seats(means), Teller(means)
    started_at = means.clock.now_ms()
    starter = Starter(means, parts)
    hands = Hands(
        asked.groups,
        by_operator(asked.approvals),
        asked.pairing.create,
        (terminal.name, operator.handle),
        Machine(parts.folders.folders, config.box_uid, runtimes),
        starter.preview,
        lambda: HostFacts(os.getpid(), started_at, model_state(rehearsal, gateway), len(live), seats.places()),
        supervisor.request_stop,
    )
    desk = Desk(tables, str(config.paths.home), hands)
    boxed_ncl = join_ncl(asked.requests, tables, desk, config.timezone)
    requests = Requests(tables, {**asked.handlers(), ACTION: boxed_ncl})
    collect = Collect(tables, requests, means.clock.now_ms)
    deliver = Deliver(
        store,
        tables,
        channels,
        means.clock,
        log,
        spawn=supervisor.spawn,
        changed=notify.changed,
        reached=means.reached,
    )
    runs = RunKeeper(
        means,
        live,
        starter,
        collect,
        Ender(means, collect, starter),
        gateway,
        seats,
        changed=notify.changed,
        typing=notify.typing,
    )
    wake = Wake(means, live, runs, gateway, seats)
    runs.wake = seats.call = wake.hint
    runs.tell, parts.watchdog.on_news = teller.tell_soon, runs.hear_disk
    chase = Chase(means, asked, channels)
    builds = Builds(means, live, make_builders(parts, config))
    carrier = Carrier(
        deliver.hint,
        notify.changed,
        wake.hint,
        runs.answer,
        runs.refresh,
        runs.renew,
        runs.end_now,
        store.request_scrub,
        lambda group: supervisor.spawn(asked.groups.scaffold_soon(group), f"scaffold {group}"),
        chase.hint,
        gateway.tell,
        builds.hint,
    )
    builds.carry = carrier.carry
    news.carry = carrier.carry
    runs.carry = carrier.carry
    chase.carry = teller.carry = parts.folders.carry = carrier.carry
    asking = AskPeople(asked)
    intake = Intake(tables, asking, log)
    asking.replay_by(intake.take_one)
    receiver = Receiver(
        terminal.name, intake, store, tables, means.clock, log, carry=carrier.carry, reached=means.reached
    )
    sweep = Sweep(means, live, runs, wake, deliver, chase, seats=seats, teller=teller)
    # operators
    admin = AdminServer(
        config.paths.admin_socket,
        desk,
        Back(store, tables, means.clock, carrier.carry),
        config.uid,
        log,
        lambda work: supervisor.spawn(work, "admin client"),
    )
    return Host(
        means,
        supervisor,
        gateway,
        rehearsal,
        runtimes,
        interpreter,
        terminal,
        receiver,
        live,
        runs,
        wake,
        deliver,
        sweep,
        admin,
        parts.watchdog,
        parts.memory_watch,
        builds,
        starter,
    )
