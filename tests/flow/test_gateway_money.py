"""Money as agents and operators meet it: a real gateway process, limits in force at once, what was spent in reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words
from tests.flow.gateway_stand import KEY, Gateway, Seen, StandIn, answer_stream, running, until

pytestmark = pytest.mark.ci  # a gateway process for each: ten seconds; the sums themselves are in tests/unit

BODY = b'{"model":"claude-x","max_tokens":1000,"messages":[]}'


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path / "gateway", StandIn()) as started:
        started.client.open_turn("s1", 1, "U1")
        await started.set_key()
        yield started


def answers(model: str, output_tokens: int, held: asyncio.Event | None = None):
    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        if held is not None:
            await held.wait()
        usage = {"input_tokens": 1000, "output_tokens": output_tokens}
        body = msgspec.json.encode({"type": "message", "model": model, "usage": usage})
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    return answer


async def limits(gateway: Gateway) -> list[admin_words.BudgetLine]:
    return await gateway.ask(admin_words.BudgetList(), list[admin_words.BudgetLine])  # type: ignore[return-value]


async def report(gateway: Gateway, by: str) -> list[admin_words.CostLine]:
    return await gateway.ask(admin_words.CostReport(by), list[admin_words.CostLine])  # type: ignore[return-value]


async def ended(gateway: Gateway, count: int) -> None:
    async def enough() -> bool:
        return sum(line.calls for line in await report(gateway, "group")) >= count

    async with asyncio.timeout(5):
        while not await enough():
            await asyncio.sleep(0.01)


async def test_a_call_is_charged_to_its_agent_its_person_and_its_model(gateway: Gateway) -> None:
    gateway.upstream.answer = answers("claude-sonnet-4-5", 100)
    await gateway.call(body=BODY)
    gateway.client.open_turn("s1", 1, "task:T1")
    await gateway.call(body=BODY)
    await ended(gateway, 2)
    cost = 1000 * 3 + 100 * 15
    (group,) = await report(gateway, "group")
    assert (group.key, group.folder, group.calls, group.estimated, group.cost_micros) == (
        "main",
        "main",
        2,
        0,
        2 * cost,
    )
    assert [(line.key, line.cost_micros) for line in await report(gateway, "person")] == [("U1", cost)]
    assert [(line.key, line.cost_micros) for line in await report(gateway, "task")] == [("task:T1", cost)]
    assert [line.key for line in await report(gateway, "model")] == ["claude-sonnet-4-5"]
    (day,) = await report(gateway, "day")
    assert (day.calls, day.input_tokens, day.output_tokens) == (2, 2000, 200)


async def test_a_call_is_refused_before_it_leaves_once_the_budget_is_spent(gateway: Gateway) -> None:
    gateway.upstream.answer = answers("claude-sonnet-4-5", 100)
    await gateway.ask(admin_words.BudgetSet("group", "main", day_micros=4_000), bool)
    assert (await gateway.call(body=BODY)).status == 200
    await ended(gateway, 1)
    refused = await gateway.call(body=BODY)
    assert refused.status == 402
    assert refused.message.startswith("The budget of main for today is spent: $0.0045 of $0.004. It opens again")
    assert len(gateway.upstream.seen) == 1
    row = (await gateway.audit())[-1]
    assert (row.event, row.rule, row.status) == ("refused", "budget", 402)
    await gateway.ask(admin_words.BudgetSet("group", "main", day_micros=1_000_000), bool)
    assert (await gateway.call(body=BODY)).status == 200


async def test_calls_at_once_do_not_overspend(gateway: Gateway) -> None:
    going = asyncio.Event()
    gateway.upstream.answer = answers("claude-sonnet-4-5", 1000, going)
    body = b'{"model":"claude-sonnet-4-5","max_tokens":1000}'
    worst = 16 * 3 + 1000 * 15  # what is reserved for a call of 47 bytes and 1000 tokens
    await gateway.ask(admin_words.BudgetSet("all", day_micros=5 * worst), bool)
    calls = [asyncio.ensure_future(gateway.call(body=body)) for _ in range(20)]
    await until(lambda: len(gateway.upstream.seen) + sum(call.done() for call in calls) == 20)
    (line,) = await limits(gateway)
    assert 0 < line.held_micros <= 5 * worst
    going.set()
    statuses = [reply.status for reply in await asyncio.gather(*calls)]
    assert (statuses.count(200), statuses.count(429)) == (5, 15)


async def test_a_gateway_killed_in_mid_call_counts_what_was_reserved(gateway: Gateway) -> None:
    going = asyncio.Event()
    gateway.upstream.answer = answers("claude-sonnet-4-5", 100, going)
    await gateway.ask(admin_words.BudgetSet("person", "U1", month_micros=1_000_000), bool)
    call = asyncio.ensure_future(gateway.call(body=b'{"model":"claude-sonnet-4-5","max_tokens":2000}'))
    await until(lambda: gateway.upstream.seen)
    (line,) = await limits(gateway)
    pid = gateway.client.pid
    assert pid is not None and (line.spent_micros, line.held_micros) == (0, 16 * 3 + 2000 * 15)
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError, EOFError):
        await call
    await until(lambda: gateway.client.pid not in (None, pid) and gateway.client.ready.is_set())
    (again,) = await limits(gateway)
    assert (again.spent_micros, again.held_micros) == (line.held_micros, 0)
    (person,) = await report(gateway, "person")
    assert (person.calls, person.estimated, person.cost_micros) == (1, 1, line.held_micros)
    going.set()


async def test_the_attempt_of_a_turn_stands_with_what_it_used(gateway: Gateway) -> None:
    gateway.client.open_turn("s1", 1, "U1", attempt=3)
    await gateway.call(body=BODY)
    await ended(gateway, 1)
    with closing(sqlite3.connect(gateway.directory / "ledger.db")) as ledger:
        assert ledger.execute("SELECT attempt, charge FROM usage").fetchall() == [(3, "U1")]


async def test_a_refused_path_or_host_that_holds_a_secret_is_blotted_out_in_the_audit_and_the_log(
    gateway: Gateway,
) -> None:
    for target in (f"/{KEY}/x", f"/anthropic/v1/{KEY}", f"http://{KEY}.test/", f"http://a.test/{KEY}"):
        assert (await gateway.call(target)).status == 403
    said = f"{await gateway.audit()} {gateway.events} {gateway.log}"
    assert KEY not in said and KEY[12:] not in said


async def test_a_stream_that_says_what_it_used_is_no_estimate(gateway: Gateway) -> None:
    gateway.upstream.answer = answer_stream
    await gateway.call(body=BODY)
    await ended(gateway, 1)
    (line,) = await report(gateway, "model")
    assert (line.key, line.input_tokens, line.output_tokens) == ("claude-x", 12, 7)
    assert line.estimated == 1  # nobody knows what claude-x costs
    await gateway.ask(admin_words.PriceSet("claude-x", 10**6, 10**6, 0, 0, 0), bool)
    await gateway.call(body=BODY)
    await ended(gateway, 2)
    (line,) = await report(gateway, "model")
    assert line.estimated == 1


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (admin_words.BudgetSet("group", "main"), "No limit was given"),
        (admin_words.BudgetSet("group", "", day_micros=1), "Say whose budget"),
        (admin_words.BudgetSet("all", "main", day_micros=1), "Say whose budget"),
        (admin_words.BudgetSet("world", "main", day_micros=1), "not for 'world'"),
        (admin_words.BudgetSet("all", day_micros=-1), "from 0 on"),
        (admin_words.BudgetSet("all", day_tokens=10**17), "from 0 on"),
        (admin_words.PriceSet("", 1, 1, 1, 1, 1), "A price is"),
        (admin_words.PriceSet("m", 1, -1, 1, 1, 1), "A price is"),
        (admin_words.PriceRemove("m"), "no price of yours"),
        (admin_words.CostReport("colour"), "not by colour"),
    ],
)
async def test_what_makes_no_sense_is_refused_in_plain_words(
    gateway: Gateway, request_: admin_words.AdminRequest, words: str
) -> None:
    with pytest.raises(OperatorError, match=words):
        await gateway.ask(request_, bool)
    assert await limits(gateway) == []


async def test_limits_and_prices_are_kept_changed_and_taken_away_and_every_change_is_in_the_audit(
    gateway: Gateway,
) -> None:
    await gateway.ask(admin_words.BudgetSet("group", "main", day_micros=5_000_000, month_tokens=9), bool)
    await gateway.ask(admin_words.BudgetSet("group", "main", day_tokens=7), bool)
    found = {line.period: (line.limit_micros, line.limit_tokens) for line in await limits(gateway)}
    assert found == {"day": (5_000_000, 7), "month": (None, 9)}
    assert await gateway.ask(admin_words.BudgetRemove("group", "main", "month"), int) == 1
    assert await gateway.ask(admin_words.BudgetRemove("group", "main"), int) == 1
    assert await limits(gateway) == []
    await gateway.ask(admin_words.PriceSet("qwen/Qwen3", 1, 2, 3, 4, 5), bool)
    prices = await gateway.ask(admin_words.PriceList(), list[admin_words.PriceLine])
    assert prices[0] == admin_words.PriceLine("qwen3", 1, 2, 3, 4, 5, 0, "own")  # type: ignore[index]
    assert await gateway.ask(admin_words.PriceRemove("qwen/Qwen3"), bool)
    changes = [
        (row.rule, row.reason.partition(", by uid")[0]) for row in await gateway.audit() if row.event == "changed"
    ]
    assert changes[1:] == [
        ("cost.limit", "group main: $5.00 a day, 9 tokens a month"),
        ("cost.limit", "group main: 7 tokens a day"),
        ("cost.nolimit", "group main month"),
        ("cost.nolimit", "group main"),
        ("cost.price", "qwen/Qwen3: 1 in, 2 out"),
        ("cost.noprice", "qwen/Qwen3"),
    ]
