"""Both sides of a held call at once, the host's store and the gateway's ledger, killed in any order."""

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
from nanoclaw.gateway.holds import Held, Holds
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.policy import Action, Caller, Deny, Rule
from nanoclaw.gateway.target import Form, Target
from nanoclaw.gateway.wanted import SecretWatch
from tests.flow.people import home_with_terminal, local
from tests.flow.test_egress_holds import at_work
from tests.flow.world import Home, World, open_world

TARGET = Target(Form.TUNNEL, "POST", "shop.example.org", "/pay")
RULE = Rule("shop", "shop.example.org", Action.ASK)
ONCE, DENY = "Allow once", "Deny"
STEPS = st.lists(
    st.sampled_from(("call", "call", "yes", "yes", "no", "kill gateway", "kill host", "lose the next word")),
    min_size=2,
    max_size=9,
)


@dataclass
class Lives:
    """A host and its gateway, one life after the other, and what became of one call that is made again and again."""

    home: Home
    path: Path
    calls: list[asyncio.Task[Deny | None]] = field(default_factory=list[asyncio.Task[Deny | None]])
    ends: Counter[str] = field(default_factory=Counter[str])
    lost: bool = False  # the next word between the two is lost: the gateway is killed before it reads or writes it

    @contextlib.asynccontextmanager
    async def gateway(self, world: World) -> AsyncIterator[Holds]:
        """One life of the gateway beside a host."""
        ledger = Ledger(self.path / "ledger.db", world.clock)
        ledger.open()
        holds = Holds(
            ledger,
            lambda event: self.tell(world, event),
            SecretWatch(tuple),
            world.clock,
            replace(Limits(), hold_seconds=99.0),
        )
        world.gateway.holds.clear()
        self.tell(world, control.Ready(model_key=True))
        try:
            yield holds
        finally:
            for call in self.calls:
                call.cancel()
            await asyncio.gather(*self.calls, return_exceptions=True)
            self.collect()
            ledger.close()
            self.lost = False

    def tell(self, world: World, event: control.GatewayEvent) -> None:
        if not self.lost:
            world.news.hear(event)

    async def settle(self, world: World, holds: Holds) -> None:
        """Carry words between the two until none is on its way."""
        quiet = 0
        while quiet < 3:
            await world.quiet()
            words = list(world.gateway.holds)
            world.gateway.holds.clear()
            for word in words:
                if self.lost:
                    continue
                if isinstance(word, control.HoldAsked):
                    holds.asked(word)
                elif isinstance(word, control.HoldDecided):
                    await holds.decide(word)
            await asyncio.sleep(0.002)
            quiet = 0 if words else quiet + 1
        self.collect()

    def collect(self) -> None:
        for call in [call for call in self.calls if call.done()]:
            if not call.cancelled():
                self.ends["went" if call.result() is None else "refused"] += 1
        self.calls = [call for call in self.calls if not call.done()]

    async def step(self, what: str, world: World, holds: Holds, held: Held) -> None:
        match what:
            case "call":
                self.calls.append(asyncio.ensure_future(holds.ask(held, asyncio.Event())))
            case "yes" | "no":
                if local(world).heard and "1. Allow once" in local(world).heard[-1]:
                    answer = await local(world).presses(ONCE if what == "yes" else DENY, "uid:0")
                    self.ends["yes"] += answer.taken and what == "yes"
            case _:
                self.lost = True
        await self.settle(world, holds)


async def live(path: Path, steps: list[str]) -> None:
    lives = Lives(home_with_terminal(path / "home"), path)
    (path / "home").mkdir()
    left = [*steps, "kill host"]
    while left:
        async with open_world(lives.home) as world:
            if not await world.rows("SELECT 1 FROM sessions"):
                await at_work(world)
            await world.recover()
            ((session, group),) = await world.rows("SELECT id, agent_group_id FROM sessions LIMIT 1")
            held = Held(Caller(session, 1, group, "main"), RULE, TARGET, b"3 EUR")
            while left and left[0] != "kill host":
                async with lives.gateway(world) as holds:
                    await lives.settle(world, holds)
                    while left and not left[0].startswith("kill"):
                        await lives.step(left.pop(0), world, holds, held)
                if left and left[0] == "kill gateway":
                    left.pop(0)
            left = left[1:]
            assert lives.ends["went"] <= lives.ends["yes"]
            if not left:
                await check_end(lives, world, held)


async def check_end(lives: Lives, world: World, held: Held) -> None:
    """Every yes of the last ten minutes, and no more, is worth one call, however much was lost."""
    async with lives.gateway(world) as holds:
        await lives.settle(world, holds)
        for _ in range(lives.ends["yes"] - lives.ends["went"]):
            before = lives.ends["went"]
            await lives.step("call", world, holds, held)
            assert lives.ends["went"] == before + 1, "a yes was lost"
        await lives.step("call", world, holds, held)
        assert lives.ends["went"] == lives.ends["yes"]


def run(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as path:
        asyncio.run(live(Path(path), steps))


def test_a_yes_outlives_the_death_of_either_side_and_is_worth_one_call() -> None:
    run(["call", "lose the next word", "yes", "kill gateway", "call", "kill host", "call", "yes", "kill host", "call"])


@pytest.mark.ci  # a hundred lives of hosts and gateways over their files: most of a minute
@given(STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_any_order_of_deaths_and_losses_every_yes_is_worth_exactly_one_call(steps: list[str]) -> None:
    run(steps)
