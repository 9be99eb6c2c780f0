"""Where a box's connection comes in: plain HTTP, a tunnel, or TLS straight away. TLS ends here, calls go to proxy.py.

In: an accepted connection and the box it belongs to. Out: its requests, bound to the one host that CONNECT, server name
and certificate agree on. Writes: the ledger, a handshake that is refused. Never: passes on bytes that it cannot read.
Fails: a client that misbehaves loses its connection, one that floods is slowed; nothing it does ends another's.

A client that knows no proxy finds the gateway by /etc/hosts and begins TLS at once, on the box's port 443; its server
name stands for the CONNECT. A hello that is encrypted (ECH) has the name of its outer part, which no rule is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from nanoclaw.gateway import hello, policy
from nanoclaw.gateway.boxes import Box
from nanoclaw.gateway.clerk import Clerk
from nanoclaw.gateway.exchange import Desk
from nanoclaw.gateway.line import READ_BYTES, Failure, Line
from nanoclaw.gateway.policy import Deny, Rule
from nanoclaw.gateway.proxy import Requests
from nanoclaw.gateway.target import HTTPS_PORT, Authority, Form, Target, is_name, shown
from nanoclaw.gateway.tls import HandshakeFailed, TlsStream

LOCKED = Deny("key", "The vault is locked, so TLS cannot end here. `nanoclaw vault unlock` opens it.")


async def serve_connection(desk: Desk, box: Box, sock: socket.socket) -> None:
    """Serve one accepted connection until it ends; a client that goes, stalls or babbles is no error."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        line = Line(reader, writer, desk.limits, box.turns)
        await _serve(desk, box, line)
        await line.linger()
        writer.close()
    except (OSError, TimeoutError, Failure):
        transport.abort()  # nothing is owed to a client that went, sent nothing for too long or was broken off
    finally:
        if not writer.is_closing():
            transport.abort()


async def _serve(desk: Desk, box: Box, line: Line) -> None:
    first = await line.read(desk.limits.idle_seconds)
    tunnel: Authority | None = None
    if not is_tls(first):
        line.receive(first)
        if (tunnel := await Requests(desk, box, line).serve()) is None:
            return
        first = await line.read(desk.limits.header_seconds)
        if not first:
            return
    await _Handshake(desk, box, line, tunnel).serve(first)


class _Handshake:
    """One TLS handshake of a box; `tunnel` is what its CONNECT named, None when there was none."""

    def __init__(self, desk: Desk, box: Box, line: Line, tunnel: Authority | None) -> None:
        self._desk = desk
        self._box = box
        self._line = line
        self._tunnel = tunnel
        self._clerk = Clerk(desk, box)

    async def serve(self, first: bytes) -> None:
        """End TLS here and serve the requests inside, or end the connection with an alert."""
        data = await self._read_hello(first)
        name = (hello.find_server_name(data) or "").lower()
        bound = self._tunnel or Authority(name, HTTPS_PORT)
        target = Target(Form.TLS, "TLS", bound.host, "", port=bound.port)
        denied = decide_handshake(data, name, self._tunnel, self._desk.rules.rules_for(self._box.caller.folder))
        context = None if denied else self._desk.certificates.context_for(bound.host)
        if context is None:
            await self._refuse(target, denied or LOCKED)
            self._line.write(hello.ACCESS_DENIED)
            return
        await self._box.handshakes.wait()
        stream = TlsStream(self._line.incoming, self._line.outgoing, context)
        try:
            async with asyncio.timeout(self._desk.limits.header_seconds):
                await stream.shake_hands(data)
        except HandshakeFailed as failed:
            words = f"The TLS handshake for {shown(bound.host)} failed: {failed}. Does the client trust the box's CA?"
            await self._refuse(target, Deny("tls", words))
            return
        line = Line(stream, stream, self._desk.limits, self._box.turns)
        await Requests(self._desk, self._box, line, bound).serve()
        line.end()

    async def _read_hello(self, first: bytes) -> bytes:
        """Return the first record, or what came of it in time, or what is none."""
        data = first
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._desk.limits.header_seconds):
                while is_tls(data) and not hello.is_complete(data) and (more := await self._line.watch()):
                    data += more
        return data

    async def _refuse(self, target: Target, denied: Deny) -> None:
        with contextlib.suppress(Failure):  # it cannot be written down: it is refused all the same
            await self._clerk.refuse(target, denied)


def decide_handshake(data: bytes, name: str, tunnel: Authority | None, rules: tuple[Rule, ...]) -> Deny | None:
    """Return why TLS does not end here: `data` is no hello, or its server name is not the one host that is allowed."""
    if not is_tls(data):
        return Deny("tunnel", "What came through the tunnel is not TLS, and nothing else is let through.")
    if tunnel is None:
        return policy.decide_tunnel(Target(Form.TLS, "TLS", name, ""), rules)
    if name == (tunnel.host if is_name(tunnel.host) else ""):
        return None
    words = f"The tunnel was opened for {shown(tunnel.host)}, but its TLS handshake is for {shown(name) or 'no name'}."
    return Deny("tunnel", words)


def is_tls(data: bytes) -> bool:
    """Whether a connection begins with a TLS handshake; no request of HTTP begins with that byte."""
    return data[:1] == bytes((hello.HANDSHAKE,))
