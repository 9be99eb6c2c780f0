"""The frames of a WebSocket, read and written anew: what they carry passes a gate, message by message.

In: bytes of one direction, hostile. Out: the same messages, perhaps in other frames; all of a message goes at its end,
so that whoever waits for it gets it. Never: passes on an extension's bits, or more of a frame than it has read.
Fails: `Violation`, the bytes are not what RFC 6455 says; whatever the gate raises. Source: RFC 6455 section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FRAME_BYTES = 1024 * 1024  # of one frame; a message has any number of them
CONTROL_BYTES = 125
_FINAL, _RESERVED, _OPCODE, _CONTROL = 0x80, 0x70, 0x0F, 0x08
_MASKED, _LENGTH = 0x80, 0x7F
_CONTINUATION, _OPCODES = 0, (0, 1, 2, 8, 9, 10)
_SHORT, _LONG = 126, 127  # lengths that say that 2 or 8 bytes of length follow


class Violation(Exception):
    """What came is no WebSocket frame; the message says why."""


class Gate(Protocol):
    """What a message's bytes pass."""

    def feed(self, piece: bytes, /) -> bytes:
        """Return what may go on of what was held back and this piece."""
        ...

    def finish(self) -> bytes:
        """Return the rest: the message is over."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, unmasked; `key` is what it was masked with, b"" when it was not."""

    opcode: int
    final: bool
    payload: bytes
    key: bytes


class Frames:
    """One direction. `masked` is whether its frames must be (a client's must, a server's must not)."""

    def __init__(self, open_gate: Callable[[], Gate], *, masked: bool) -> None:
        self._open_gate = open_gate
        self._masked = masked
        self._gate: Gate | None = None  # that of an unfinished message
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return what may be passed on. Raises Violation."""
        self._held += data
        out: list[bytes] = []
        while (frame := self._take()) is not None:
            out.append(self._pass(frame))
        return b"".join(out)

    def _pass(self, frame: Frame) -> bytes:
        if frame.opcode & _CONTROL:
            gate = self._open_gate()  # it may come between the frames of a message, and stands for itself
            return write_frame(frame, gate.feed(frame.payload) + gate.finish())
        if (self._gate is None) == (frame.opcode == _CONTINUATION):
            raise Violation("a message begins in the middle of another, or nowhere")
        gate = self._gate or self._open_gate()
        payload = gate.feed(frame.payload)
        self._gate = None if frame.final else gate
        return write_frame(frame, payload + gate.finish() if frame.final else payload)

    def _take(self) -> Frame | None:
        """Return the next frame once all of it is here."""
        held = self._held
        if len(held) < 2:
            return None
        masked, short = bool(held[1] & _MASKED), held[1] & _LENGTH
        self._check(held[0], short, masked=masked)
        extended = {_SHORT: 2, _LONG: 8}.get(short, 0)
        begin = 2 + extended + (4 if masked else 0)
        if len(held) < begin:
            return None
        length = int.from_bytes(held[2 : 2 + extended]) if extended else short
        if extended and length < (_SHORT if extended == 2 else 1 << 16):
            raise Violation("a length is written longer than it need be")
        if length > FRAME_BYTES:
            raise Violation(f"a frame is larger than {FRAME_BYTES} bytes")
        if len(held) < begin + length:
            return None
        key = bytes(held[begin - 4 : begin]) if masked else b""
        payload = mask(bytes(held[begin : begin + length]), key)
        first = held[0]
        del held[: begin + length]
        return Frame(first & _OPCODE, bool(first & _FINAL), payload, key)

    def _check(self, first: int, short: int, *, masked: bool) -> None:
        opcode = first & _OPCODE
        if first & _RESERVED or opcode not in _OPCODES:
            raise Violation("a frame has bits that no extension was agreed on for")
        if masked is not self._masked:
            raise Violation("a client's frame is not masked" if self._masked else "a server's frame is masked")
        if opcode & _CONTROL and (short > CONTROL_BYTES or not first & _FINAL):
            raise Violation("a control frame is long or in pieces")


def write_frame(frame: Frame, payload: bytes) -> bytes:
    """Return a frame like `frame` around another payload."""
    size = len(payload)
    short = size if size < _SHORT else _SHORT if size < 1 << 16 else _LONG
    head = bytes((frame.opcode | (_FINAL if frame.final else 0), short | (_MASKED if frame.key else 0)))
    extended = b"" if short < _SHORT else size.to_bytes(2 if short == _SHORT else 8)
    return head + extended + frame.key + mask(payload, frame.key)


def mask(payload: bytes, key: bytes) -> bytes:
    """Return a payload masked, or unmasked; the same with no key."""
    if not key or not payload:
        return payload
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(size)
