"""The server name of a TLS ClientHello, by which a handshake is judged before TLS begins.

In: the first bytes of a connection, hostile. Out: the name, or None. Sources: RFC 8446 section 4.1.2, RFC 6066 3.
"""

from __future__ import annotations

HANDSHAKE = 0x16
HELLO_BYTES = 16 * 1024
ACCESS_DENIED = bytes((0x15, 3, 3, 0, 2, 2, 49))  # a fatal alert: the client stops at once and says why
_CLIENT_HELLO = 1
_SERVER_NAME = 0


class _Cursor:
    """Length-prefixed fields, read in order; raises IndexError at the end of what is there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise IndexError
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def field(self, size: int) -> bytes:
        return self.take(self.number(size))


def is_complete(data: bytes) -> bool:
    """Whether the first record is here in whole (or is longer than is looked at)."""
    return len(data) >= min(5 + int.from_bytes(data[3:5]), HELLO_BYTES) if len(data) >= 5 else False


def find_server_name(data: bytes) -> str | None:
    """Return the host name a ClientHello asks for, None when there is none or it is not understood."""
    try:
        return _read_server_name(_Cursor(data[:HELLO_BYTES]))
    except IndexError:
        return None


def _read_server_name(record: _Cursor) -> str | None:
    record.take(5)
    if record.number(1) != _CLIENT_HELLO:
        return None
    record.take(3 + 2 + 32)  # length, version, random
    record.field(1)  # session id
    record.field(2)  # cipher suites
    record.field(1)  # compression methods
    extensions = _Cursor(record.field(2))
    while True:
        kind, body = extensions.number(2), extensions.field(2)
        if kind == _SERVER_NAME:
            names = _Cursor(body)
            names.take(3)  # length of the list, type host_name
            return names.field(2).decode("ascii", "replace")
