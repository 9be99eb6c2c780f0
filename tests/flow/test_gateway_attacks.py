"""What a hostile box and a hostile server tried together; each was a hole once."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nanoclaw.gateway import control
from nanoclaw.gateway.policy import DEFAULT_RULES, Caller, Rule
from nanoclaw.gateway.spending import Account, Budget, Period, Scope
from tests.flow.gateway_bench import SMALL, Bench, answers, running, until_finished, whole
from tests.flow.gateway_stand import KEY, ROUTE, Line

RULES = (
    Rule("docs", "docs.example.org"),
    Rule("plain", "plain.example.org", port=80, tls=False),
    *DEFAULT_RULES,
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path, replace(SMALL, header_seconds=1.0, stall_seconds=1.0)) as started:
        started.rules.rules = RULES
        started.upstream.answer = answers(whole("200 OK", b"ok"))
        yield started


def without_key(bench: Bench) -> None:
    assert bench.route[0] is not None
    bench.route.append(replace(bench.route[0], secret=None))


@pytest.mark.parametrize(
    "answer",
    [
        f"HTTP/1.1 200 OK\r\nX Echo: {KEY}\r\n\r\n",
        f"HTTP/1.1 {KEY}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{KEY}\r\n",
    ],
)
async def test_a_key_in_an_answer_that_is_no_http_is_in_no_error_and_no_audit(bench: Bench, answer: str) -> None:
    bench.upstream.answer = answers(answer.encode())
    got = await bench.raw(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    ended = await until_finished(bench)
    assert "not HTTP" in ended.reason
    assert KEY[:24] not in got.decode("latin-1") + ended.reason


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /anthropic/v1?q=Quer1y HTTP/1.1 x\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /anthropic/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nbad name: Quer1y\r\n\r\n",
        f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nQuer1y\r\n",
    ],
)
async def test_what_is_no_http_leaves_nothing_of_itself_in_the_audit(bench: Bench, request_text: str) -> None:
    await bench.raw(request_text.encode())
    assert bench.rows()
    assert not any("Quer1y" in row.reason + row.path for row in bench.rows())


async def test_a_body_nested_too_deeply_to_be_read_ends_nothing(bench: Bench) -> None:
    bench.purse.set_budgets([Budget(Account(Scope.ALL), Period.DAY, 10**12, None)])
    deep = b'{"model":"claude-x","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    bench.upstream.answer = answers(whole("200 OK", deep, "content-type: application/json"))
    reply = await bench.call(body=deep)
    assert (reply.status, reply.body) == (200, deep)


async def test_a_call_without_a_path_is_refused(bench: Bench) -> None:
    without_key(bench)
    for target in ("http://plain.example.org", "http://plain.example.org?a=b"):
        reply = await bench.call(target, method="GET", host="plain.example.org", body=b"")
        assert (reply.status, "no path" in reply.message) == (403, True)


async def test_a_secret_as_a_method_is_not_in_the_audit(bench: Bench) -> None:
    assert (await bench.call("/nowhere", method=KEY)).status == 403
    assert KEY not in bench.rows()[-1].method
    refused = [event for event in bench.events if isinstance(event, control.CallRefused)]
    assert KEY not in refused[-1].method


@contextlib.asynccontextmanager
async def waiting_call(bench: Bench) -> AsyncIterator[Line]:
    """A call whose body does not end, which a budget wants to see: it waits as long as the box likes."""
    bench.purse.set_budgets([Budget(Account(Scope.ALL), Period.DAY, 10**12, None)])
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n".encode())
        line.send(b"Content-Length: 2\r\n\r\n")
        assert (await line.reply()).status == 100
        yield line


async def test_a_call_that_waited_until_its_turn_was_over_is_not_made(bench: Bench) -> None:
    async with waiting_call(bench) as line:
        bench.boxes.close_turn("s1", 1)
        line.send(b"{}")
        reply = await line.reply()
    assert (reply.status, "No turn is open" in reply.message) == (403, True)
    assert bench.upstream.seen == []


async def test_a_call_that_waited_is_not_made_in_the_turn_of_somebody_else(bench: Bench) -> None:
    async with waiting_call(bench) as line:
        bench.boxes.close_turn("s1", 1)
        bench.boxes.open_turn("s1", 1, "another")
        line.send(b"{}")
        assert (await line.reply()).status == 403
    assert bench.upstream.seen == []


async def test_a_call_that_waited_is_judged_by_the_rules_of_now(bench: Bench) -> None:
    async with waiting_call(bench) as line:
        bench.rules.rules = ()
        line.send(b"{}")
        assert (await line.reply()).status == 403
    assert bench.upstream.seen == []


async def test_a_call_that_waited_takes_no_secret_along_that_was_removed_or_changed(bench: Bench) -> None:
    async with waiting_call(bench) as line:
        route = bench.route[0]
        assert route is not None and route.secret is not None
        stored = msgspec.structs.replace(route.secret[0], set_at=2)
        bench.route.append(replace(route, secret=(stored, route.secret[1])))
        line.send(b"{}")
        reply = await line.reply()
    assert (reply.status, "changed" in reply.message) == (403, True)
    assert bench.upstream.seen == []


async def test_a_secret_is_not_fetched_in_parts_or_in_another_alphabet(bench: Bench) -> None:
    assert (await bench.call(headers="Range: bytes=0-9\r\nAccept-Charset: utf-16\r\n")).status == 200
    assert not {"range", "accept-charset"} & bench.upstream.seen[0].headers.keys()


async def test_where_no_secret_is_put_on_a_part_may_be_asked_for(bench: Bench) -> None:
    without_key(bench)
    assert (await bench.call(headers="Range: bytes=0-9\r\n")).status == 200
    assert bench.upstream.seen[0].headers["range"] == "bytes=0-9"


async def test_a_secret_as_the_name_of_a_header_does_not_come_back(bench: Bench) -> None:
    token = "abcdef0123456789abcdef0123456789"
    bench.vault.put("hex", token, ("api.anthropic.com",), 1)
    bench.upstream.answer = answers(whole("200 OK", b"ok", f"x-{token}: 1", "x-other: 2"))
    reply = await bench.call()
    assert reply.headers["x-other"] == "2"
    assert not any(token in name for name in reply.headers)


async def test_a_rule_for_every_host_lets_no_body_go_with_a_get(bench: Bench) -> None:
    without_key(bench)
    bench.rules.rules = (Rule("web", "*", methods=frozenset({"GET"})), Rule("http", "*", port=80, tls=False))
    reply = await bench.call("http://a.example.net/", method="GET", host="a.example.net", body=b"all I know")
    assert (reply.status, "no body" in reply.message) == (403, True)
    bare = await bench.call("http://a.example.net/", method="GET", host="a.example.net", body=b"")
    assert bare.status == 200


async def test_no_two_groups_and_no_two_secrets_share_a_connection(bench: Bench) -> None:
    assert (await bench.call()).status == 200
    await bench.finished(1)
    assert (await bench.call()).status == 200
    await bench.finished(2)
    assert bench.upstream.connections == 1
    without_key(bench)
    assert (await bench.call()).status == 200
    await bench.finished(3)
    assert bench.upstream.connections == 2
    listener = socket.create_server(("127.0.0.1", 0))
    bench.boxes.add(Caller("s2", 1, "other", "other"), [listener])
    bench.boxes.open_turn("s2", 1, "owner")
    assert (await replace(bench, port=listener.getsockname()[1]).call()).status == 200
    assert bench.upstream.connections == 3


async def test_a_head_of_very_many_fields_is_refused(bench: Bench) -> None:
    reply = await bench.call(headers="a: b\r\n" * 300)
    assert (reply.status, bench.upstream.seen) == (431, [])
