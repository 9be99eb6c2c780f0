"""Calls that a rule asks about, on real connections: they wait, and what their clients read."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec

from nanoclaw.clock import SystemClock
from nanoclaw.gateway.accounts import EVERYTHING
from nanoclaw.gateway.control import HoldAsked, HoldDecided, HoldOpened, HoldTaken, HoldVerdict
from nanoclaw.gateway.exchange import Route
from nanoclaw.gateway.policy import Action, Rule
from nanoclaw.gateway.spending import Amount, Budget, Period
from tests.flow.gateway_bench import SMALL, Bench, answers, running, until_finished, whole
from tests.flow.gateway_stand import KEY, Line, Reply, until

URL = "http://shop.example.org/pay?to=bob"
TEN_MINUTES = 600_000


RULE = Rule("shop", "shop.example.org", Action.ASK, port=80, tls=False)


@contextlib.asynccontextmanager
async def asking(path: Path, **limits: float) -> AsyncIterator[Bench]:
    changed = replace(SMALL, connections=8, stall_seconds=5.0, **limits)  # type: ignore[arg-type]
    async with running(path, changed) as bench:
        bench.rules.rules = (RULE,)
        route = bench.route[-1]
        assert route is not None
        bench.route.append(Route(route.endpoint, None))
        bench.upstream.answer = answers(whole("200 OK", b"paid"))
        yield bench


async def pays(line: Line, body: bytes = b"3 EUR", *, url: str = URL, method: str = "POST") -> None:
    line.send(
        f"{method} {url} HTTP/1.1\r\nHost: shop.example.org\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


async def held(bench: Bench, count: int = 1) -> HoldOpened:
    """The host is asked about the newest call."""
    await until(lambda: len(opened(bench)) == count)
    return opened(bench)[-1]


def opened(bench: Bench) -> list[HoldOpened]:
    return [event for event in bench.events if isinstance(event, HoldOpened)]


async def decides(bench: Bench, about: HoldOpened, verdict: HoldVerdict, approval: str = "a1") -> None:
    until_ms = SystemClock().now_ms() + TEN_MINUTES
    words = "Alice said no to this call." if verdict is HoldVerdict.DENY else "allowed once by Alice"
    await bench.holds.decide(HoldDecided(about.digest, about.group, approval, verdict, words, until_ms))


def error(reply: Reply) -> dict[str, str]:
    return msgspec.json.decode(reply.body)["error"]


async def test_a_held_call_goes_out_when_a_person_says_yes_and_not_a_byte_before(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        await pays(line)
        about = await held(bench)
        assert about.address == URL and about.preview == "3 EUR" and about.host == "shop.example.org"
        assert bench.upstream.connections == 0
        await decides(bench, about, HoldVerdict.ALLOW)
        reply = await line.reply()
        assert (reply.status, reply.body) == (200, b"paid")
        (seen,) = bench.upstream.seen
        assert (seen.method, seen.target, seen.body) == ("POST", "/pay?to=bob", b"3 EUR")
        assert HoldTaken("a1", reached=True) in bench.events
        await until_finished(bench)
        granted, allowed, finished = bench.rows()
        assert granted.event == "changed" and "allowed once by Alice, approval a1" in granted.reason
        assert (allowed.event, allowed.rule, finished.status) == ("allowed", "shop", 200)
        await pays(line)
        await held(bench, 2)  # the same connection, the same call: it is asked about again


async def test_a_call_inside_a_tunnel_waits_too_and_its_tls_client_notices_nothing_but_the_time(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench:
        bench.rules.rules = (replace(RULE, port=443, tls=True),)
        async with bench.tunnel("shop.example.org") as line:
            call = asyncio.ensure_future(line.call("/pay?to=bob", host="shop.example.org", body=b"3 EUR"))
            about = await held(bench)
            assert about.address == "https://shop.example.org/pay?to=bob" and bench.upstream.connections == 0
            await decides(bench, about, HoldVerdict.ALLOW)
            assert (await call).body == b"paid"


async def test_a_client_that_leaves_a_tunnel_waits_no_longer(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench:
        bench.rules.rules = (replace(RULE, port=443, tls=True),)
        async with bench.tunnel("shop.example.org") as line:
            head = "POST /pay HTTP/1.1\r\nHost: shop.example.org\r\nContent-Length: 0\r\n\r\n"
            line.send(head.encode())
            await held(bench)
        await until(lambda: any("the client went away" in row.reason for row in bench.rows()))


async def test_a_no_is_a_403_in_the_persons_words_and_leaves_the_connection_usable(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        await pays(line)
        await decides(bench, await held(bench), HoldVerdict.DENY)
        reply = await line.reply()
        assert reply.status == 403 and bench.upstream.connections == 0
        assert error(reply) == {"type": "permission_error", "message": "Alice said no to this call."}
        assert (bench.rows()[-1].event, bench.rows()[-1].rule) == ("refused", "shop")
        await pays(line, b"2 EUR")
        await decides(bench, await held(bench, 2), HoldVerdict.ALLOW)
        assert (await line.reply()).status == 200


async def test_a_call_nobody_answers_is_a_403_with_an_id_and_goes_once_after_a_late_yes(tmp_path: Path) -> None:
    async with asking(tmp_path, hold_seconds=0.2) as bench, bench.open() as line:
        await pays(line)
        about = await held(bench)
        bench.holds.asked(HoldAsked(about.digest, about.group, "01APPROVAL", "k3"))
        reply = await line.reply()
        assert reply.status == 403
        assert (error(reply)["type"], error(reply)["id"]) == ("approval_pending", "01APPROVAL")
        assert "(question k3)" in error(reply)["message"] and bench.rows()[-1].event == "refused"
        await decides(bench, about, HoldVerdict.ALLOW)
        assert HoldTaken("a1", reached=False) in bench.events
        await pays(line, b"4 EUR")
        assert (await line.reply()).status == 403, "another body is another call"
        await pays(line)
        assert (await line.reply()).body == b"paid"
        await pays(line)
        assert error(await line.reply())["type"] == "approval_pending"


async def test_a_client_that_goes_away_frees_its_place_and_is_in_the_audit(tmp_path: Path) -> None:
    async with asking(tmp_path, holds_of_box=1) as bench:
        async with bench.open() as line:
            await pays(line)
            await held(bench)
        await until(lambda: [row.event for row in bench.rows()] == ["refused"])
        assert "the client went away" in bench.rows()[0].reason
        async with bench.open() as line:
            await pays(line, b"5 EUR")
            await held(bench, 2)


async def test_a_client_that_sends_its_next_call_early_still_waits_and_gets_both_answers(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        await pays(line)
        about = await held(bench)
        await pays(line, b"5 EUR")
        await asyncio.sleep(0.01)
        await decides(bench, about, HoldVerdict.ALLOW)
        assert (await line.reply()).status == 200
        await decides(bench, await held(bench, 2), HoldVerdict.DENY, "a2")
        assert (await line.reply()).status == 403


async def test_a_box_that_is_gone_waits_no_longer(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        await pays(line)
        about = await held(bench)
        bench.boxes.remove("s1", 1)
        assert await line.reader.read() == b""
        await decides(bench, about, HoldVerdict.ALLOW)
        assert HoldTaken("a1", reached=False) in bench.events and bench.upstream.connections == 0


async def test_what_is_denied_by_the_time_of_the_yes_stays_denied(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        await pays(line)
        about = await held(bench)
        bench.rules.rules = (replace(RULE, action=Action.DENY),)
        await decides(bench, about, HoldVerdict.ALLOW)
        reply = await line.reply()
        assert reply.status == 403 and "denies" in error(reply)["message"] and bench.upstream.connections == 0


async def test_a_body_beyond_a_mebibyte_is_refused_with_words_and_nobody_is_asked(tmp_path: Path) -> None:
    async with asking(tmp_path, body_bytes=4 * 1024 * 1024) as bench, bench.open() as line:
        await pays(line, b"x" * (1024 * 1024 + 200_000))
        reply = await line.reply()
        assert reply.status == 413 and "MiB" in error(reply)["message"]
        assert opened(bench) == [] and bench.rows()[-1].event == "refused"


async def test_a_body_in_chunks_is_held_whole_and_is_the_same_call_however_it_was_cut(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        head = f"POST {URL} HTTP/1.1\r\nHost: shop.example.org\r\nTransfer-Encoding: chunked\r\n\r\n"
        line.send(head.encode() + b"2\r\n3 \r\n")
        await asyncio.sleep(0.02)
        assert opened(bench) == []
        line.send(b"3\r\nEUR\r\n0\r\n\r\n")
        about = await held(bench)
        assert about.preview == "3 EUR"
        async with bench.open() as other:
            await pays(other)
            await until(lambda: [len(box.connections) for box in bench.boxes] == [2])
            await asyncio.sleep(0.02)
            assert len(opened(bench)) == 1, "one question"
            await decides(bench, about, HoldVerdict.ALLOW)
            replies = [await line.reply(), await other.reply()]
        assert sorted(reply.status for reply in replies) == [200, 403]


async def test_a_ledger_that_cannot_be_written_lets_nothing_go(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as stranger:
            stranger.execute("DROP TABLE grants")
        await pays(line)
        reply = await line.reply()
        assert reply.status == 503 and bench.upstream.connections == 0


async def test_a_yes_that_comes_after_the_turn_lets_nothing_out(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        await pays(line)
        about = await held(bench)
        bench.boxes.close_turn("s1", 1)
        await decides(bench, about, HoldVerdict.ALLOW)
        assert "No turn is open" in error(await line.reply())["message"]
        assert (bench.upstream.connections, bench.rows()[-1].rule) == (0, "turn")


async def test_a_call_whose_body_comes_when_the_turn_is_over_asks_nobody(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        head = f"POST {URL} HTTP/1.1\r\nHost: shop.example.org\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        line.send(head.encode())
        assert b" 100 " in await line.reader.readuntil(b"\r\n\r\n")
        bench.boxes.close_turn("s1", 1)
        line.send(b"12")
        assert (await line.reply()).status == 403
        assert (opened(bench), bench.rows()[-1].rule) == ([], "turn")


async def test_a_secret_in_a_body_is_found_before_a_person_is_asked(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        await pays(line, f"note={KEY}".encode())
        assert (await line.reply()).status == 403
        assert (opened(bench), bench.rows()[-1].rule) == ([], "leak")


async def test_what_was_set_aside_for_a_call_that_is_refused_is_free_again(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        bench.rules.rules = (replace(RULE, model="openai"),)
        bench.purse.set_budgets([Budget(EVERYTHING, Period.DAY, None, 1_000_000)])
        await pays(line, b'{"model":"gpt-x","max_tokens":10}')
        about = await held(bench)
        assert bench.purse.accounts.held(EVERYTHING).tokens > 0
        await decides(bench, about, HoldVerdict.DENY)
        assert (await line.reply()).status == 403
        assert bench.purse.accounts.held(EVERYTHING) == Amount()


async def test_a_call_whose_rule_asks_by_the_time_its_body_has_come_does_not_go(tmp_path: Path) -> None:
    async with asking(tmp_path) as bench, bench.open() as line:
        bench.rules.rules = (replace(RULE, action=Action.ALLOW),)
        bench.purse.set_budgets([Budget(EVERYTHING, Period.DAY, None, 1_000_000)])  # so that the body is waited for
        head = f"POST {URL} HTTP/1.1\r\nHost: shop.example.org\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        line.send(head.encode())
        assert b" 100 " in await line.reader.readuntil(b"\r\n\r\n")
        bench.rules.rules = (RULE,)
        line.send(b"12")
        assert "its rule or its secret changed" in error(await line.reply())["message"]
        assert (bench.upstream.connections, bench.rows()[-1].rule) == (0, "turn")
