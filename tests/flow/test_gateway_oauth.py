"""Access tokens are got by the gateway: one call for all who wait, kept before used, refused in plain words."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from nanoclaw.errors import Refused
from nanoclaw.gateway import control
from nanoclaw.gateway.custody import Custody
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.new_secret import Wishes
from nanoclaw.gateway.oauth import AccessTokens
from nanoclaw.gateway.oauth_grant import parse_grant
from nanoclaw.gateway.secret import Secret
from nanoclaw.gateway.target import parse_target
from nanoclaw.gateway.upstream import UpstreamPool
from nanoclaw.gateway.vault import Vault
from nanoclaw.testing.fakes import ManualClock
from tests.flow.gateway_stand import Seen, StandIn, until

CLIENT, REFRESH = "client-secret-0123", "refresh-token-0123"


@dataclass
class TokenServer:
    """What a service's token endpoint does: each token once, a new refresh token when `rotates`."""

    status: str = "200 OK"
    answer: dict[str, object] | None = None
    rotates: bool = False
    life: int = 3600
    given: int = 0
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        self.asked.append(parse_qs(seen.body.decode()))
        await self.go.wait()
        self.given += 1
        told: dict[str, object] = {"access_token": f"access-token-{self.given:04}", "expires_in": self.life}
        if self.rotates:
            told["refresh_token"] = f"refresh-token-new-{self.given}"
        body = json.dumps(self.answer or told).encode()
        head = f"HTTP/1.1 {self.status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)


@dataclass
class Bench:
    server: TokenServer
    vault: Vault
    access: AccessTokens
    clock: ManualClock
    directory: Path

    async def usable(self) -> Secret:
        found = self.vault.find("service")
        assert found is not None
        return await self.access.usable(*found)

    def kept(self) -> str:
        vault = Vault(self.directory)
        vault.load()
        found = vault.find("service")
        assert found is not None
        return parse_grant(found[1].reveal()).refresh_token


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    server, clock = TokenServer(), ManualClock()
    server.go.set()
    stand = StandIn(server.serve)
    vault = Vault(tmp_path)
    vault.load()
    ledger = Ledger(tmp_path / "ledger.db", clock)
    ledger.open()
    told: list[control.GatewayEvent] = []
    pool = UpstreamPool()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(ledger.close)
        port = await stack.enter_async_context(stand.listening())
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(pool.close)

        def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            return tasks.create_task(work)

        grant = {"client_id": "client", "client_secret": CLIENT, "refresh_token": REFRESH}
        value = json.dumps({**grant, "token_url": f"http://127.0.0.1:{port}/token"})
        custody = Custody(vault, ledger, clock, told.append)
        vault.put("service", value, ["api.service.test"], 1, Wishes(kind="oauth2"))
        yield Bench(server, vault, AccessTokens(custody, pool, clock, spawn), clock, tmp_path)


async def test_fifty_calls_at_once_ask_for_one_token(bench: Bench) -> None:
    bench.server.go.clear()
    calls = [asyncio.ensure_future(bench.usable()) for _ in range(50)]
    await until(lambda: bench.server.asked)
    bench.server.go.set()
    tokens = {secret.reveal() for secret in await asyncio.gather(*calls)}
    assert tokens == {"access-token-0001"}
    assert bench.server.asked == [
        {
            "grant_type": ["refresh_token"],
            "refresh_token": [REFRESH],
            "client_id": ["client"],
            "client_secret": [CLIENT],
        }
    ]


async def test_a_caller_that_goes_away_does_not_end_the_renewal_of_the_others(bench: Bench) -> None:
    bench.server.go.clear()
    first, second = asyncio.ensure_future(bench.usable()), asyncio.ensure_future(bench.usable())
    await until(lambda: bench.server.asked)
    first.cancel()
    bench.server.go.set()
    assert (await second).reveal() == "access-token-0001"
    assert len(bench.server.asked) == 1


async def test_a_token_is_renewed_a_minute_before_it_ends(bench: Bench) -> None:
    assert (await bench.usable()).reveal() == "access-token-0001"
    bench.clock.advance(3600 - 61)
    assert (await bench.usable()).reveal() == "access-token-0001"
    bench.clock.advance(2)
    assert (await bench.usable()).reveal() == "access-token-0002"
    assert {b"access-token-0001", b"access-token-0002"} <= set(bench.vault.values())


async def test_a_changed_refresh_token_is_on_disk_before_the_access_token_is_used(bench: Bench) -> None:
    bench.server.rotates = True
    assert (await bench.usable()).reveal() == "access-token-0001"
    assert bench.kept() == "refresh-token-new-1"
    bench.clock.advance(3600)
    assert (await bench.usable()).reveal() == "access-token-0002"
    assert bench.server.asked[1]["refresh_token"] == ["refresh-token-new-1"]
    assert bench.kept() == "refresh-token-new-2"
    assert {REFRESH.encode(), b"refresh-token-new-1", b"refresh-token-new-2"} <= set(bench.vault.values())


async def test_a_refresh_token_that_cannot_be_written_is_not_lost(bench: Bench) -> None:
    bench.server.rotates = True
    blocker = bench.directory / "vault.json.new"
    blocker.mkdir()
    with pytest.raises(Refused, match="cannot be kept"):
        await bench.usable()
    assert bench.kept() == REFRESH
    blocker.rmdir()
    bench.clock.advance(6)
    assert (await bench.usable()).reveal() == "access-token-0002"
    assert bench.server.asked[1]["refresh_token"] == ["refresh-token-new-1"]
    assert bench.kept() == "refresh-token-new-2"


async def test_a_withdrawn_grant_is_told_in_plain_words_and_asked_about_once(bench: Bench) -> None:
    bench.server.status, bench.server.answer = "400 Bad Request", {"error": "invalid_grant"}
    for _ in range(3):
        with pytest.raises(Refused, match=r"service refused to renew.*vault rotate service") as refused:
            await bench.usable()
        assert REFRESH not in str(refused.value)
        bench.clock.advance(100_000)
    assert len(bench.server.asked) == 1
    assert len(bench.access.refusals()) == 1
    bench.server.status, bench.server.answer = "200 OK", None
    found = bench.vault.find("service")
    assert found is not None
    bench.vault.rotate("service", found[1].reveal().replace(REFRESH, "refresh-token-4567"), 2)
    assert (await bench.usable()).reveal() == "access-token-0002"
    assert bench.access.refusals() == ()


@pytest.mark.parametrize(
    ("status", "answer"),
    [("500 Oops", {"error": "server_error"}), ("200 OK", {"nothing": 1}), ("200 OK", {"access_token": "two\nlines"})],
)
async def test_a_failure_that_may_pass_is_tried_again_after_a_while(
    bench: Bench, status: str, answer: dict[str, object]
) -> None:
    bench.server.status, bench.server.answer = status, answer
    for _ in range(3):
        with pytest.raises(Refused, match="cannot be renewed now"):
            await bench.usable()
    assert len(bench.server.asked) == 1
    bench.clock.advance(6)
    bench.server.status, bench.server.answer = "200 OK", None
    assert (await bench.usable()).reveal() == "access-token-0002"


async def test_while_a_service_fails_the_last_token_is_used_to_its_end(bench: Bench) -> None:
    await bench.usable()
    bench.server.status, bench.server.answer = "503 Busy", {"error": "temporarily_unavailable"}
    bench.clock.advance(3600 - 30)
    assert (await bench.usable()).reveal() == "access-token-0001"
    bench.clock.advance(31)
    with pytest.raises(Refused, match="cannot be renewed now"):
        await bench.usable()


async def test_what_the_operator_sets_meanwhile_is_not_overwritten(bench: Bench) -> None:
    bench.server.rotates = True
    bench.server.go.clear()
    call = asyncio.ensure_future(bench.usable())
    await until(lambda: bench.server.asked)
    found = bench.vault.find("service")
    assert found is not None
    bench.vault.rotate("service", found[1].reveal().replace(REFRESH, "refresh-token-4567"), 2)
    bench.server.go.set()
    await call
    assert bench.kept() == "refresh-token-4567"
    await bench.usable()
    assert bench.server.asked[-1]["refresh_token"] == ["refresh-token-4567"]


async def test_an_unreachable_token_address_is_a_refusal(bench: Bench) -> None:
    grant = json.dumps({"client_id": "c", "refresh_token": REFRESH, "token_url": "http://127.0.0.1:1/token"})
    bench.vault.rotate("service", grant, 2)
    with pytest.raises(Refused, match="cannot be reached"):
        await bench.usable()


async def test_other_kinds_are_put_on_as_they_are(bench: Bench) -> None:
    bench.vault.put("plain", "a-plain-token", ["a.test"], 1)
    found = bench.vault.find("plain")
    assert found is not None
    assert await bench.access.usable(*found) is found[1]
    assert bench.server.asked == []


def judged(bench: Bench, url: str) -> str:
    denied = bench.access.deny(parse_target("GET", url, ""))
    return denied.rule if denied else ""


async def test_no_agent_may_call_where_tokens_are_given(bench: Bench) -> None:
    value = {"client_id": "c", "refresh_token": REFRESH}
    apart = json.dumps({**value, "token_url": "https://tokens.test/oauth/token"})
    shared = json.dumps({**value, "token_url": "https://api.shared.test/oauth/token"})
    bench.vault.put("apart", apart, ["api.apart.test"], 1, Wishes(kind="oauth2"))
    bench.vault.put("shared", shared, ["api.shared.test"], 1, Wishes(kind="oauth2"))
    assert judged(bench, "http://tokens.test/anything") == "vault"
    assert judged(bench, "http://api.shared.test/oauth/token") == "vault"
    assert judged(bench, "http://api.shared.test/oauth/token/?a=b") == "vault"
    assert judged(bench, "http://api.shared.test/items") == ""
    assert judged(bench, "http://api.apart.test/oauth/token") == ""
    bench.vault.remove("apart")
    assert judged(bench, "http://tokens.test/anything") == ""
