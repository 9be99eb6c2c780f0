"""An allowed call as it passes: streamed, redacted, at the pace of the slower side, on kept connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanoclaw.gateway.exchange import Route
from nanoclaw.gateway.upstream import Endpoint
from tests.flow.gateway_bench import Bench, answers, running, until_finished, whole
from tests.flow.gateway_stand import KEY, ROUTE, STREAM, Seen, StandIn, sse, until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path) as started:
        yield started


async def test_an_event_arrives_before_the_next_one_is_made(bench: Bench) -> None:
    go_on = asyncio.Event()

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in STREAM:
            data = sse(event)
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            async with asyncio.timeout(5):
                await go_on.wait()
            go_on.clear()
        writer.write(b"0\r\n\r\n")

    bench.upstream.answer = answer
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await line.reader.readuntil(b"\r\n\r\n")
        came: list[bytes] = []
        async for chunk in line.chunks():
            came.append(chunk)
            go_on.set()
        assert came == [sse(event) for event in STREAM]


async def test_an_echo_of_the_key_is_blotted_out_across_chunks_and_in_headers(bench: Bench) -> None:
    key = KEY.encode()
    bench.upstream.answer = answers(
        b"HTTP/1.1 200 OK\r\nx-echo: Bearer " + key + b"\r\ncontent-length: %d\r\n\r\n" % (len(key) * 2 + 6),
        b"<" + key[:7],
        key[7:] + b"><" + key[:-1],
        key[-1:] + b">ok",
    )
    reply = await bench.call()
    stars = "*" * len(KEY)
    assert reply.headers["x-echo"] == f"Bearer {stars}"
    assert reply.body.decode() == f"<{stars}><{stars}>ok"


async def test_a_slow_client_slows_the_upstream_and_a_dead_one_ends_the_call(bench: Bench) -> None:
    sent = 0
    block = b"x" * 65536

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(block) * 1000))
        while sent < len(block) * 1000:
            writer.write(block)
            await writer.drain()
            sent += len(block)

    bench.upstream.answer = answer
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        ended = await until_finished(bench)
        assert (ended.status, ended.reason) == (200, "The client went away.")
    assert sent < len(block) * 500


async def test_a_client_that_goes_ends_the_call_upstream(bench: Bench) -> None:
    gone = asyncio.Event()

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    bench.upstream.answer = answer
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await until(lambda: bench.upstream.seen)
    ended = await until_finished(bench)
    assert (ended.status, ended.reason) == (0, "The client went away.")


async def test_calls_on_one_connection_share_one_connection_upstream(bench: Bench) -> None:
    async with bench.open() as line:
        for _ in range(3):
            assert (await line.call()).status == 200
    await bench.finished(3)
    assert (await bench.call()).status == 200
    assert bench.upstream.connections == 1
    assert len(bench.upstream.seen) == 4


async def test_requests_sent_ahead_are_answered_in_order(bench: Bench) -> None:
    one = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}"
    async with bench.open() as line:
        line.send((one + one + "GET /no HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + one).encode())
        assert [(await line.reply()).status for _ in range(4)] == [200, 200, 403, 200]


async def test_a_request_sent_during_an_answer_waits_for_its_turn(bench: Bench) -> None:
    one = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    go_on = asyncio.Event()

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(whole("200 OK", b"ok"))

    bench.upstream.answer = answer
    async with bench.open() as line:
        line.send(one)
        await until(lambda: bench.upstream.seen)
        line.send(one)
        await asyncio.sleep(0.01)
        go_on.set()
        assert [(await line.reply()).body for _ in range(2)] == [b"ok", b"ok"]


async def test_an_answer_with_two_framings_is_read_by_its_chunks(bench: Bench) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    bench.upstream.answer = answers(head + b"5\r\nhello\r\n0\r\n\r\n")
    assert (await bench.call()).body == b"hello"


async def test_a_client_that_asks_before_sending_its_body_is_told_to_go_on(bench: Bench) -> None:
    async with bench.open() as line:
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        line.send(head.encode())
        assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        line.send(b"{}")
        assert (await line.reply()).status == 200
    assert "expect" not in bench.upstream.seen[0].headers


async def test_a_body_in_chunks_arrives_whole(bench: Bench) -> None:
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        line.send(b"3\r\nabc\r\n")
        line.send(b"3\r\ndef\r\n0\r\n\r\n")
        assert (await line.reply()).status == 200
    assert bench.upstream.seen[0].body == b"abcdef"


async def test_an_http_1_0_client_is_answered_until_the_connection_closes(bench: Bench) -> None:
    answer = await bench.raw(f"POST {ROUTE} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    assert answer.endswith(sse(*STREAM))


async def test_an_early_answer_to_a_body_that_still_comes_is_passed_on(bench: Bench) -> None:
    class Hasty(StandIn):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(whole("413 Too Large", b"no"))
            await reader.read()
            writer.close()

    async with Hasty().listening() as port, bench.open() as line:
        bench.route.append(Route(Endpoint("127.0.0.1", port, tls=False, allow_private=True), None, rehearsed=True))
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc".encode())
        reply = await line.reply()
        assert (reply.status, reply.body) == (413, b"no")
