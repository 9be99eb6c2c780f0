"""Secrets in a call as it passes the proxy: refused and written down, or masked on the way to a model."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.gateway.policy import Rule
from tests.flow.gateway_bench import Bench, answers, running, until_finished, whole
from tests.flow.gateway_stand import KEY, ROUTE

TOKEN = "gh" + "p_" + "0123456789abcdefghijABCDEFGHIJ012345"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path) as bench:
        yield bench


@pytest.mark.parametrize(
    ("target", "headers", "what"),
    [
        (ROUTE + "?note=" + TOKEN, "", "what looks like a GitHub token"),
        (ROUTE, f"X-Note: {TOKEN}\r\n", "what looks like a GitHub token"),
        (ROUTE, f"X-Note: {base64.b64encode(KEY.encode()).decode()}\r\n", "a secret that NanoClaw keeps"),
    ],
)
async def test_a_secret_in_a_head_ends_the_call_before_it_is_made(
    bench: Bench, target: str, headers: str, what: str
) -> None:
    reply = await bench.call(target, headers=headers)
    assert reply.status == 403
    assert reply.message == f"The head of the request holds {what}, and nothing secret leaves. Take it out."
    assert bench.upstream.connections == 0
    assert [(row.event, row.rule, row.status) for row in bench.rows()] == [("refused", "leak", 403)]
    assert not any(TOKEN in str(row) or KEY in str(row) for row in bench.rows())


async def test_what_an_agent_sends_as_its_own_credential_is_no_leak_for_it_never_leaves(bench: Bench) -> None:
    bench.upstream.answer = answers(whole("200 OK", b"ok"))
    reply = await bench.call(headers=f"X-Api-Key: sk-ant-placeholder\r\nAuthorization: Bearer {TOKEN}\r\n")
    assert reply.status == 200
    assert bench.upstream.seen[0].headers["x-api-key"] == KEY
    assert TOKEN not in str(bench.upstream.seen)


async def test_a_key_that_was_pasted_into_a_chat_reaches_no_model(bench: Bench) -> None:
    bench.upstream.answer = answers(whole("200 OK", b"ok"))
    body = f'{{"model":"m","messages":["{TOKEN} {KEY}"]}}'.encode()
    reply = await bench.call(body=body)
    assert reply.status == 200
    stars = "*" * len(TOKEN) + " " + "*" * len(KEY)
    assert bench.upstream.seen[0].body.decode() == f'{{"model":"m","messages":["{stars}"]}}'
    assert (await until_finished(bench)).sent_bytes == len(body)


async def test_a_large_body_without_secrets_arrives_as_it_was_sent(bench: Bench) -> None:
    bench.upstream.answer = answers(whole("200 OK", b"ok"))
    body = bytes(range(97, 123)) * 20_000
    assert (await bench.call(body=body)).status == 200
    assert bench.upstream.seen[0].body == body


@pytest.mark.parametrize("how", [base64.b64encode, base64.urlsafe_b64encode, lambda raw: raw.hex().encode()])
async def test_an_echo_of_the_key_in_disguise_is_blotted_out(bench: Bench, how: object) -> None:
    echoed: bytes = how(b"x-api-key=" + KEY.encode())  # type: ignore[operator]
    halves = echoed[: len(echoed) // 2], echoed[len(echoed) // 2 :]
    head = b"HTTP/1.1 200 OK\r\nx-echo: %s\r\ncontent-length: %d\r\n\r\n" % (echoed, len(echoed))
    bench.upstream.answer = answers(head + halves[0], halves[1])
    reply = await bench.call()
    assert len(reply.body) == len(echoed)
    for seen in (reply.body, reply.headers["x-echo"].encode()):
        assert seen.count(b"*") >= len(KEY)
        assert echoed[16:-4] not in seen


@pytest.mark.parametrize("head", ["{key} /anthropic/v1/messages", "GET /{key}", "POST http://x.example.org/{key}"])
async def test_a_refused_call_that_is_a_secret_itself_leaves_no_trace_of_it(bench: Bench, head: str) -> None:
    await bench.raw(f"{head.format(key=KEY)} HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n".encode())
    assert [row.event for row in bench.rows()] == ["refused"]
    assert KEY not in f"{bench.rows()} {bench.events}"


async def test_a_secret_in_a_body_that_is_under_way_ends_the_call_and_both_are_written_down(bench: Bench) -> None:
    bench.rules.rules = (Rule("web", "a.example.org", port=80, tls=False),)
    assert bench.route[0] is not None
    bench.route.append(replace(bench.route[0], secret=None))
    body = b". " * 50_000 + TOKEN.encode()
    reply = await bench.call("http://a.example.org/x", host="a.example.org", body=body)
    assert (reply.status, "The body of the request holds what looks like a GitHub token" in reply.message) == (
        403,
        True,
    )
    assert [(row.event, row.rule) for row in bench.rows()] == [
        ("allowed", "web"),
        ("finished", "web"),
        ("refused", "leak"),
    ]
    assert TOKEN not in str(bench.upstream.seen)
