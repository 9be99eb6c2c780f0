"""TLS of a box that ends here: the server's context for one host, and a stream inside a connection.

In: a connection whose first bytes are a ClientHello, a context of ca.py's. Out: the plain bytes both ways.
Never: resumes a session, speaks below TLS 1.2 or anything but HTTP/1.1, writes a key to a disk.
Fails: HandshakeFailed, the client was told by an alert; OSError when the stream breaks later.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from contextlib import suppress
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

READ_BYTES = 64 * 1024
PEM = serialization.Encoding.PEM


class Incoming(Protocol):
    """What bytes are read from: a connection, or TLS inside one."""

    async def read(self, count: int, /) -> bytes:
        """Return what has come, at most `count` bytes; b"" at the end."""
        ...


class Outgoing(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> None:
        """Queue bytes."""
        ...

    async def drain(self) -> None:
        """Wait until the other side keeps up. Raises OSError."""
        ...

    def write_eof(self) -> None:
        """End this direction."""
        ...


class HandshakeFailed(Exception):
    """The client broke the handshake off, or cannot be spoken to; the message says which."""


class TlsStream:
    """The server's side of TLS over a connection; an `Incoming` and an `Outgoing` for the bytes inside."""

    def __init__(self, incoming: Incoming, outgoing: Outgoing, context: ssl.SSLContext) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)

    async def shake_hands(self, first: bytes) -> None:
        """Answer the ClientHello in `first`. Raises HandshakeFailed; the caller bounds its time."""
        self._received.write(first)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                await self._outgoing.drain()
                await self._receive()
            except ssl.SSLError as error:
                self._flush()  # the alert
                raise HandshakeFailed((error.reason or "it broke off").replace("_", " ").lower()) from None
            else:
                self._flush()
                return

    async def read(self, count: int, /) -> bytes:
        """Return what has come inside, b"" at the end (also when the client just closed its connection)."""
        while True:
            try:
                return self._tls.read(count)
            except ssl.SSLWantReadError:
                self._flush()  # an answer to a key update
                await self._receive()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def write(self, data: bytes, /) -> None:
        """Encrypt and queue."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        self._flush()

    async def drain(self) -> None:
        """Wait until the client keeps up. Raises OSError."""
        await self._outgoing.drain()

    def write_eof(self) -> None:
        """Say that nothing more comes (close_notify)."""
        with suppress(ssl.SSLError):  # that the client has not said so too is no fault
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        if data := self._to_send.read():
            self._outgoing.write(data)

    async def _receive(self) -> None:
        if data := await self._incoming.read(READ_BYTES):
            self._received.write(data)
        else:
            self._received.write_eof()


def server_context(host: str, chain: bytes) -> ssl.SSLContext:
    """Return a context for one host: a handshake for another name is ended, none is resumed (each is looked at)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    expected = host if isinstance(general_name(host), x509.DNSName) else None  # RFC 6066: no server name for addresses

    def check_name(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int | None:
        same = (name.lower() if name else None) == expected
        return None if same else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = check_name
    file = os.memfd_create("leaf", os.MFD_CLOEXEC)  # OpenSSL wants a path; this one is on no disk
    try:
        os.write(file, chain)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context


def general_name(host: str) -> x509.GeneralName:
    """Return a host as a certificate names it."""
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    return x509.DNSName(host)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, unencrypted: for OpenSSL and for the vault to seal."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
