"""Every call of a box goes through here: parse, judge, write down, then forward or refuse.

In: requests on a connection of a box (door.py), bound to one host when they came through a tunnel. Out: the answer of
the one host the call was allowed to, or a JSON refusal. Writes: the ledger: a refusal before the agent hears it, an
allowed call before its first byte upstream. Never: passes a credential of the agent's, answers a call no rule allowed,
or forwards one that is not written down.
"""

from __future__ import annotations

from typing import NoReturn, assert_never

import h11

from nanoclaw.errors import Refused
from nanoclaw.gateway import policy
from nanoclaw.gateway.ask import ask_person
from nanoclaw.gateway.audit_row import Entry, Event
from nanoclaw.gateway.boxes import Box
from nanoclaw.gateway.budget import SPENT, Planned
from nanoclaw.gateway.clerk import Clerk
from nanoclaw.gateway.exchange import Call, Desk, Route, exchange, leak_in, scan, too_large
from nanoclaw.gateway.holds import Held, Pending
from nanoclaw.gateway.inject import Headers, inject, strip_request, upstream_headers
from nanoclaw.gateway.leaks import LeakScanner
from nanoclaw.gateway.line import Failure, Line, declared_length, header_value, plain_fault
from nanoclaw.gateway.policy import Allow, Ask, Deny, Rule
from nanoclaw.gateway.target import OWN_NAME, Authority, Form, Target, parse_target
from nanoclaw.gateway.upgrade import upgrade_headers, wants_websocket
from nanoclaw.gateway.usage import Usage

OUTSIDE_A_TURN = Deny("turn", "No turn is open, so nothing may be called. Calls are made while the agent answers.")

UNENCRYPTED = Deny("vault", "A secret is never sent over plain http. Call the address with https.")
HELD_BYTES = 1024 * 1024
TOO_LARGE_TO_ASK = Deny("size", "The request is larger than 1 MiB, the most about which a person can be asked.")
CHANGED = Deny("turn", "While the call waited its turn, its rule or its secret changed. Make it again.")
NO_BODY = Deny("body", "A rule for every host lets no body go along with a GET or HEAD. Leave it out.")
EARLY = Deny("tunnel", "Bytes came before the tunnel was open. Wait for its 200.")


class Requests:
    """The requests of one connection, one after the other; `bound` is the host a tunnel was opened for."""

    def __init__(self, desk: Desk, box: Box, line: Line, bound: Authority | None = None) -> None:
        self._desk = desk
        self._box = box
        self._line = line
        self._bound = bound
        self._clerk = Clerk(desk, box)

    async def serve(self) -> Authority | None:
        """Serve until the connection ends, or until a tunnel is open: then return the host it is for."""
        try:
            while (request := await self._line.next_request()) is not None:
                tunnel = await self._serve_one(request)
                if tunnel is not None or not await self._line.start_next():
                    return tunnel
        except h11.RemoteProtocolError as error:
            await self._refuse_malformed(error)
        return None

    async def _serve_one(self, request: h11.Request) -> Authority | None:
        """Take one request from verdict to answer."""
        target = parse_target(
            request.method.decode("ascii"),
            request.target.decode("latin-1"),
            header_value(list(request.headers), b"host"),
            self._bound,
        )
        rules = self._desk.rules
        known = rules.rules_for(self._box.caller.folder)
        try:
            if target.form is Form.CONNECT:
                return await self._open_tunnel(request, target, policy.decide_tunnel(target, known))
            verdict = policy.decide(target, known, rules.moment())
            match verdict:
                case Allow() | Ask():
                    await self._forward(request, target, verdict)
                case Deny():
                    await self._refuse(target, verdict)
                case _:
                    assert_never(verdict)
        except Failure as failure:
            await self._line.answer(failure)
        return None

    async def _open_tunnel(self, request: h11.Request, target: Target, denied: Deny | None) -> Authority:
        """Answer a CONNECT. Whether a call in it is allowed is judged call by call; some rule could allow one."""
        if denied is None and (declared_length(request) != 0 or not await self._line.ends_here()):
            denied = EARLY
        if denied is not None:
            await self._refuse(target, denied)
        await self._line.accept_tunnel()
        return Authority(target.host, target.port)

    async def _refuse(
        self, target: Target, denied: Deny, status: int = 403, kind: str = "permission_error"
    ) -> NoReturn:
        """Write a refusal down, tell the host, then raise what the agent is told."""
        await self._clerk.refuse(target, denied, status)
        if isinstance(denied, Pending):
            raise Failure(status, "approval_pending", denied.reason, denied.id)
        raise Failure(status, kind, denied.reason)

    async def _forward(self, request: h11.Request, target: Target, may: Allow | Ask) -> None:
        """Take a call that a rule is for past every other gate, then make it."""
        desk, box, rule = self._desk, self._box, may.rule
        started_at = desk.clock.monotonic()
        charge = await box.find_charge(desk.limits.turn_grace_seconds)
        if charge is None:
            await self._refuse(target, OUTSIDE_A_TURN)
        route = await self._find_route(request, target, rule)
        scanner = LeakScanner(desk.secret_values(), mask=bool(rule.model))
        head = await self._make_head(request, target, may.path, route, scanner)
        held = b""
        if isinstance(may, Ask) or desk.purse.wants_body(box.caller, charge):
            held = await self._hold_body(target, scanner, whole=isinstance(may, Ask))
        await box.calls.wait()
        reservation = desk.purse.reserve(
            Planned(
                box.caller,
                charge,
                rule,
                held,
                declared_length(request),
                target.method,
                target.path,
                attempt=box.attempt,
                rehearsed=route.rehearsed,
            )
        )
        if isinstance(reservation, Deny):
            status, kind = (402, "billing_error") if reservation.rule == SPENT else (429, "rate_limit_error")
            await self._refuse(target, reservation, status, kind)
        name, host = ("rehearsal", "rehearsal") if route.rehearsed else (rule.name, target.host)
        entry = Entry(
            Event.ALLOWED, box.caller, charge=charge, method=target.method, host=host, path=target.path, rule=name
        )
        try:
            if isinstance(may, Ask) and box.charge == charge:
                await self._ask(target, may, held)
            if (denied := self._find_change(target, may, charge, route)) is not None:
                await self._refuse(target, denied)
            number = await self._clerk.record(entry, reservation)
        except BaseException:  # boundary: whatever ends a call before it is made frees what was reserved for it
            desk.purse.settle(reservation, Usage())
            raise
        call = Call(
            number, entry, rule, route, head, held, scanner, reservation, started_at, lambda: box.charge is not None
        )
        try:
            await exchange(desk, self._line, call)
        except Failure:
            if call.leak is not None:
                await self._refuse(target, call.leak)
            raise

    async def _find_route(self, request: h11.Request, target: Target, rule: Rule) -> Route:
        """Return where a call goes, past the gates that need no more of it than its framing."""
        desk, length = self._desk, declared_length(request)
        if length is not None and length > desk.limits.body_bytes:
            failure = too_large(desk.limits)
            await self._refuse(target, Deny("size", failure.message), failure.status, failure.kind)
        if wants_websocket(request) and not (rule.upgrade and length == 0):
            await self._refuse(target, no_upgrade(rule))
        if rule.host == policy.ANY_HOST and length != 0 and target.method in {"GET", "HEAD"}:
            await self._refuse(target, NO_BODY)
        if (kept := desk.access.deny(target)) is not None:
            await self._refuse(target, kept)
        await desk.custody.settled()
        route = desk.find_route(rule, target)
        if isinstance(route, Deny):
            await self._refuse(target, route, 503, "api_error")
        if (limited := desk.rates.take(self._box.caller.folder, rule)) is not None:
            await self._refuse(target, limited, 429, "rate_limit_error")
        return route

    async def _make_head(
        self, request: h11.Request, target: Target, path: str, route: Route, scanner: LeakScanner
    ) -> h11.Request:
        """Return the head that goes upstream: stripped, scanned, its host looked up, its secret put on."""
        headers = strip_request(request.headers)
        await self._stop_leak(target, "head", scanner.find_in_head(target, headers))
        if (
            closed := await self._desk.pool.judge(
                route.endpoint_for(self._box.caller), self._desk.limits.connect_seconds
            )
        ) is not None:
            await self._refuse(target, closed)
        headers = upstream_headers(headers, route.endpoint.authority, declared_length(request))
        headers, path = await self._inject(target, headers, path, route)
        headers = upgrade_headers(headers) if wants_websocket(request) else headers
        return h11.Request(method=request.method, target=path, headers=headers)

    async def _inject(self, target: Target, headers: Headers, path: str, route: Route) -> tuple[Headers, str]:
        """Return headers and path with the secret of the route put on."""
        if route.secret is None:
            return headers, path
        if not target.tls:
            await self._refuse(target, UNENCRYPTED)
        try:
            stored, secret = route.secret
            return inject(headers, path, stored, await self._desk.access.usable(stored, secret), target.host)
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
        held, found = await scan(self._line, scanner, body)
        await self._stop_leak(target, "body", found)
        if not ended:
            return held
        rest, found = scanner.finish()
        await self._stop_leak(target, "body", found)
        return held + rest

    async def _ask(self, target: Target, may: Ask, held: bytes) -> None:
        """Return when a person has said yes to a call."""
        denied = await ask_person(self._desk, self._line, Held(self._box.caller, may.rule, target, held))
        if denied is not None:
            await self._refuse(target, denied)

    def _find_change(self, target: Target, may: Allow | Ask, charge: str, route: Route) -> Deny | None:
        """Return what speaks against a call that did not when it came: it may have waited, for a person or for its own
        body, as long as the agent liked."""
        desk, charged = self._desk, self._box.charge
        verdict = policy.decide(target, desk.rules.rules_for(self._box.caller.folder), desk.rules.moment())
        if isinstance(verdict, Deny):
            return verdict
        same = isinstance(may, Ask) or verdict == may
        if charged == charge and same and route.is_still(desk.find_route(may.rule, target)):
            return None
        return CHANGED if charged else OUTSIDE_A_TURN

    async def _refuse_malformed(self, error: h11.RemoteProtocolError) -> None:
        denied = Deny("http", f"The request is not valid HTTP: {plain_fault(error)}.")
        target = Target(Form.ORIGIN, "", self._bound.host if self._bound else OWN_NAME, "")
        try:
            await self._refuse(target, denied, error.error_status_hint, "invalid_request_error")
        except Failure as failure:
            await self._line.answer(failure)


def no_upgrade(rule: Rule) -> Deny:
    """Return the refusal of a WebSocket that a rule does not allow."""
    words = f"The rule {rule.name!r} lets no WebSocket through."
    return Deny("upgrade", f"{words} An admin allows it with `upgrade = true` in the rule (`nanoclaw egress`).")
