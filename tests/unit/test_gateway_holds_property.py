"""Random orders of calls, answers, losses and deaths: never more calls go than people have said yes to."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoclaw.gateway import control
from nanoclaw.gateway.boxes import Limits
from nanoclaw.gateway.control import HoldAsked, HoldDecided, HoldOpened, HoldTaken, HoldVerdict
from nanoclaw.gateway.holds import Holds, find_digest
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.policy import Deny
from nanoclaw.gateway.wanted import SecretWatch
from nanoclaw.testing.fakes import ManualClock
from tests.unit.test_gateway_holds import HELD, TEN_MINUTES

CALLS = [replace(HELD, body=body) for body in (b"one", b"two")]
DIGESTS = [find_digest(held.caller.folder, held.target, held.body) for held in CALLS]
WHICH = st.integers(0, len(CALLS) - 1)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("call", "call", "yes", "yes", "no", "gone", "ready", "kill", "later")), WHICH, st.booleans()
    ),
    min_size=1,
    max_size=14,
)


@dataclass
class Gateways:
    """One gateway after the other over a ledger, and a host that asks people and repeats what was not confirmed."""

    path: Path
    clock: ManualClock = field(default_factory=ManualClock)
    waiting: list[tuple[int, asyncio.Event, asyncio.Task[Deny | None]]] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)  # digest -> approval
    owed: dict[str, HoldDecided] = field(default_factory=dict)
    asked: int = 0
    yes: Counter[int] = field(default_factory=Counter[int])
    went: Counter[int] = field(default_factory=Counter[int])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.ledger = Ledger(self.path / "ledger.db", self.clock)
        self.ledger.open()
        self.holds = Holds(
            self.ledger, self.hear, SecretWatch(tuple), self.clock, replace(Limits(), hold_seconds=1000.0)
        )
        try:
            async with asyncio.TaskGroup() as self.group:
                yield
                for _, _, task in self.waiting:
                    task.cancel()
        finally:
            self.ledger.close()
            self.collect()

    def hear(self, event: control.HoldEvent) -> None:
        """The host's side, which is as sure as its store."""
        match event:
            case HoldOpened(digest=digest, group=group):
                if digest not in self.open:
                    self.asked += 1
                    self.open[digest] = f"a{self.asked}"
                self.holds.asked(HoldAsked(digest, group, self.open[digest], "k3"))
            case HoldTaken(approval=approval):
                self.owed.pop(approval, None)
            case _:
                raise AssertionError(event)

    async def step(self, what: str, which: int, sure: bool) -> None:
        match what:
            case "call":
                gone = asyncio.Event()
                self.waiting.append((which, gone, self.group.create_task(self.holds.ask(CALLS[which], gone))))
            case "yes" | "no":
                await self.answer(which, HoldVerdict.ALLOW if what == "yes" else HoldVerdict.DENY, told=sure)
            case "gone":
                for number, gone, _ in self.waiting:
                    if number == which:
                        gone.set()
            case "ready":
                for message in list(self.owed.values()):
                    await self.tell(message)
            case _:
                self.clock.advance(TEN_MINUTES / 1000 / 2)
        if sure:
            await self.settle()

    async def answer(self, which: int, verdict: HoldVerdict, *, told: bool) -> None:
        approval = self.open.pop(DIGESTS[which], None)
        if approval is None:
            return
        self.yes[which] += verdict is HoldVerdict.ALLOW
        until = self.clock.now_ms() + TEN_MINUTES
        message = HoldDecided(DIGESTS[which], CALLS[which].caller.group, approval, verdict, "by Alice", until)
        self.owed[approval] = message
        if told:
            await self.tell(message)

    async def tell(self, message: HoldDecided) -> None:
        if message.expires_at > self.clock.now_ms():
            await self.holds.decide(message)

    async def settle(self) -> None:
        await self.ledger.take_grant("flush", "flush", 0)
        for _ in range(10):
            await asyncio.sleep(0)
        self.collect()

    def collect(self) -> None:
        for which, _, task in [one for one in self.waiting if one[2].done()]:
            self.went[which] += not task.cancelled() and task.result() is None
        self.waiting = [one for one in self.waiting if not one[2].done()]
        assert all(self.went[which] <= self.yes[which] for which in range(len(CALLS)))


async def live(path: Path, steps: list[tuple[str, int, bool]]) -> None:
    gateways = Gateways(path)
    left = list(steps)
    while left:
        async with gateways.running():
            while left and (step := left.pop(0))[0] != "kill":
                await gateways.step(*step)
            await gateways.settle()
    if any(what == "later" or not sure for what, _, sure in steps):
        return
    async with gateways.running():  # nothing was lost or late: every yes is worth exactly one call
        await gateways.step("ready", 0, True)
        for which in range(len(CALLS)):
            while gateways.went[which] < gateways.yes[which]:
                before = gateways.went[which]
                await gateways.step("call", which, True)
                assert gateways.went[which] == before + 1, "a yes was lost"
            await gateways.step("call", which, True)


def run(steps: list[tuple[str, int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as path:
        asyncio.run(live(Path(path), steps))


@given(STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_order_of_calls_answers_and_deaths_lets_more_calls_go_than_people_allowed(
    steps: list[tuple[str, int, bool]],
) -> None:
    run(steps)


@pytest.mark.ci  # five hundred lives of ledgers on disk take most of a minute
@given(STEPS)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_five_hundred_random_orders_no_call_goes_that_nobody_allowed(steps: list[tuple[str, int, bool]]) -> None:
    run(steps)
