"""What a box may not do on its connection, and what it may not take of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nanoclaw.gateway import control
from nanoclaw.gateway.policy import Rule
from tests.flow.gateway_bench import SMALL, Bench, running, until_finished
from tests.flow.gateway_stand import KEY, ROUTE
from tests.unit.test_gateway_hello import hello_for


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path) as started:
        yield started


@pytest.mark.parametrize(
    ("request_line", "host", "path"),
    [
        ("GET /", "gateway", "/"),
        (
            "GET /anthropic/api/claude_code/settings?secret=1",
            "api.anthropic.com",
            "/api/claude_code/settings",
        ),
        ("POST /anthropic/v1/../v1/messages", "api.anthropic.com", "/v1/../v1/messages"),
        ("CONNECT example.org:443", "example.org", ""),
        ("GET http://169.254.169.254/latest?x=1", "169.254.169.254", "/latest"),
        ("GET https://api.anthropic.com/v1/models", "api.anthropic.com", "/v1/models"),
    ],
)
async def test_what_no_rule_allows_is_a_403_that_is_already_in_the_audit(
    bench: Bench, request_line: str, host: str, path: str
) -> None:
    async with bench.open() as line:
        line.send(f"{request_line} HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n".encode())
        reply = await line.reply()
    row = bench.rows()[-1]
    assert reply.status == 403
    assert msgspec.json.decode(reply.body) == {
        "type": "error",
        "error": {"type": "permission_error", "message": row.reason},
    }
    assert "nanoclaw" in row.reason or "plainly" in row.reason or "route" in row.reason or "'telemetry'" in row.reason
    assert (row.event, row.status, row.host, row.path, row.charge) == ("refused", 403, host, path, "owner")
    told = bench.events[-1]
    assert isinstance(told, control.CallRefused)
    assert (told.host, told.path, told.reason) == (host, path, row.reason)
    assert bench.upstream.connections == 0


async def test_a_tls_handshake_is_ended_with_an_alert_and_its_host_is_in_the_audit(bench: Bench) -> None:
    hello = hello_for("example.org")
    async with bench.open() as line, asyncio.timeout(5):
        line.send(hello[:100])
        await asyncio.sleep(0.01)
        line.send(hello[100:])
        assert await line.reader.read() == bytes((0x15, 3, 3, 0, 2, 2, 49))
    row = bench.rows()[-1]
    assert (row.event, row.method, row.host) == ("refused", "TLS", "example.org")


async def test_a_tls_handshake_that_stalls_is_ended_too(bench: Bench) -> None:
    async with bench.open() as line, asyncio.timeout(5):
        line.send(b"\x16\x03\x01")
        line.writer.write_eof()
        assert (await line.reader.read())[:1] == b"\x15"
    assert bench.rows()[-1].host == ""


async def test_a_refused_head_is_answered_without_a_body_and_leaves_its_connection_usable(bench: Bench) -> None:
    async with bench.open() as line:
        line.send(b"HEAD /anthropic/api/hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        assert (await line.call()).status == 200


async def test_a_refused_call_leaves_its_connection_usable(bench: Bench) -> None:
    async with bench.open() as line:
        assert (await line.call("/x", body=b"b" * 200_000)).status == 403
        assert (await line.call()).status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\x01\x02 not http\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_not_http_is_refused_audited_and_ends_the_connection(
    bench: Bench, data: bytes, status: int
) -> None:
    answer = await bench.raw(data)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    row = bench.rows()[-1]
    assert (row.event, row.rule, row.status) == ("refused", "http", status)


@pytest.mark.parametrize(
    "data",
    [
        b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nnonsense\r\n\r\n",  # what is no request has no method
        b"HEAD / HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n",  # but this has, and its answer no body
    ],
)
async def test_nonsense_behind_or_around_a_head_is_answered_as_well(bench: Bench, data: bytes) -> None:
    answer = await bench.raw(data)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer)[-1] in {b"400", b"505"}
    assert answer.endswith(b"}}" if b"nonsense" in data else b"\r\n\r\n")


async def test_a_second_request_smuggled_behind_both_framings_is_judged_by_itself(bench: Bench) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    data = (
        f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    async with bench.open() as line:
        line.send(data.encode() + hidden)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await line.reply()
            assert (await line.reply()).status == 403
    for seen in bench.upstream.seen:
        assert seen.body == b""
        assert not {"content-length"} & set(seen.headers)


async def test_a_call_without_a_turn_or_without_a_model_goes_nowhere(bench: Bench) -> None:
    bench.route.append(None)
    assert (await bench.call()).status == 503
    bench.boxes.close_turn("s1", 1)
    assert (await bench.call()).status == 403
    bench.boxes.open_turn("another", 1, "nobody")
    bench.boxes.close_turn("another", 1)
    bench.boxes.remove("another", 1)
    assert [row.rule for row in bench.rows()] == ["key", "turn"]
    assert bench.upstream.connections == 0


async def test_mutilated_requests_never_reach_the_upstream_but_as_the_one_allowed_call(bench: Bench) -> None:
    draw = random.Random(7)
    good = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nX-A: b\r\n\r\n{{}}".encode()
    for _ in range(40):  # each refusal costs the box 0.15 s
        data = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            data[at : at + draw.randint(0, 2)] = draw.randbytes(draw.randint(0, 3))
        async with bench.open() as line:
            line.send(bytes(data))
            line.writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await line.reader.read()
    assert {seen.target.partition("?")[0] for seen in bench.upstream.seen} <= {"/v1/messages"}
    assert all(seen.headers["x-api-key"] == KEY for seen in bench.upstream.seen)


async def test_a_body_that_declares_too_much_is_refused_before_anything_is_sent(bench: Bench) -> None:
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999\r\n\r\n".encode())
        reply = await line.reply()
    assert reply.status == 413
    assert "larger than 1 MiB" in reply.message
    assert bench.upstream.connections == 0


async def test_a_body_in_chunks_that_grows_too_large_is_broken_off(bench: Bench) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        line.send(chunk * 20)
        reply = await line.reply()
    assert reply.status == 413
    assert bench.upstream.seen == []
    assert "larger than 1 MiB" in (await until_finished(bench)).reason


async def test_a_head_that_comes_too_slowly_loses_its_connection(bench: Bench) -> None:
    assert await bench.raw(b"POST / HT") == b""


async def test_a_body_that_stops_coming_ends_the_call(bench: Bench) -> None:
    answer = await bench.raw(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"The request broke off" in answer


async def test_an_idle_connection_is_closed_after_its_time(tmp_path: Path) -> None:
    async with running(tmp_path, replace(SMALL, idle_seconds=0.05)) as bench:
        async with bench.open() as line, asyncio.timeout(5):
            assert (await line.call()).status == 200
            assert await line.reader.read() == b""
        assert await bench.raw(b"") == b""


async def test_a_box_has_only_so_many_connections_and_the_next_one_waits(bench: Bench) -> None:
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(bench.open()) for _ in range(SMALL.connections)]
        for line in lines:
            assert (await line.call()).status == 200
        async with bench.open() as late:
            late.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await late.reader.read(1)
            lines[0].writer.close()
            assert (await late.reply()).status == 200


async def test_a_secret_is_never_sent_over_plain_http(bench: Bench) -> None:
    bench.rules.rules = (Rule("plain", "api.anthropic.com", port=80, tls=False, inject="anthropic"),)
    reply = await bench.call("http://api.anthropic.com/x", host="api.anthropic.com", method="GET")
    assert (reply.status, bench.upstream.connections, bench.rows()[-1].rule) == (403, 0, "vault")
    assert reply.message == "A secret is never sent over plain http. Call the address with https."
