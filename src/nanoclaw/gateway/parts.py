"""Everything the gateway's process holds, wired together: what host and operator say reaches its part here.

In: messages of the host on the control socket, connections on the admin socket. Out: events to the host.
Writes: nothing by itself. Never: decides about a call. Fails: `serve` ends when the host is gone or SIGTERM comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from nanoclaw.clock import SystemClock
from nanoclaw.gateway import admin_words, control, policy
from nanoclaw.gateway.admin import AdminDesk, serve_admin
from nanoclaw.gateway.admin_egress import open_egress
from nanoclaw.gateway.boxes import Box, Boxes, Limits
from nanoclaw.gateway.ca import SEALED_NAME, Certificates, make_authority
from nanoclaw.gateway.cashier import Cashier, open_purse
from nanoclaw.gateway.custody import Custody
from nanoclaw.gateway.door import serve_connection
from nanoclaw.gateway.exchange import Desk, Route
from nanoclaw.gateway.holds import Holds
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.oauth import AccessTokens
from nanoclaw.gateway.policy import Caller, Deny, Rule
from nanoclaw.gateway.rates import Rates
from nanoclaw.gateway.rule_sets import build_rules
from nanoclaw.gateway.target import Target
from nanoclaw.gateway.upstream import Endpoint, UpstreamPool
from nanoclaw.gateway.vault import LOCKED, Vault
from nanoclaw.gateway.wanted import SecretWatch
from nanoclaw.log import Log

ADMIN_CONNECTIONS = 16
NO_MODEL = Deny(
    "key", "No model key is set and the rehearsal model is not running. Set a key with `nanoclaw vault set anthropic`."
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the process was started with. `upstream` stands in for the model's host."""

    directory: Path
    control_fd: int
    admin_fd: int
    admin_uid: int
    upstream: Endpoint | None


async def contain(work: Coroutine[Any, Any, None], log: Log) -> None:
    """Await the work of one connection; a fault in it is logged and ends it alone."""
    try:
        await work
    except Exception as error:  # boundary: one connection's fault must not stop the others
        log.error("gateway.connection_failed", error=repr(error), trace=traceback.format_exc())


class Gateway:
    """Everything the process holds, wired together."""

    def __init__(self, arguments: Arguments, vault: Vault, ledger: Ledger, tasks: asyncio.TaskGroup, log: Log) -> None:
        self._arguments = arguments
        self._vault = vault
        self._ledger = ledger
        self._tasks = tasks
        self._log = log
        self._limits = Limits()
        self._pool = UpstreamPool()
        self._rehearsal: int | None = None
        self._boxes = Boxes(self._spawn, self._serve_box, self._limits)
        self._admins: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        clock = SystemClock()
        purse = open_purse(ledger, clock)
        self._cashier = Cashier(ledger, purse, clock)
        self._certificates = Certificates(clock)
        self._custody = Custody(vault, ledger, clock, self._tell)
        self._access = AccessTokens(self._custody, self._pool, clock, self._spawn)
        self._egress = open_egress(arguments.directory, clock, vault, ledger, self._tell_rules)
        secret_values = SecretWatch(vault.values)
        self._desk = Desk(
            rules=self._egress.rules,
            rates=Rates(clock),
            purse=purse,
            certificates=self._certificates,
            holds=Holds(ledger, self._tell, secret_values, clock, self._limits),
            find_route=self._find_route,
            custody=self._custody,
            access=self._access,
            secret_values=secret_values,
            ledger=ledger,
            pool=self._pool,
            clock=clock,
            limits=self._limits,
            spawn=self._spawn,
            tell=self._tell,
        )
        self._admin_desk = AdminDesk(
            self._custody, ledger, arguments.admin_uid, self._describe, self._cashier, self._egress
        )
        host = socket.socket(fileno=arguments.control_fd)
        self._host = control.ControlChannel[control.HostMessage](
            host, control.parse_host_message, self._received, self._host_gone
        )

    async def serve(self) -> None:
        """Serve until the host closes the control socket or SIGTERM comes."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        admin = socket.socket(fileno=self._arguments.admin_fd)
        admin.setblocking(False)
        loop.add_reader(admin.fileno(), self._accept_admin, admin)
        self._custody.on_open = self._serve_open
        self._custody.on_change = self._tell_rules  # rules that want a secret come and go with it
        self._serve_open()
        self._host.send(self._custody.state())
        if self._egress.rules.fault:
            self._log.error("rules.not_taken", reason=self._egress.rules.fault)
        self._log.info(
            "gateway.started", pid=os.getpid(), model_key=self._custody.model_key, audit_rows=self._ledger.rows
        )
        await self._stop.wait()
        loop.remove_reader(admin.fileno())
        admin.close()
        self._boxes.close()
        self._pool.close()
        for task in self._admins:
            task.cancel()
        self._host.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.create_task(contain(work, self._log))

    async def _serve_box(self, box: Box, sock: socket.socket) -> None:
        await serve_connection(self._desk, box, sock)

    def _received(self, message: control.HostMessage, sockets: list[socket.socket]) -> None:
        match message:
            case control.Listen(session=session, fence=fence, group=group, folder=folder):
                self._boxes.add(Caller(session, fence, group, folder), sockets)
                return
            case control.Unlisten(session=session, fence=fence):
                self._boxes.remove(session, fence)
            case control.TurnOpened(session=session, fence=fence, charge=charge, attempt=attempt):
                self._boxes.open_turn(session, fence, charge, attempt)
            case control.TurnClosed(session=session, fence=fence):
                self._boxes.close_turn(session, fence)
            case control.RehearsalAt(port=port):
                self._rehearsal = port
            case control.Unlock() | control.TokenWanted():
                self._spawn(self._custody.take(message))
            case control.HoldAsked() | control.HoldDecided() | control.AddRule():
                self._hear_person(message)
            case control.HostSettings(timezone=timezone, mirrors=mirrors):
                self._egress.rules.set_timezone(timezone)
                self._egress.rules.builds = build_rules(mirrors)
                self._cashier.set_timezone(timezone)
            case control.GroupGone(folder=folder):
                self._spawn(self._forget_group(folder))
            case _:
                assert_never(message)
        for sock in sockets:
            sock.close()

    def _hear_person(self, message: control.HoldMessage) -> None:
        match message:
            case control.HoldAsked():
                self._desk.holds.asked(message)
            case control.HoldDecided():
                self._spawn(self._desk.holds.decide(message))
            case control.AddRule():
                self._spawn(self._add_rule(message))
            case _:
                assert_never(message)

    def _host_gone(self, reason: str) -> None:
        self._stop.set()  # before the log: a host that was killed does not read it any more, and writing fails
        with contextlib.suppress(OSError):
            self._log.info("gateway.stopped", reason=reason)

    def _tell(self, event: control.GatewayEvent) -> None:
        self._host.send(event)

    def _tell_rules(self) -> None:
        for message in self._egress.rules.host_messages():
            self._tell(message)

    async def _add_rule(self, asked: control.AddRule) -> None:
        self._tell(await self._egress.add_approved(asked))

    async def _forget_group(self, folder: str) -> None:
        self._tell(control.GroupForgotten(folder, await self._egress.forget_group(folder)))

    def _serve_open(self) -> None:
        """Say that this process serves; again when the vault was unlocked, with the certificate that boxes trust."""
        self._open_authority()
        self._host.send(control.Ready(self._custody.model_key, self._certificates.pem))
        self._tell_rules()

    def _open_authority(self) -> None:
        """Sign with this install's authority, made at the first start; without effect while the vault is locked."""
        if self._vault.locked or self._certificates.pem:
            return
        if (sealed := self._vault.unseal(SEALED_NAME)) is None:
            sealed = make_authority(socket.gethostname(), SystemClock())
            self._vault.seal(SEALED_NAME, sealed)
        self._certificates.open(sealed)

    def _find_route(self, rule: Rule, target: Target) -> Route | Deny:
        """Return where a call goes now, with what is put on it; a model without its key is the rehearsal, if it runs.

        Denied is a call whose secret is not there, or lies in a vault that is locked.
        """
        endpoint = Endpoint(target.host, target.port, tls=target.tls, allow_private=rule.allow_private)
        if not rule.inject:
            return Route(endpoint, None)
        is_model = rule.inject == policy.MODEL_SECRET
        if (secret := self._vault.find(rule.inject)) is not None:
            return Route((self._arguments.upstream if is_model else None) or endpoint, secret)
        if self._vault.holds(rule.inject):
            return Deny("vault", LOCKED)
        if is_model and self._rehearsal is not None:
            return Route(Endpoint("127.0.0.1", self._rehearsal, tls=False, allow_private=True), None, rehearsed=True)
        return NO_MODEL if is_model else no_secret(rule)

    def _describe(self) -> admin_words.GatewayStatus:
        boxes = list(self._boxes)
        return admin_words.GatewayStatus(
            pid=os.getpid(),
            model_key=self._custody.model_key,
            rehearsal_port=self._rehearsal,
            boxes=len(boxes),
            open_turns=sum(box.charge is not None for box in boxes),
            connections=sum(len(box.connections) for box in boxes),
            audit_rows=self._ledger.rows,
            audit_head=self._ledger.head,
            rules_generation=self._egress.rules.generation,
            rules_fault=self._egress.rules.fault,
            vault_locked=self._vault.locked,
            vault_by=self._vault.protection,
            refused_access=self._access.refusals(),
        )

    def _accept_admin(self, admin: socket.socket) -> None:
        try:
            sock, _ = admin.accept()
        except OSError:
            return
        if len(self._admins) >= ADMIN_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        task = self._spawn(serve_admin(self._admin_desk, sock))
        self._admins.add(task)
        task.add_done_callback(self._admins.discard)


def no_secret(rule: Rule) -> Deny:
    """Return the refusal of a call whose rule puts on a secret that is not there."""
    words = f"The rule {rule.name!r} puts on the secret {rule.inject!r}, which is not set."
    return Deny("key", f"{words} Set it with `nanoclaw vault set {rule.inject}`.")
