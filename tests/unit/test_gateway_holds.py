"""Calls that wait for a person: one yes lets one call go, whatever comes in what order and whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nanoclaw.gateway import control
from nanoclaw.gateway.boxes import Limits
from nanoclaw.gateway.control import HoldAsked, HoldDecided, HoldOpened, HoldTaken, HoldVerdict
from nanoclaw.gateway.holds import Held, Holds, Pending, find_digest, find_preview
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.policy import Action, Caller, Deny, Rule
from nanoclaw.gateway.target import Form, Target
from nanoclaw.gateway.wanted import SecretWatch
from nanoclaw.testing.fakes import ManualClock

SECRET = b"sk-real-0123456789"
CALLER = Caller("s1", 1, "g1", "main")
RULE = Rule("pay", "api.example.org", Action.ASK)
TARGET = Target(Form.TUNNEL, "POST", "api.example.org", "/v1/pay", "to=bob")
HELD = Held(CALLER, RULE, TARGET, b'{"amount": 3}')
DIGEST = find_digest("main", TARGET, HELD.body)
TEN_MINUTES = 600_000


@dataclass
class Stage:
    """One life of a gateway's holds over a ledger on disk."""

    ledger: Ledger
    clock: ManualClock
    limits: Limits
    told: list[control.HoldEvent] = field(default_factory=list[control.HoldEvent])
    calls: list[asyncio.Task[Deny | None]] = field(default_factory=list[asyncio.Task[Deny | None]])

    def __post_init__(self) -> None:
        self.holds = Holds(self.ledger, self.told.append, SecretWatch(lambda: (SECRET,)), self.clock, self.limits)

    async def call(self, held: Held = HELD) -> asyncio.Task[Deny | None]:
        """Begin a call, and wait until it is answered or the host is asked."""
        before = len(self.told)
        task = self.group.create_task(self.holds.ask(held, asyncio.Event()))
        self.calls.append(task)
        async with asyncio.timeout(5):
            while not task.done() and len(self.told) == before:
                await asyncio.sleep(0.001)
        return task

    async def yes(self, approval: str = "a1", digest: str = DIGEST, group: str = "g1") -> None:
        until = self.clock.now_ms() + TEN_MINUTES
        await self.holds.decide(HoldDecided(digest, group, approval, HoldVerdict.ALLOW, "allowed once by Alice", until))

    async def no(self, approval: str = "a1") -> None:
        await self.holds.decide(HoldDecided(DIGEST, "g1", approval, HoldVerdict.DENY, "Alice said no."))

    def opened(self) -> list[HoldOpened]:
        return [event for event in self.told if isinstance(event, HoldOpened)]

    def taken(self) -> list[HoldTaken]:
        return [event for event in self.told if isinstance(event, HoldTaken)]

    group: asyncio.TaskGroup = field(init=False)


@contextlib.asynccontextmanager
async def living(path: Path, clock: ManualClock | None = None, **limits: float) -> AsyncIterator[Stage]:
    clock = clock or ManualClock()
    ledger = Ledger(path / "ledger.db", clock)
    ledger.open()
    stage = Stage(ledger, clock, replace(Limits(), **limits))  # type: ignore[arg-type]
    try:
        async with asyncio.TaskGroup() as stage.group:
            yield stage
            for call in stage.calls:
                call.cancel()
    finally:
        ledger.close()


async def test_a_yes_in_time_lets_the_call_go_and_the_host_hears_that_it_did(tmp_path: Path) -> None:
    async with living(tmp_path) as stage:
        call = await stage.call()
        assert not call.done()
        (opened,) = stage.opened()
        assert (opened.digest, opened.group, opened.folder, opened.rule) == (DIGEST, "g1", "main", "pay")
        assert opened.address == "https://api.example.org/v1/pay?to=bob" and opened.path == "/v1/pay"
        assert opened.preview == '{"amount": 3}'
        await stage.yes()
        assert await call is None
        assert stage.taken() == [HoldTaken("a1", reached=True)]
        again = await stage.call()
        assert not again.done() and len(stage.opened()) == 2, "one yes is one call"


async def test_a_no_is_told_in_the_persons_words(tmp_path: Path) -> None:
    async with living(tmp_path) as stage:
        call = await stage.call()
        await stage.no()
        assert await call == Deny("pay", "Alice said no.")
        assert stage.taken() == [HoldTaken("a1", reached=True)]
        await stage.no("a2")
        assert stage.taken()[-1] == HoldTaken("a2", reached=False)


async def test_a_call_nobody_answers_in_time_is_pending_and_a_late_yes_lets_it_go_once(tmp_path: Path) -> None:
    async with living(tmp_path, hold_seconds=0.05) as stage:
        call = await stage.call()
        stage.holds.asked(HoldAsked(DIGEST, "g1", "a1", "k3"))
        pending = await call
        assert isinstance(pending, Pending) and pending.id == "a1"
        assert "POST to api.example.org" in pending.reason and "(question k3)" in pending.reason
        assert "byte for byte, within 10 minutes" in pending.reason
        await stage.yes()
        assert stage.taken() == [HoldTaken("a1", reached=False)]
        assert await (await stage.call()) is None
        assert isinstance(await (await stage.call()), Pending)
        await stage.yes()
        assert stage.taken()[-1] == HoldTaken("a1", reached=True), "told again, it is no second grant"
        assert isinstance(await (await stage.call()), Pending)


async def test_a_question_the_host_has_not_put_yet_has_the_calls_own_id(tmp_path: Path) -> None:
    async with living(tmp_path, hold_seconds=0.01) as stage:
        pending = await (await stage.call())
        assert isinstance(pending, Pending) and pending.id == DIGEST[:16] and "(question" not in pending.reason


async def test_a_grant_is_over_after_its_time(tmp_path: Path) -> None:
    async with living(tmp_path, hold_seconds=0.01) as stage:
        await stage.yes()
        stage.clock.advance(TEN_MINUTES / 1000)
        assert isinstance(await (await stage.call()), Pending)


def others() -> Iterator[tuple[str, Held]]:
    def but(**changed: object) -> Held:
        return replace(HELD, target=replace(TARGET, **changed))  # type: ignore[arg-type]

    yield "method", but(method="PUT")
    yield "host", but(host="api.example.com")
    yield "port", but(port=8443)
    yield "scheme", but(form=Form.ABSOLUTE)
    yield "path", but(path="/v1/pay/")
    yield "query", but(query="to=eve")
    yield "border", but(path="/v1/pa", query="yto=bob")
    yield "body", replace(HELD, body=b'{"amount": 4}')
    yield "empty", replace(HELD, body=b"")
    yield "group", replace(HELD, caller=replace(CALLER, group="g2", folder="other"))
    yield "folder", replace(HELD, caller=replace(CALLER, folder="other"))


@pytest.mark.parametrize("held", [pytest.param(held, id=name) for name, held in others()])
async def test_a_grant_is_of_no_use_to_any_other_call(tmp_path: Path, held: Held) -> None:
    async with living(tmp_path, hold_seconds=0.01) as stage:
        await stage.yes()
        assert isinstance(await (await stage.call(held)), Pending)
        assert await (await stage.call()) is None


async def test_another_session_of_the_same_agent_may_use_a_grant(tmp_path: Path) -> None:
    async with living(tmp_path, hold_seconds=0.01) as stage:
        await stage.yes()
        assert await (await stage.call(replace(HELD, caller=replace(CALLER, session="s2", fence=9)))) is None


async def test_the_same_call_made_twice_at_once_is_one_question_and_one_of_them_goes(tmp_path: Path) -> None:
    async with living(tmp_path) as stage:
        calls = [stage.group.create_task(stage.holds.ask(HELD, asyncio.Event())) for _ in range(3)]
        while len(stage.opened()) < 1:
            await asyncio.sleep(0.001)
        await stage.yes()
        ends = [await call for call in calls]
        assert ends.count(None) == 1 and len(stage.opened()) == 1
        denied = [end for end in ends if end is not None]
        assert all("has used that" in end.reason and not isinstance(end, Pending) for end in denied)


async def test_a_client_that_goes_ends_the_wait_and_its_place_is_free_again(tmp_path: Path) -> None:
    async with living(tmp_path, holds_of_box=1) as stage:
        gone = asyncio.Event()
        call = stage.group.create_task(stage.holds.ask(HELD, gone))
        while not stage.opened():
            await asyncio.sleep(0.001)
        full = await stage.holds.ask(replace(HELD, body=b"other"), asyncio.Event())
        assert full is not None and "too many calls wait" in full.reason
        gone.set()
        denied = await call
        assert denied is not None and "the client went away" in denied.reason
        await stage.yes()
        assert stage.taken() == [HoldTaken("a1", reached=False)], "the yes is kept for when it asks again"
        assert await (await stage.call()) is None


async def test_no_more_wait_than_the_limits_of_a_box_and_of_all(tmp_path: Path) -> None:
    async with living(tmp_path, holds_of_box=2, holds_of_all=3) as stage:
        for number in range(2):
            await stage.call(replace(HELD, body=b"%d" % number))
        assert (await stage.call(replace(HELD, body=b"2"))).done()
        other = replace(CALLER, session="s2")
        await stage.call(Held(other, RULE, TARGET, b"3"))
        assert (await stage.call(Held(other, RULE, TARGET, b"4"))).done()
        assert len(stage.opened()) == 3


async def test_a_call_that_cannot_be_shown_whole_is_not_asked_about(tmp_path: Path) -> None:
    async with living(tmp_path) as stage:
        for target in (replace(TARGET, query="x" * 1500), replace(TARGET, method="M" * 60_000)):
            denied = await (await stage.call(replace(HELD, target=target)))
            assert denied is not None and "more than a person would read" in denied.reason
        assert stage.told == []


@pytest.mark.parametrize("path", ["/v1/*", "/**", "/v1/" + "a" * 200, "", "/v1/" + SECRET.decode()])
async def test_a_path_that_a_rule_cannot_name_exactly_is_not_offered_as_one(tmp_path: Path, path: str) -> None:
    async with living(tmp_path) as stage:
        await stage.call(replace(HELD, target=replace(TARGET, path=path)))
        assert stage.opened()[0].path == ""


async def test_no_secret_is_shown_to_a_person(tmp_path: Path) -> None:
    async with living(tmp_path) as stage:
        await stage.call(Held(CALLER, RULE, replace(TARGET, query=f"key={SECRET.decode()}"), b"key " + SECRET))
        (opened,) = stage.opened()
        assert SECRET.decode() not in repr(opened) and "*" * len(SECRET) in opened.preview


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", "nothing"),
        (b"\xff\xfe", "2 bytes of binary data"),
        (b"PK\x03\x04", "4 bytes of binary data"),
        (b"a\0b", "3 bytes of binary data"),
        ("größe\n".encode(), "größe\n"),
        (b"x" * 1000, "x" * 1000),
        (b"x" * 1001, "x" * 1000 + " … (the first 1,000 of 1,001 characters)"),
    ],
)
def test_a_person_sees_the_beginning_of_a_text_and_the_size_of_anything_else(body: bytes, shown: str) -> None:
    assert find_preview(body) == shown


async def test_who_gave_a_yes_is_in_the_audit_before_the_call_goes(tmp_path: Path) -> None:
    async with living(tmp_path) as stage:
        call = await stage.call()
        await stage.yes()
        await call
        (row,) = stage.ledger.list_newest(10)
        assert (row.event, row.rule, row.agent_group) == ("changed", "hold", "g1")
        assert row.reason == f"allowed once by Alice, approval a1, call {DIGEST[:16]}"
        await stage.yes()
        assert len(stage.ledger.list_newest(10)) == 1


async def test_a_grant_outlives_the_gateway_and_is_used_once_over_all_its_lives(tmp_path: Path) -> None:
    clock = ManualClock()
    async with living(tmp_path, clock) as stage:
        await stage.call()  # killed while it waits
    async with living(tmp_path, clock, hold_seconds=0.01) as stage:
        await stage.yes()
    async with living(tmp_path, clock, hold_seconds=0.01) as stage:
        await stage.yes()
        assert stage.taken() == [HoldTaken("a1", reached=False)]
        assert await (await stage.call()) is None
    async with living(tmp_path, clock, hold_seconds=0.01) as stage:
        await stage.yes()
        assert stage.taken() == [HoldTaken("a1", reached=True)]
        assert isinstance(await (await stage.call()), Pending)
