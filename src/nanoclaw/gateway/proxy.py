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
from nanoclaw.gateway.boxes import Box
from nanoclaw.gateway.budget import Planned, Reservation
from nanoclaw.gateway.exchange import Call, Desk, exchange, header_value, too_large
from nanoclaw.gateway.inject import inject, strip_request, upstream_headers
from nanoclaw.gateway.ledger import Entry, Event, LedgerError
from nanoclaw.gateway.line import DRAIN_SECONDS, READ_BYTES, Failure, Line
from nanoclaw.gateway.policy import Allow, Ask, Deny
from nanoclaw.gateway.target import OWN_NAME, Form, Target, parse_target, shown
from nanoclaw.gateway.usage import Usage

OUTSIDE_A_TURN = Deny("turn", "No turn is open, so nothing may be called. Calls are made while the agent answers.")
NO_MODEL = Deny(
    "key", "No model key is set and the rehearsal model is not running. Set a key with `nanoclaw vault set anthropic`."
)


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
                case Allow():
                    await self._forward(request, target, verdict)
                case Ask():
                    denied = await self._desk.holds.ask(self._box.caller, verdict.rule, target, b"")
                    await self._refuse(target, denied or NO_MODEL, target.host)
                case Deny():
                    await self._refuse(target, verdict, target.host)
                case _:
                    assert_never(verdict)
        except Failure as failure:
            await self._line.answer(failure)

    async def _refuse(
        self, target: Target, denied: Deny, host: str, status: int = 403, kind: str = "permission_error"
    ) -> NoReturn:
        """Write a refusal down, tell the host, then raise what the agent is told."""
        caller = self._box.caller
        await self._box.refusals.wait()
        await self._record(
            Entry(
                Event.REFUSED,
                caller,
                method=target.method,
                host=host,
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
                host=shown(host),
                path=shown(target.path),
                rule=denied.rule,
                reason=denied.reason,
            )
        )
        raise Failure(status, kind, denied.reason)

    async def _record(self, entry: Entry, reservation: Reservation | None = None) -> int:
        try:
            return await self._desk.ledger.record(entry, reservation)
        except LedgerError as error:
            if reservation is not None:
                self._desk.purse.settle(reservation, Usage())  # it is not made
            message = f"{error} Nothing is called while it cannot be written down; see `nanoclaw doctor`."
            raise Failure(503, "api_error", message) from None

    async def _forward(self, request: h11.Request, target: Target, allowed: Allow) -> None:
        """Make a call that a rule allows, when a turn pays for it and there is somewhere to go."""
        rule, limits = allowed.rule, self._desk.limits
        started_at = self._desk.clock.monotonic()
        charge = await self._box.find_charge(limits.turn_grace_seconds)
        if charge is None:
            await self._refuse(target, OUTSIDE_A_TURN, rule.host)
        length = _declared_length(request)
        if length is not None and length > limits.body_bytes:
            failure = too_large(limits)
            await self._refuse(target, Deny("size", failure.message), rule.host, failure.status, failure.kind)
        route = self._desk.find_route(rule)
        if route is None:
            await self._refuse(target, NO_MODEL, rule.host, 503, "api_error")
        if (closed := await self._desk.pool.judge(route.endpoint, limits.connect_seconds)) is not None:
            await self._refuse(target, closed, rule.host)
        headers = upstream_headers(strip_request(request.headers), route.endpoint.authority, length)
        await self._box.calls.wait()
        name, host = "rehearsal", "rehearsal"
        if route.secret is not None:
            name, host = rule.name, rule.host
            try:
                headers = inject(headers, *route.secret, host)
            except Refused as refused:
                await self._refuse(target, Deny("vault", refused.reason), host)
        entry = Entry(
            Event.ALLOWED, self._box.caller, charge=charge, method=target.method, host=host, path=target.path, rule=name
        )
        planned = Planned(
            self._box.caller, charge, rule, b"", length, target.method, target.path, rehearsed=route.secret is None
        )
        reservation = self._desk.purse.reserve(planned)
        if isinstance(reservation, Deny):
            await self._refuse(target, reservation, host, 402, "billing_error")
        number = await self._record(entry, reservation)
        head = h11.Request(method=request.method, target=allowed.path, headers=headers)
        await exchange(self._desk, self._line, Call(number, entry, route, head, started_at, reservation))

    async def _refuse_malformed(self, error: h11.RemoteProtocolError) -> None:
        denied = Deny("http", f"The request is not valid HTTP: {error}.")
        target = Target(Form.ORIGIN, "", OWN_NAME, "")
        try:
            await self._refuse(target, denied, target.host, error.error_status_hint, "invalid_request_error")
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
            await self._refuse(target, policy.deny_default(target, ()), target.host)
        self._line.write(hello.ACCESS_DENIED)


def _declared_length(request: h11.Request) -> int | None:
    """Return the length a request declares, 0 when it has no body, None when it comes in chunks (h11 checked them)."""
    headers = list(request.headers)
    if header_value(headers, b"transfer-encoding"):
        return None
    return int(header_value(headers, b"content-length") or 0)
