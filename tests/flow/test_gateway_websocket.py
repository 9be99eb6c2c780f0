"""A WebSocket through the gateway: only where a rule says so, scanned and redacted, and over with the turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.gateway.frames import Frame, write_frame
from nanoclaw.gateway.policy import DEFAULT_RULES, Rule
from tests.flow.gateway_bench import SMALL, Bench, answers, running, until_finished, whole
from tests.flow.gateway_stand import KEY, Line, Seen

ASK = (
    "GET /live HTTP/1.1\r\nHost: chat.example.org\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n"
MASK = b"abcd"
RULES = (
    Rule("live", "chat.example.org", upgrade=True),
    Rule("calm", "calm.example.org"),
    *DEFAULT_RULES,
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path, replace(SMALL, header_seconds=1.0, answer_seconds=2.0)) as started:
        started.rules.rules = RULES
        assert started.route[0] is not None
        started.route.append(replace(started.route[0], secret=None))
        yield started


def said(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    return write_frame(Frame(opcode, final, b"", MASK), payload)


def heard(payload: bytes) -> bytes:
    return write_frame(Frame(1, True, b"", b""), payload)


def echo(bench: Bench, first: bytes = b"", *, mute: bool = False) -> list[bytes]:
    """Make the stand-in a WebSocket server that answers 101, says `first`, and keeps what it hears; `mute`, no more."""
    got: list[bytes] = []

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCH + b"sec-websocket-extensions: permessage-deflate\r\n\r\n" + first)
        await writer.drain()
        reader = bench.upstream.readers[writer]
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                got.append(data)
                if not mute:
                    writer.write(heard(b"you said %d bytes" % len(data)))

    bench.upstream.answer = answer
    return got


@contextlib.asynccontextmanager
async def web_socket(bench: Bench) -> AsyncIterator[Line]:
    async with bench.tunnel("chat.example.org") as line:
        line.send(ASK.encode())
        head = (await line.reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 101 ")
        assert b"upgrade: websocket" in head
        assert b"extensions" not in head
        yield line


async def test_frames_go_both_ways_and_nothing_is_compressed(bench: Bench) -> None:
    got = echo(bench, heard(b"welcome"))
    async with web_socket(bench) as line:
        assert await line.reader.readexactly(len(heard(b"welcome"))) == heard(b"welcome")
        for text in (b"hello", b"again" * 50_000):
            line.send(said(text))
            assert (await line.reader.readuntil(b" bytes")).startswith(b"\x81")
        line.send(said(b"bye", 8))
    row = await until_finished(bench)
    assert (row.status, row.sent_bytes > 250_000, row.received_bytes > 30) == (101, True, True)
    assert b"".join(got).startswith(said(b"hello"))
    seen = bench.upstream.seen[0]
    assert (seen.headers["upgrade"], seen.headers["connection"].lower()) == ("websocket", "upgrade")
    assert "sec-websocket-extensions" not in seen.headers
    assert seen.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="


async def test_without_the_rules_word_there_is_no_websocket(bench: Bench) -> None:
    async with bench.tunnel("calm.example.org") as line:
        line.send(ASK.replace("chat.", "calm.").encode())
        reply = await line.reply()
        assert (reply.status, "lets no WebSocket through" in reply.message) == (403, True)
        line.send(b"GET /next HTTP/1.1\r\nHost: calm.example.org\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert (await line.reply()).status == 200  # an upgrade that is not made is no fault
    assert bench.rows()[0].rule == "upgrade"
    assert [("upgrade" in seen.headers) for seen in bench.upstream.seen] == [False]


async def test_an_upgrade_that_carries_a_body_is_refused(bench: Bench) -> None:
    async with bench.tunnel("chat.example.org") as line:
        line.send(ASK.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n").encode() + b"body")
        assert (await line.reply()).status == 403
    assert bench.upstream.connections == 0


async def test_a_switch_that_nobody_asked_for_is_an_error(bench: Bench) -> None:
    bench.upstream.answer = answers(SWITCH + b"\r\n" + heard(b"surprise"))
    async with bench.tunnel("chat.example.org") as line:
        assert (await line.call("/x", host="chat.example.org")).status == 502


async def test_a_server_that_declines_is_heard(bench: Bench) -> None:
    bench.upstream.answer = answers(whole("426 Upgrade Required", b"no"))
    async with bench.tunnel("chat.example.org") as line:
        line.send(ASK.encode())
        assert (await line.reply()).status == 426


async def test_what_comes_back_is_redacted_at_once(bench: Bench) -> None:
    echo(bench, heard(b"your key is " + KEY.encode()) + heard(KEY[:5].encode()))
    async with web_socket(bench) as line:
        expected = heard(b"your key is " + b"*" * len(KEY)) + heard(KEY[:5].encode())
        assert await line.reader.readexactly(len(expected)) == expected


@pytest.mark.parametrize("wrong", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", heard(b"unmasked"), b"\xc1\x80abcd"])
async def test_what_is_no_frame_ends_the_connection(bench: Bench, wrong: bytes) -> None:
    got = echo(bench)
    async with web_socket(bench) as line:
        line.send(wrong)
        with contextlib.suppress(OSError):
            assert await line.reader.read() == b""
    assert "no WebSocket" in (await until_finished(bench)).reason
    assert got == []


async def test_a_websocket_is_over_when_its_turn_is(bench: Bench) -> None:
    got = echo(bench)
    async with web_socket(bench) as line:
        line.send(said(b"inside"))
        await line.reader.readuntil(b" bytes")
        bench.boxes.close_turn("s1", 1)
        line.send(said(b"outside"))
        with contextlib.suppress(OSError):
            assert await line.reader.read() == b""
    assert "turn is over" in (await until_finished(bench)).reason
    assert b"".join(got) == said(b"inside")


async def test_silence_ends_it_but_one_side_may_be_silent(tmp_path: Path) -> None:
    async with running(tmp_path, replace(SMALL, idle_seconds=0.3, header_seconds=1.0)) as bench:
        bench.rules.rules = RULES
        assert bench.route[0] is not None
        bench.route.append(replace(bench.route[0], secret=None))
        got = echo(bench, mute=True)
        async with web_socket(bench) as line, asyncio.timeout(5):
            for _ in range(6):
                line.send(said(b"still here"))
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await line.reader.read(1)
            assert b"".join(got) == said(b"still here") * 6
            with contextlib.suppress(OSError):
                assert await line.reader.read() == b""
        assert "Nothing was said" in (await until_finished(bench)).reason
