"""The host's side of the gateway: starts it, starts it again within a second, tells it boxes and turns.

In: grants with their listeners, turns, the rehearsal's port. Out: the gateway's events, `model_key`, its log lines.
Writes: nothing. Never: opens the vault, or waits for the gateway on the path of a message.
Fails: `wait_ready` raises OperatorError when the gateway refuses to start (a vault it may not or cannot read).

The host keeps a duplicate of every listener, so a gateway that died is given all of them again, with the open turns;
calls that were under way broke with it and are retried by the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from nanoclaw.errors import OperatorError, SandboxError
from nanoclaw.gateway import control
from nanoclaw.gateway.admin_client import ask_admin as ask_admin  # seen by others through this door
from nanoclaw.gateway.client_vault import VaultLink as VaultLink
from nanoclaw.gateway.rules_told import RulesTold
from nanoclaw.gateway.secret import Secret as Secret

BOOT = (
    "import sys; sys.path[:0] = sys.argv[1].split(':'); "
    "from nanoclaw.gateway.main import main; sys.exit(main(sys.argv[2:]))"
)
STOP_SECONDS = 3.0
STEADY_SECONDS = 1.0  # a gateway that lived this long is started again at once, a shorter life backs off
START_TRIES = 3  # before the operator is told; it is tried on all the same
RESTART_SECONDS = (0.05, 0.2, 0.5, 2.0, 5.0)
EXIT_OPERATOR = 2


@dataclass(frozen=True, slots=True)
class Grant:
    """Whose calls arrive on a box's listeners."""

    session: str
    fence: int
    group: str
    folder: str = ""


@dataclass(frozen=True, slots=True)
class GatewayFds:
    """What a gateway process inherits; both stay the client's, which closes its own copies."""

    control: socket.socket
    admin: socket.socket


@dataclass(frozen=True, slots=True)
class Outside:
    """What boxes are told of the way out: whom to trust, and by folder which names lead to the gateway.

    Names under "" are those of agent groups that have no entry of their own.
    """

    ca_pem: str = ""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def names_for(self, folder: str) -> tuple[str, ...]:
        """Return the names for an agent group's /etc/hosts."""
        return self.names.get(folder, self.names.get("", ()))


SpawnGateway = Callable[[GatewayFds], "subprocess.Popen[bytes]"]


def gateway_command(
    python: str,
    sys_path: Sequence[str],
    directory: Path,
    fds: GatewayFds,
    *,
    admin_uid: int,
    upstream: str | None = None,
) -> list[str]:
    """Return the argv of a gateway process; it needs env={} and the two sockets inherited under their numbers.

    `sys_path` names the folders that hold `nanoclaw` and the installed packages, `admin_uid` who besides root may use
    the admin socket, `upstream` a stand-in for api.anthropic.com (tests and bench: https, or http on loopback).
    """
    command = [python, "-I", "-S", "-c", BOOT, ":".join(sys_path), str(directory)]
    command += [str(fds.control.fileno()), str(fds.admin.fileno()), str(admin_uid)]
    return [*command, upstream] if upstream else command


def spawn_as_same_user(
    python: str, sys_path: Sequence[str], directory: Path, *, upstream: str | None = None
) -> SpawnGateway:
    """Return a `SpawnGateway` for a host that is a normal user (a root host goes through sandbox/launch.py)."""

    def spawn(fds: GatewayFds) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            gateway_command(python, sys_path, directory, fds, admin_uid=os.getuid(), upstream=upstream),
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(fds.control.fileno(), fds.admin.fileno()),
        )

    return spawn


def open_admin_socket(path: Path) -> socket.socket:
    """Return the admin socket, listening at `path` (0600, an old one replaced); the client passes it to the gateway."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    listener.listen(16)
    return listener


@dataclass(slots=True)
class _Life:
    """One gateway process, from its start until it was reaped."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    channel: control.ControlChannel[control.GatewayEvent]
    pidfd: int
    started_at: float
    unfinished_line: bytes = b""


class GatewayClient:
    """The gateway as the host knows it: a service (`run`) and calls that never wait for the other process.

    `ready` is set while a gateway is up. `model_key` is whether its vault holds a model key; `on_model_key` is told at
    the first start and at every change. `on_event` gets every other event and each gateway's `Ready`, `on_log` lines of
    its stderr. `outside` is what boxes are told, kept over the lives of gateways; `on_outside` (set by host.py) hears
    of a change.
    """

    def __init__(
        self,
        spawn: SpawnGateway,
        admin: socket.socket,
        *,
        on_event: Callable[[control.GatewayEvent], None],
        on_log: Callable[[str], None],
        on_model_key: Callable[[bool], None],
        timezone: str = "UTC",
        mirrors: tuple[str, ...] = (),
    ) -> None:
        self.ready = asyncio.Event()
        self.rules = RulesTold(self._send)
        self._settings = control.HostSettings(timezone, mirrors)
        self.model_key = False
        self.vault = VaultLink(self._send)
        self.outside = Outside()
        self.on_outside: Callable[[], None] = lambda: None
        self._spawn = spawn
        self._admin = admin
        self._on_event = on_event
        self._on_log = on_log
        self._on_model_key = on_model_key
        self._grants: dict[tuple[str, int], tuple[Grant, list[socket.socket]]] = {}
        self._turns: dict[tuple[str, int], control.TurnOpened] = {}
        self._rehearsal: int | None = None
        self._life: _Life | None = None
        self._key_told: bool | None = None
        self._failures = 0
        self._stopping = False
        self._refusal: str | None = None
        self._settled = asyncio.Event()
        self._ended = asyncio.Event()
        self._last_line = ""

    @property
    def pid(self) -> int | None:
        """The process id of the gateway, None while none runs."""
        return self._life.process.pid if self._life else None

    async def run(self, stop: asyncio.Event) -> None:
        """Keep a gateway running until `stop` is set, then end it (bounded: 3 s, then SIGKILL)."""
        self._start()
        try:
            await stop.wait()
        finally:
            self._stopping = True
            await self._end()

    async def wait_ready(self) -> None:
        """Return when the gateway serves; raise OperatorError, with its own words, when it refuses to start."""
        await self._settled.wait()
        if self._refusal is not None:
            raise OperatorError(self._refusal)

    async def listen(self, grant: Grant, sockets: Sequence[socket.socket]) -> None:
        """Hand over a box's listeners (duplicated: the caller may close its own). Packets keep their order, so a turn
        opened after this is known after it."""
        duplicates = [sock.dup() for sock in sockets]
        self._forget((grant.session, grant.fence))
        self._grants[grant.session, grant.fence] = (grant, duplicates)
        self._send(control.Listen(grant.session, grant.fence, grant.group, grant.folder), duplicates)

    async def unlisten(self, session: str, fence: int) -> None:
        """Close a box's listeners and connections everywhere; without effect for one that is not known."""
        if self._forget((session, fence)):
            self._send(control.Unlisten(session, fence))

    def open_turn(self, session: str, fence: int, charge: str, attempt: int = 1) -> None:
        """Allow this run's calls from now on, charged to `charge`. Ordered, never blocks."""
        self._turns[session, fence] = control.TurnOpened(session, fence, charge, attempt)
        self._send(self._turns[session, fence])

    def close_turn(self, session: str, fence: int) -> None:
        """Allow no new calls of this run; those under way end by themselves. Ordered, never blocks."""
        if self._turns.pop((session, fence), None) is not None:
            self._send(control.TurnClosed(session, fence))

    def set_rehearsal(self, port: int | None) -> None:
        """Say where the rehearsal model listens; it is asked while the vault holds no model key."""
        self._rehearsal = port
        self._send(control.RehearsalAt(port))

    def tell(self, message: control.HoldMessage) -> None:
        """Say what became of a held call or a proposed rule. Never blocks; without a gateway it is lost: the next one
        says `Ready`, and is told again."""
        self._send(message)

    def _send(self, message: control.HostMessage, sockets: Sequence[socket.socket] = ()) -> None:
        if self._life is not None:
            self._life.channel.send(message, sockets)

    def _forget(self, key: tuple[str, int]) -> bool:
        self._turns.pop(key, None)
        grant = self._grants.pop(key, None)
        for sock in grant[1] if grant else ():
            sock.close()
        return grant is not None

    def _start(self) -> None:
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = self._spawn(GatewayFds(theirs, self._admin))
        except (OSError, SandboxError) as error:
            ours.close()
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._last_line = f"The gateway cannot be started: {reason}."
            self._on_log(f"gateway.start_failed error={reason!r}")
            self._start_later()
            return
        finally:
            theirs.close()
        if process.stderr is None:
            raise TypeError("the gateway's stderr must be a pipe")
        channel = control.ControlChannel[control.GatewayEvent](
            ours, control.parse_gateway_event, self._received, self._lost
        )
        life = _Life(process, process.stderr, channel, os.pidfd_open(process.pid), loop.time())
        self._life = life
        self._ended.clear()
        os.set_blocking(life.log.fileno(), False)
        loop.add_reader(life.log.fileno(), self._read_log, life)
        loop.add_reader(life.pidfd, self._exited, life)
        self.vault.started()
        self._send(self._settings)
        self._send(control.RehearsalAt(self._rehearsal))
        for grant, sockets in self._grants.values():
            self._send(control.Listen(grant.session, grant.fence, grant.group, grant.folder), sockets)
        for turn in self._turns.values():
            self._send(turn)

    def _received(self, event: control.GatewayEvent, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            sock.close()
        match event:
            case control.Ready(model_key=present, ca_pem=ca_pem):
                self._learn_outside(replace(self.outside, ca_pem=ca_pem))
                self.ready.set()
                self._settled.set()
                self._refusal = None
                self._learn_key(present)
                self._on_event(event)
                self.rules.ask_again()
            case control.ModelKey(present=present):
                self._learn_key(present)
            case control.RulesChanged() | control.GroupForgotten():
                self.rules.learn(event)
                self._learn_outside(replace(self.outside, names=self.rules.hosts))
            case control.VaultState() | control.KeepPassphrase() | control.Token():
                self.vault.received(event)
            case _:
                self._on_event(event)

    def _learn_outside(self, outside: Outside) -> None:
        if outside != self.outside:
            self.outside = outside
            self.on_outside()

    def _learn_key(self, present: bool) -> None:
        self.model_key = present
        if self._key_told != present:
            self._key_told = present
            self._on_model_key(present)

    def _lost(self, reason: str) -> None:
        """The control socket broke: a gateway that cannot be told of turns is no use; end it, the next one is told."""
        if self._life is not None and not self._stopping:
            self._on_log(f"gateway.lost reason={reason!r}")
            self._life.process.kill()

    def _read_log(self, life: _Life) -> None:
        try:
            data = os.read(life.log.fileno(), 65536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(life.log.fileno())
        self._log_bytes(life, data)

    def _log_bytes(self, life: _Life, data: bytes) -> None:
        *lines, life.unfinished_line = (life.unfinished_line[-65536:] + data).split(b"\n")
        for line in lines:
            self._last_line = line.decode(errors="replace")
            self._on_log(self._last_line)

    def _exited(self, life: _Life) -> None:
        """The process is gone: reap it, and start the next one unless the host stops."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(life.pidfd)
        os.close(life.pidfd)
        code = life.process.wait()
        loop.remove_reader(life.log.fileno())
        with contextlib.suppress(BlockingIOError):
            while rest := os.read(life.log.fileno(), 65536):
                self._log_bytes(life, rest)
        life.log.close()
        life.channel.close()
        self._life = None
        was_ready = self.ready.is_set()
        self.ready.clear()
        self._ended.set()
        if self._stopping:
            return
        self._on_log(f"gateway.exited code={code}")
        if code == EXIT_OPERATOR and not was_ready:
            self._failures = max(self._failures, START_TRIES - 1)  # it said why; trying again changes little
        if was_ready:  # it can start: never wait long, or a second's promise is broken
            steady = loop.time() - life.started_at > STEADY_SECONDS
            self._failures = 0 if steady else min(self._failures, 1)
        self._start_later()

    def _start_later(self) -> None:
        delay = RESTART_SECONDS[min(self._failures, len(RESTART_SECONDS) - 1)]
        self._failures += 1
        if self._failures >= START_TRIES and not self._settled.is_set():
            self._refusal = self._last_line or "The gateway did not start."
            self._settled.set()
        asyncio.get_running_loop().call_later(delay, self._start)

    async def _end(self) -> None:
        if self._life is not None:
            process = self._life.process
            self._life.channel.close()  # the gateway ends by itself when it reads the end of this
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                process.kill()
                await self._ended.wait()
        for key in list(self._grants):
            self._forget(key)
