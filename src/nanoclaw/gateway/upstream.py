"""Connections to the outside, kept alive and reused: to checked addresses only, TLS 1.2 or newer where the rule has it.

In: an `Endpoint`. Out: an `UpstreamConnection` that speaks HTTP/1.1. Never: follows a redirect, offers HTTP/2, serves
a call over a connection that another rule's `allow_private` opened, or hands out one on which bytes of an earlier call
may still arrive.
Fails: UpstreamError in plain words, at once or after the connect timeout.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import socket
import ssl
from asyncio.staggered import staggered_race
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import h11

from nanoclaw.errors import NanoClawError, OperatorError
from nanoclaw.gateway.addresses import AddressRefused, LookupFailed, Resolver, SocketAddress
from nanoclaw.gateway.line import PIECES_AT_ONCE, plain_fault
from nanoclaw.gateway.policy import Deny
from nanoclaw.gateway.turns import Turns

READ_BYTES = 64 * 1024
HEADER_BYTES = 64 * 1024
INTERIM_MAX = 100  # answers of 1xx before the one that counts
IDLE_MAX = 64  # a host: as many as one box may have in use, so that none is opened anew while all are busy
IDLE_SECONDS = 60.0
EYEBALLS_SECONDS = 0.25  # RFC 8305: what the next address waits while one is tried
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Where systems keep their certificates, for interpreters built with another place in mind.
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class UpstreamError(NanoClawError):
    """The other side could not be reached, broke off, or does not speak HTTP."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a call goes, and the key of the connections that are kept: `allow_private` is part of it.

    `authority` is what the Host header says.
    """

    host: str
    port: int
    tls: bool
    allow_private: bool = False
    whose: str = ""  # no two share a connection: a server that takes a body for the next call would mix them up

    @property
    def authority(self) -> str:
        """Return host and port, without the port where it is the usual one."""
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """Return the endpoint of a stand-in given by the operator: https, or http on loopback. Raises OperatorError.

    It is the one place besides a rule from which `allow_private` comes: the operator named the address.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in {"http", "https"} or parts.path not in {"", "/"} or parts.query:
        raise OperatorError(f"{url!r} is no upstream: write https://HOST or http://127.0.0.1:PORT.")
    tls = parts.scheme == "https"
    if not tls and host not in LOOPBACK:
        raise OperatorError(f"{url!r} would carry the key unencrypted: http is only for 127.0.0.1, else use https.")
    return Endpoint(host, port or (443 if tls else 80), tls, allow_private=True)


def open_trust() -> ssl.SSLContext:
    """Return a TLS context that trusts what the system trusts; certificates and names are always checked."""
    context = ssl.create_default_context()
    for path in CERTIFICATES:
        if not context.cert_store_stats()["x509_ca"] and Path(path).exists():
            context.load_verify_locations(path)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class _CountingProtocol(asyncio.StreamReaderProtocol):
    """Knows what has come, so that an idle connection on which anything has come is not used again."""

    received_bytes = 0
    ended = False

    def data_received(self, data: bytes) -> None:
        """Count, then hand on."""
        self.received_bytes += len(data)
        super().data_received(data)

    def eof_received(self) -> bool:
        """Note the end, then hand on."""
        self.ended = True
        return bool(super().eof_received())


class UpstreamConnection:
    """One HTTP/1.1 connection outwards, one call at a time."""

    def __init__(
        self,
        endpoint: Endpoint,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        protocol: _CountingProtocol,
    ) -> None:
        self.endpoint = endpoint
        self.idle_since = 0.0
        self._reader = reader
        self._writer = writer
        self._protocol = protocol
        self._read_bytes = 0
        self._ended = False
        self._unsent = b""  # a head: one write (and TLS record) with the first piece of the body, or the end
        self.pause: Callable[[], Awaitable[None]] = Turns().take  # of whose call it serves
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_BYTES)

    @property
    def used(self) -> bool:
        """Whether a call was made since it was opened or made ready."""
        return self._http.our_state is not h11.IDLE

    @property
    def reusable(self) -> bool:
        """Whether the last call ended cleanly on both sides and nothing more has come since."""
        states = (self._http.our_state, self._http.their_state)
        return (
            states in ((h11.DONE, h11.DONE), (h11.IDLE, h11.IDLE))
            and not self._http.trailing_data[0]
            and not self._protocol.ended
            and self._protocol.received_bytes == self._read_bytes
            and not self._writer.is_closing()
        )

    async def send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        """Send one event, a head with what follows it; waits while the other side is slow. Raises ConnectionError."""
        self._unsent += self._http.send(event) or b""
        waits = isinstance(event, h11.Request) or (isinstance(event, h11.Data) and not event.data)
        if not waits:
            await self.flush()

    async def flush(self) -> None:
        """Send a head that waits for what follows it. Raises ConnectionError."""
        if self._unsent:
            data, self._unsent = self._unsent, b""
            self._writer.write(data)
            await self._writer.drain()

    async def read_head(self, timeout_seconds: float) -> h11.Response | h11.InformationalResponse:
        """Return the head of the answer, 1xx ones skipped but a 101 that was asked for. Raises UpstreamError or
        TimeoutError."""
        for _ in range(INTERIM_MAX):
            event = await self._next(timeout_seconds)
            if isinstance(event, h11.Response) or self._http.their_state is h11.SWITCHED_PROTOCOL:
                return event  # type: ignore[return-value]
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise UpstreamError("it closed the connection without an answer")
        raise UpstreamError("it says again and again that its answer is yet to come")

    async def read_body(self, timeout_seconds: float) -> bytes:
        """Return what has come of the body, b"" at its end. Raises UpstreamError when it breaks off, TimeoutError."""
        if self._ended:
            return b""
        event = await self._next(timeout_seconds)
        parts: list[bytes] = []
        while isinstance(event, h11.Data):
            parts.append(bytes(event.data))
            if len(parts) % PIECES_AT_ONCE == 0:
                await self.pause()  # 64 KiB may come in chunks of a byte
            event = self._parse()
        self._ended = isinstance(event, h11.EndOfMessage)
        return b"".join(parts)

    def take_over(self) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """Return what came behind a 101, and both directions; the connection serves no other call."""
        return self._http.trailing_data[0], self._reader, self._writer

    def start_next(self) -> None:
        """Make ready for the next call; only when `reusable`."""
        self._http.start_next_cycle()
        self._ended = False

    def abort(self) -> None:
        """Drop the connection now."""
        self._writer.transport.abort()

    async def _next(self, timeout_seconds: float) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = self._parse()
        while event is h11.NEED_DATA:
            async with asyncio.timeout(timeout_seconds):
                try:
                    data = await self._reader.read(READ_BYTES)
                except OSError as error:
                    raise UpstreamError(f"the connection broke: {error.strerror or error}") from None
            self._read_bytes += len(data)
            self._http.receive_data(data)
            event = self._parse()
        return event

    def _parse(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise UpstreamError(f"its answer is not HTTP or broke off: {plain_fault(error)}") from None


class UpstreamPool:
    """Idle connections by endpoint, newest first."""

    def __init__(self, trust: Callable[[], ssl.SSLContext] = open_trust, resolver: Resolver | None = None) -> None:
        self._open_trust = trust
        self._resolver = resolver or Resolver()
        self._trust: ssl.SSLContext | None = None
        self._idle: dict[Endpoint, list[UpstreamConnection]] = {}
        self._purge: asyncio.TimerHandle | None = None

    async def judge(self, endpoint: Endpoint, timeout_seconds: float) -> Deny | None:
        """Return why no call may go there, None when it may or when that is for `acquire` to find out (no answer)."""
        if any(connection.reusable for connection in self._idle.get(endpoint, [])):
            return None  # its address was checked when it was opened
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._find_addresses(endpoint)
        except AddressRefused as refused:
            return Deny("address", refused.reason)
        except (LookupFailed, TimeoutError):
            return None
        return None

    async def acquire(self, endpoint: Endpoint, timeout_seconds: float) -> UpstreamConnection:
        """Return a connection ready for a call, an idle one where there is one. Raises UpstreamError."""
        idle = self._idle.get(endpoint, [])
        while idle:
            connection = idle.pop()
            if connection.reusable:
                return connection
            connection.abort()
        return await self._connect(endpoint, timeout_seconds)

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose call ended cleanly, drop any other."""
        idle = self._idle.get(connection.endpoint, [])
        if not (connection.used and connection.reusable) or len(idle) >= IDLE_MAX:
            connection.abort()
            return
        self._idle[connection.endpoint] = idle
        connection.start_next()
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        idle.append(connection)
        if self._purge is None:
            self._purge = loop.call_later(IDLE_SECONDS, self._drop_idle, IDLE_SECONDS)

    def close(self) -> None:
        """Drop every idle connection."""
        if self._purge is not None:
            self._purge.cancel()
        self._drop_idle(0.0)
        self._resolver.close()

    def _drop_idle(self, older_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        for endpoint, idle in list(self._idle.items()):
            old = [connection for connection in idle if connection.idle_since <= loop.time() - older_seconds]
            for connection in old:
                idle.remove(connection)
                connection.abort()
            if not idle:
                del self._idle[endpoint]  # a box may call another host each time
        left = bool(self._idle)
        self._purge = loop.call_later(IDLE_SECONDS, self._drop_idle, IDLE_SECONDS) if left else None

    async def _find_addresses(self, endpoint: Endpoint) -> list[SocketAddress]:
        return await self._resolver.find_addresses(
            endpoint.host, endpoint.port, allow_private=endpoint.allow_private, whose=endpoint.whose
        )

    async def _connect(self, endpoint: Endpoint, timeout_seconds: float) -> UpstreamConnection:
        try:
            async with asyncio.timeout(timeout_seconds):
                addresses = await self._find_addresses(endpoint)
                return await self._open(endpoint, await _dial(addresses))
        except (AddressRefused, LookupFailed) as error:
            raise UpstreamError(str(error)) from None
        except TimeoutError:
            raise UpstreamError("it did not accept a connection in time") from None
        except ssl.SSLCertVerificationError as error:
            raise UpstreamError(_certificate_fault(error)) from None
        except ssl.SSLError as error:
            said = (error.reason or "it broke off").replace("_", " ").lower()
            raise UpstreamError(f"{NO_TLS}: {said}") from None
        except OSError as error:
            said = os.strerror(error.errno) if error.errno else "it failed"  # not the error's text: it has the address
            raise UpstreamError(f"it cannot be reached: {said}") from None

    async def _open(self, endpoint: Endpoint, sock: socket.socket) -> UpstreamConnection:
        """Return a connection over a connected socket; its certificate must be the name's, whatever the address."""
        if endpoint.tls and self._trust is None:
            self._trust = self._open_trust()  # 17 ms, once, and only when a real host is called
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES, loop=loop)
        protocol = _CountingProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol,
                sock=sock,
                ssl=self._trust if endpoint.tls else None,
                server_hostname=endpoint.host.strip("[]") if endpoint.tls else None,
            )
        except BaseException as error:  # boundary: a handshake that failed or was cancelled leaves no socket open
            sock.close()
            if endpoint.tls and isinstance(error, ConnectionError):
                raise UpstreamError(f"{NO_TLS}: the connection was closed") from None
            raise
        return UpstreamConnection(endpoint, reader, asyncio.StreamWriter(transport, protocol, reader, loop), protocol)


async def _dial(addresses: list[SocketAddress]) -> socket.socket:
    """Return a socket connected to the first of these addresses that accepts (happy eyeballs). Raises OSError."""
    families = [[found for found in addresses if (":" in found[0]) is sixth] for sixth in (True, False)]
    turns = [found for pair in itertools.zip_longest(*families) for found in pair if found is not None]
    tries = [functools.partial(_dial_one, address) for address in turns]
    sock, _, errors = await staggered_race(tries, EYEBALLS_SECONDS)
    if sock is None:
        raise next((error for error in errors if isinstance(error, OSError)), OSError("no address accepts"))
    return sock


async def _dial_one(address: SocketAddress) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:  # boundary: an address that lost the race or failed leaves no socket open
        sock.close()
        raise
    return sock


NO_TLS = "no encrypted connection (TLS 1.2 or newer) could be made"
# What OpenSSL's verify codes mean (x509_vfy.h), in words of ours; a wrong name says which one was asked for.
CERTIFICATE_FAULTS = {
    7: "its certificate's signature is wrong",
    9: "its certificate is not valid yet (is this machine's clock right?)",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate comes from an authority that this machine does not trust",
    20: "its certificate comes from an authority that this machine does not trust",
    23: "its certificate was revoked",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}


def _certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    return CERTIFICATE_FAULTS.get(error.verify_code, f"its certificate is not valid ({error.verify_message})")
