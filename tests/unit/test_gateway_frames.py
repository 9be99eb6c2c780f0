"""Frames of a WebSocket: read whatever way they are cut, what no RFC allows is refused, nothing is passed unscanned."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.gateway.frames import FRAME_BYTES, Frame, Frames, Violation, mask, write_frame
from nanoclaw.gateway.needles import Needles
from nanoclaw.gateway.redact import Redactor
from nanoclaw.gateway.shapes import Shapes
from nanoclaw.gateway.wanted import Wanted

KEY = b"\x01\x02\x03\x04"
SECRET = b"sk-secret-0123456789"
WANTED = Wanted(Needles([SECRET]), Shapes())


class Open:
    """A gate that lets everything through."""

    def feed(self, piece: bytes, /) -> bytes:
        return piece

    def finish(self) -> bytes:
        return b""


def frame(payload: bytes, opcode: int = 1, *, final: bool = True, key: bytes = KEY) -> bytes:
    return write_frame(Frame(opcode, final, b"", key), payload)


def read_all(data: bytes, *, masked: bool) -> list[tuple[int, bool, bytes]]:
    """Every frame of a direction, by a reader of its own."""
    found: list[tuple[int, bool, bytes]] = []
    while data:
        short, at = data[1] & 0x7F, 2
        if short >= 126:
            size = 2 if short == 126 else 8
            short, at = int.from_bytes(data[2 : 2 + size]), 2 + size
        key = data[at : at + 4] if masked else b""
        at += len(key)
        payload = (
            bytes(byte ^ key[i % 4] for i, byte in enumerate(data[at : at + short])) if key else data[at : at + short]
        )
        found.append((data[0] & 0x0F, bool(data[0] & 0x80), payload))
        data = data[at + short :]
    return found


messages = st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=4), max_size=5)


@given(messages, st.lists(st.integers(1, 50), min_size=1), st.booleans())
def test_messages_come_out_as_they_went_in_whatever_way_their_bytes_are_cut(
    given_messages: list[list[bytes]], cuts: list[int], masked: bool
) -> None:
    key = KEY if masked else b""
    data = b"".join(
        frame(part, 0 if number else 2, final=number == len(parts) - 1, key=key)
        for parts in given_messages
        for number, part in enumerate(parts)
    )
    reader, out, turn = Frames(Open, masked=masked), b"", 0
    while data:
        piece, data = data[: cuts[turn % len(cuts)]], data[cuts[turn % len(cuts)] :]
        out += reader.feed(piece)
        turn += 1
    parts = [payload for _, _, payload in read_all(out, masked=masked)]
    assert parts == [part for message in given_messages for part in message]


@given(st.integers(1, len(SECRET) - 1), st.binary(max_size=20), st.booleans())
def test_a_secret_is_found_across_the_frames_of_a_message_and_its_end_is_not_held_back(
    cut: int, before: bytes, ping: bool
) -> None:
    between = frame(b"ping", 9, key=b"") if ping else b""
    data = frame(before + SECRET[:cut], final=False, key=b"") + between + frame(SECRET[cut:] + b"s", 0, key=b"")
    out = Frames(lambda: Redactor(WANTED), masked=False).feed(data)
    found = read_all(out, masked=False)
    text = b"".join(payload for opcode, _, payload in found if opcode < 8)
    assert text == before + b"*" * len(SECRET) + b"s"
    assert (9 in [opcode for opcode, _, _ in found]) is ping


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xc1\x80" + KEY, "extension"),
        (b"\x83\x80" + KEY, "extension"),
        (b"\x8b\x80" + KEY, "extension"),
        (frame(b"x", key=b""), "not masked"),
        (frame(b"x" * 126, 9), "control"),
        (frame(b"x", 9, final=False), "control"),
        (frame(b"x", 0), "in the middle"),
        (frame(b"x", final=False) + frame(b"y", 1), "in the middle"),
        (b"\x81\xfe\x00\x05" + KEY + b"hello", "longer than it need be"),
        (b"\x81\xff" + (65535).to_bytes(8) + KEY, "longer than it need be"),
        (b"\x81\xff" + (FRAME_BYTES + 1).to_bytes(8) + KEY, "larger than"),
        (b"\x81\xff" + b"\xff" * 8 + KEY, "larger than"),
        (b"GET / HTTP/1.1\r\n\r\n", "extension|not masked|in the middle"),
    ],
)
def test_what_is_no_frame_of_a_client_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(Violation, match=said):
        Frames(Open, masked=True).feed(data)


def test_a_masked_frame_of_a_server_is_refused() -> None:
    with pytest.raises(Violation, match="server's frame is masked"):
        Frames(Open, masked=False).feed(frame(b"x"))


@given(st.binary(max_size=200))
def test_random_bytes_are_frames_or_a_violation_and_nothing_else(data: bytes) -> None:
    for masked in (True, False):
        reader = Frames(Open, masked=masked)
        with contextlib.suppress(Violation):
            read_all(reader.feed(data), masked=masked)


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_masking_twice_is_no_masking(payload: bytes, key: bytes) -> None:
    assert mask(mask(payload, key), key) == payload
    assert mask(payload, b"") == payload
