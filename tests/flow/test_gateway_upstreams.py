"""What fails on the far side of an allowed call, and whom the gateway takes for the right one (TLS)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nanoclaw.gateway.exchange import Route
from nanoclaw.gateway.upstream import Endpoint
from tests.flow.gateway_bench import Bench, answers, running, until_finished, whole
from tests.flow.gateway_stand import Seen, until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path) as started:
        yield started


@pytest.mark.parametrize(
    ("status", "headers"),
    [("401 Unauthorized", ()), ("429 Too Many", ("retry-after: 7",)), ("500 Oops", ()), ("529 Overloaded", ())],
)
async def test_an_error_of_the_model_passes_through(bench: Bench, status: str, headers: tuple[str, ...]) -> None:
    bench.upstream.answer = answers(whole(status, b'{"type":"error"}', *headers))
    reply = await bench.call()
    assert (reply.status, reply.body) == (int(status[:3]), b'{"type":"error"}')
    assert reply.headers.get("retry-after") == ("7" if headers else None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x00garbage\r\n\r\n", "not HTTP"),
        (b"", "not HTTP or broke off|without an answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "without an answer|not HTTP"),
        (whole("200 OK", b"\x1f\x8b", "content-encoding: gzip"), "encoding that cannot be checked"),
    ],
)
async def test_an_upstream_that_answers_nonsense_becomes_an_api_error(bench: Bench, answer: bytes, said: str) -> None:
    async def answer_and_close(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    bench.upstream.answer = answer_and_close
    reply = await bench.call()
    assert reply.status == 502
    assert msgspec.json.decode(reply.body)["error"]["type"] == "api_error"
    assert any(part in reply.message for part in said.split("|"))
    assert (await until_finished(bench)).status == 502


async def test_an_answer_that_is_compressed_all_the_same_passes_only_where_no_secret_was_put_on(bench: Bench) -> None:
    bench.upstream.answer = answers(whole("200 OK", b"\x1f\x8b-not-looked-at", "content-encoding: gzip"))
    assert (await bench.call()).status == 502
    assert bench.route[0] is not None
    bench.route.append(replace(bench.route[0], secret=None))
    reply = await bench.call()
    assert (reply.status, reply.headers["content-encoding"], reply.body[:2]) == (200, "gzip", b"\x1f\x8b")
    assert [seen.headers["accept-encoding"] for seen in bench.upstream.seen] == ["identity"] * 2


async def test_an_upstream_that_says_nothing_becomes_an_api_error_not_a_hang(bench: Bench) -> None:
    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    bench.upstream.answer = answer
    reply = await bench.call()
    assert reply.status == 504
    assert "did not answer in time" in reply.message


async def test_an_upstream_that_cannot_be_reached_becomes_an_api_error(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    bench.route.append(Route(Endpoint("127.0.0.1", port, tls=False, allow_private=True), None, rehearsed=True))
    reply = await bench.call()
    assert reply.status == 502
    assert "The rehearsal model could not be asked" in reply.message
    key = bench.route[0].secret if bench.route[0] else None
    bench.route.append(Route(Endpoint("no-such-host.invalid", port, tls=False), key))
    reply = await bench.call()
    assert reply.status == 502
    assert "no address for the name no-such-host.invalid" in reply.message or "DNS does not answer" in reply.message


async def test_an_upstream_that_accepts_nothing_is_given_up_in_time(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            bench.route.append(Route(Endpoint("127.0.0.1", port, tls=False, allow_private=True), None, rehearsed=True))
            reply = await bench.call()
    assert reply.status == 502
    assert "in time" in reply.message


async def test_an_answer_that_breaks_off_is_broken_off_for_the_client_too(bench: Bench) -> None:
    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    bench.upstream.answer = answer
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await bench.call()
    ended = await until_finished(bench)
    assert (ended.status, ended.received_bytes) == (200, 4)
    assert "broke off" in ended.reason


async def test_a_connection_on_which_something_came_unasked_is_not_used_again(bench: Bench) -> None:
    bench.upstream.answer = answers(whole("200 OK", b"one") + whole("200 OK", b"forged"))
    assert (await bench.call()).body == b"one"
    bench.upstream.answer = answers(whole("200 OK", b"two"))
    assert (await bench.call()).body == b"two"
    assert bench.upstream.connections == 2


async def test_a_connection_that_the_other_side_closed_while_idle_is_not_used_again(bench: Bench) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(whole("200 OK", b"ok"))

    bench.upstream.answer = answer
    for _ in range(2):
        assert (await bench.call()).body == b"ok"
        await bench.finished(len(writers))
        writers[-1].close()
        await writers[-1].wait_closed()
    assert bench.upstream.connections == 2


async def test_a_route_for_another_host_than_the_secrets_own_is_refused(bench: Bench, tmp_path: Path) -> None:
    assert bench.route[0] is not None
    assert bench.route[0].secret is not None
    stored, secret = bench.route[0].secret
    elsewhere = msgspec.structs.replace(stored, hosts=("other.test",))
    bench.route.append(Route(bench.route[0].endpoint, (elsewhere, secret)))
    reply = await bench.call()
    assert (reply.status, "may not be sent to" in reply.message) == (403, True)
    assert bench.upstream.connections == 0


@pytest.mark.parametrize("answer", [b"", b"\x00garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n"])
async def test_a_model_that_was_asked_and_gave_no_answer_may_have_cost_what_was_sent(
    bench: Bench, answer: bytes
) -> None:
    async def break_off(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    bench.upstream.answer = break_off
    body = b'{"model":"claude-x","max_tokens":10,"messages":["' + b"x" * 3000 + b'"]}'
    assert (await bench.call(body=body)).status == 502
    assert (await until_finished(bench)).status == 502
    (used,) = bench.ledger.list_usage()
    assert (used.estimated, used.usage.input_tokens > 900) == (True, True)


async def test_hosts_that_were_called_once_are_forgotten(bench: Bench) -> None:
    pool = bench.desk.pool
    bench.upstream.answer = answers(whole("200 OK", b"ok", "connection: close"))
    assert (await bench.call()).status == 200
    await until_finished(bench)
    assert pool._idle == {}
    bench.upstream.answer = answers(whole("200 OK", b"ok"))
    assert (await bench.call()).status == 200
    await until(lambda: len(pool._idle) == 1)
    pool._drop_idle(0.0)
    assert pool._idle == {}


async def test_an_answer_that_nobody_asked_for_reaches_no_later_call(bench: Bench) -> None:
    speak = asyncio.Event()

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(whole("200 OK", b"asked"))
        if bench.upstream.connections == 1:
            await speak.wait()
            writer.write(whole("200 OK", b"not asked"))

    bench.upstream.answer = answer
    assert (await bench.call()).body == b"asked"
    await until(lambda: bench.desk.pool._idle)
    ((kept,),) = bench.desk.pool._idle.values()
    speak.set()
    await until(lambda: not kept.reusable)
    assert (await bench.call()).body == b"asked"
    assert bench.upstream.connections == 2


async def test_an_answer_that_is_always_yet_to_come_is_given_up(bench: Bench) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    bench.upstream.answer = answers(hints * 50 + whole("200 OK", b"ok"))
    assert (await bench.call()).body == b"ok"
    bench.upstream.answer = answers(hints * 200 + whole("200 OK", b"ok"))
    reply = await bench.call()
    assert (reply.status, "yet to come" in reply.message) == (502, True)
