"""Every call of a box goes through here: parse, judge, write down, then forward or refuse.

In: an accepted connection and the box it belongs to. Out: the answer of the one host the call was allowed to, or a
JSON refusal. Writes: the ledger: a refusal before the agent hears it, an allowed call before its first byte upstream.
Never: passes a credential of the agent's, answers a call no rule allowed, or forwards one that is not written down.
Fails: a client that misbehaves loses its connection, one that floods is slowed; nothing it does ends another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import NoReturn, assert_never

import h11

from nanoclaw.errors import Refused
from nanoclaw.gateway import control, hello, policy
from nanoclaw.gateway.ask import ask_person
from nanoclaw.gateway.boxes import Box
from nanoclaw.gateway.budget import SPENT, Planned, Reservation
from nanoclaw.gateway.exchange import Call, Desk, Route, exchange, leak_in, too_large
from nanoclaw.gateway.holds import Held, Pending
from nanoclaw.gateway.inject import Headers, inject, strip_request, upstream_headers
from nanoclaw.gateway.leaks import LeakScanner
from nanoclaw.gateway.ledger import Entry, Event, LedgerError
from nanoclaw.gateway.line import DRAIN_SECONDS, READ_BYTES, Failure, Line, declared_length, header_value
from nanoclaw.gateway.policy import Allow, Ask, Deny, Rule
from nanoclaw.gateway.target import OWN_NAME, Form, Target, parse_target, shown
from nanoclaw.gateway.usage import Usage

OUTSIDE_A_TURN = Deny("turn", "No turn is open, so nothing may be called. Calls are made while the agent answers.")
NO_MODEL = Deny(
    "key", "No model key is set and the rehearsal model is not running. Set a key with `nanoclaw vault set anthropic`."
)

UNENCRYPTED = Deny("vault", "A secret is never sent over plain http. Call the address with https.")
HELD_BYTES = 1024 * 1024
TOO_LARGE_TO_ASK = Deny("size", "The request is larger than 1 MiB, the most about which a person can be asked.")


async def serve_connection(desk: Desk, box: Box, sock: socket.socket) -> None:
    """Serve one accepted connection until it ends; a client that goes, stalls or babbles is no error."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        line = Line(reader, writer, desk.limits)
        await _Connection(desk, box, line).run()
        await line.linger()
        writer.close()
    except (OSError, TimeoutError, Failure):
        transport.abort()  # nothing is owed to a client that went, sent nothing for too long or was broken off
    finally:
        if not writer.is_closing():
            transport.abort()


class _Connection:
    """One client connection, one call after the other."""

    def __init__(self, desk: Desk, box: Box, line: Line) -> None:
        self._desk = desk
        self._box = box
        self._line = line

    async def run(self) -> None:
        first = await self._line.read(self._desk.limits.idle_seconds)
        if first[:1] == bytes((hello.HANDSHAKE,)):
            await self._refuse_tls(first)
            return
        self._line.receive(first)
        try:
            while (request := await self._line.next_request()) is not None:
                await self._serve(request)
                if not await self._line.start_next():
                    return
        except h11.RemoteProtocolError as error:
            await self._refuse_malformed(error)

    async def _serve(self, request: h11.Request) -> None:
        """Take one request from verdict to answer."""
        target = parse_target(
            request.method.decode("ascii"),
            request.target.decode("latin-1"),
            header_value(list(request.headers), b"host"),
        )
        rules = self._desk.rules
        verdict = policy.decide(target, rules.rules_for(self._box.caller.folder), rules.moment())
        try:
            match verdict:
                case Allow() | Ask():
                    await self._forward(request, target, verdict)
                case Deny():
                    await self._refuse(target, verdict)
                case _:
                    assert_never(verdict)
        except Failure as failure:
            await self._line.answer(failure)

    async def _refuse(
        self, target: Target, denied: Deny, status: int = 403, kind: str = "permission_error"
    ) -> NoReturn:
        """Write a refusal down, tell the host, then raise what the agent is told."""
        caller = self._box.caller
        await self._box.refusals.wait()
        await self._record(
            Entry(
                Event.REFUSED,
                caller,
                method=target.method,
                host=target.host,
                path=target.path,
                rule=denied.rule,
                reason=denied.reason,
                status=status,
            )
        )
        self._desk.tell(
            control.CallRefused(
                session=caller.session,
                fence=caller.fence,
                group=caller.group,
                method=shown(target.method),
                host=shown(target.host),
                path=shown(target.path),
                rule=denied.rule,
                reason=denied.reason,
            )
        )
        raise Failure(status, kind, denied.reason, denied.id if isinstance(denied, Pending) else "")

    async def _forward(self, request: h11.Request, target: Target, may: Allow | Ask) -> None:
        """Take a call that a rule is for past every other gate, then make it."""
        desk, box, rule = self._desk, self._box, may.rule
        started_at = desk.clock.monotonic()
        charge = await box.find_charge(desk.limits.turn_grace_seconds)
        if charge is None:
            await self._refuse(target, OUTSIDE_A_TURN)
        length = declared_length(request)
        if length is not None and length > desk.limits.body_bytes:
            failure = too_large(desk.limits)
            await self._refuse(target, Deny("size", failure.message), failure.status, failure.kind)
        route = desk.find_route(rule, target)
        if route is None:
            await self._refuse(target, no_secret(rule), 503, "api_error")
        if (limited := desk.rates.take(box.caller.folder, rule)) is not None:
            await self._refuse(target, limited, 429, "rate_limit_error")
        scanner = LeakScanner(desk.secret_values(), mask=bool(rule.model))
        headers = strip_request(request.headers)
        await self._stop_leak(target, "head", scanner.find_in_head(target, headers))
        if (closed := await desk.pool.judge(route.endpoint, desk.limits.connect_seconds)) is not None:
            await self._refuse(target, closed)
        headers = upstream_headers(headers, route.endpoint.authority, length)
        headers, path = await self._inject(target, headers, may.path, route)
        held = b""
        if isinstance(may, Ask) or desk.purse.wants_body(box.caller, charge):
            held = await self._hold_body(target, scanner, whole=isinstance(may, Ask))
        await box.calls.wait()
        reservation = desk.purse.reserve(
            Planned(box.caller, charge, rule, held, length, target.method, target.path, rehearsed=route.rehearsed)
        )
        if isinstance(reservation, Deny):
            status, kind = (402, "billing_error") if reservation.rule == SPENT else (429, "rate_limit_error")
            await self._refuse(target, reservation, status, kind)
        name, host = ("rehearsal", "rehearsal") if route.rehearsed else (rule.name, target.host)
        entry = Entry(
            Event.ALLOWED, box.caller, charge=charge, method=target.method, host=host, path=target.path, rule=name
        )
        try:
            number = await self._allow(target, may, held, entry, reservation)
        except BaseException:  # boundary: whatever ends a call before it is made frees what was reserved for it
            desk.purse.settle(reservation, Usage())
            raise
        head = h11.Request(method=request.method, target=path, headers=headers)
        call = Call(number, entry, rule, route, head, held, scanner, reservation, started_at)
        try:
            await exchange(desk, self._line, call)
        except Failure:
            if call.leak is not None:
                await self._refuse(target, call.leak)
            raise

    async def _inject(self, target: Target, headers: Headers, path: str, route: Route) -> tuple[Headers, str]:
        """Return headers and path with the secret of the route put on."""
        if route.secret is None:
            return headers, path
        if not target.tls:
            await self._refuse(target, UNENCRYPTED)
        try:
            return inject(headers, path, *route.secret, target.host)
        except Refused as refused:
            await self._refuse(target, Deny("vault", refused.reason))

    async def _stop_leak(self, target: Target, where: str, found: str | None) -> None:
        if found is not None:
            await self._refuse(target, leak_in(where, found))

    async def _hold_body(self, target: Target, scanner: LeakScanner, *, whole: bool) -> bytes:
        """Return what may be passed on of the first MiB of the body; a person is asked only about a whole one."""
        body, ended = await self._line.hold(HELD_BYTES)
        if whole and not ended:
            await self._refuse(target, TOO_LARGE_TO_ASK, 413, "request_too_large")
        held, found = scanner.feed(body)
        await self._stop_leak(target, "body", found)
        if not ended:
            return held
        rest, found = scanner.finish()
        await self._stop_leak(target, "body", found)
        return held + rest

    async def _allow(
        self, target: Target, may: Allow | Ask, held: bytes, entry: Entry, reservation: Reservation
    ) -> int:
        """Return the number of the row that says that a call goes out, once it is written; an Ask needs its person."""
        if isinstance(may, Ask):
            denied = await ask_person(self._desk, self._line, Held(self._box.caller, may.rule, target, held))
            if denied is not None:
                await self._refuse(
                    target, denied, kind="approval_pending" if isinstance(denied, Pending) else "permission_error"
                )
        return await self._record(entry, reservation)

    async def _record(self, entry: Entry, reservation: Reservation | None = None) -> int:
        try:
            return await self._desk.ledger.record(entry, reservation)
        except LedgerError as error:
            message = f"{error} Nothing is called while it cannot be written down; see `nanoclaw doctor`."
            raise Failure(503, "api_error", message) from None

    async def _refuse_malformed(self, error: h11.RemoteProtocolError) -> None:
        denied = Deny("http", f"The request is not valid HTTP: {error}.")
        target = Target(Form.ORIGIN, "", OWN_NAME, "")
        try:
            await self._refuse(target, denied, error.error_status_hint, "invalid_request_error")
        except Failure as failure:
            await self._line.answer(failure)

    async def _refuse_tls(self, first: bytes) -> None:
        """Write down which host a TLS handshake wanted, then end it with an alert."""
        data = first
        with contextlib.suppress(TimeoutError):
            while not hello.is_complete(data) and (more := await self._line.read(DRAIN_SECONDS)):
                data += more
        target = Target(Form.TLS, "TLS", hello.find_server_name(data) or "", "")
        with contextlib.suppress(Failure):
            await self._refuse(target, policy.deny_default(target, ()))
        self._line.write(hello.ACCESS_DENIED)


def no_secret(rule: Rule) -> Deny:
    """Return the refusal of a call whose rule puts on a secret that is not there."""
    if rule.inject == policy.MODEL_SECRET:
        return NO_MODEL
    words = f"The rule {rule.name!r} puts on the secret {rule.inject!r}, which is not set."
    return Deny("key", f"{words} Set it with `nanoclaw vault set {rule.inject}`.")
