"""What every agent's driver must do (runner/providers/base.py); a bench says how its agent is made to behave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from nanoclaw.runner.providers.base import Aborted, Began, Event, Exited, Failure, Init, Provider, Result
from nanoclaw.testing.contracts.proof import DEADLINE_SECONDS, eventually, expect

GRACE_SECONDS = 1.0
FORCE_SECONDS = 2.0  # what `close` may take beyond its grace
EventT = TypeVar("EventT", bound=Event)


class ProviderBench(Protocol):
    """An agent, and how it is made to do what a suite wants to see."""

    async def open(self, continuation: str | None) -> Provider:
        """Return a provider that has been started, with an agent that goes on from a continuation."""
        ...

    def says(self, text: str) -> str:
        """Return a prompt whose answer holds this text."""
        ...

    def hangs(self) -> str:
        """Return a prompt whose turn does not end by itself."""
        ...

    async def hanging(self, watch: Watch) -> None:
        """Wait until the turn of such a prompt is under way."""
        ...

    def crash(self, watch: Watch) -> None:
        """End the idle agent from outside, or have it end itself."""
        ...

    def is_gone(self, provider: Provider) -> bool:
        """Return whether no process of the agent is left."""
        ...


Behaviour = Callable[[ProviderBench], Awaitable[None]]


class Watch:
    """A provider, and everything it told."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.events: list[Event] = []
        self.pushed: list[str] = []

    async def read(self) -> None:
        """Note the events until they end."""
        async for event in self.provider.events():
            self.events.append(event)

    def push(self, prompt: str) -> str:
        """Push with an id of its own; returns it."""
        uuid = f"00000000-0000-4000-8000-{id(self) % 10**8:08d}{len(self.pushed):04d}"
        self.pushed.append(uuid)
        self.provider.push(prompt, uuid)
        return uuid

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def told(self, kind: type[Event], count: int = 1) -> None:
        """Wait for events of one kind; a provider that ends instead is told at once."""
        await eventually(lambda: len(self.of(kind)) >= count or self.of(Exited), f"{kind.__name__} never came")
        expect(len(self.of(kind)) >= count, f"{kind.__name__} never came", self.events)

    async def answered(self) -> None:
        """Wait until every push is covered by a result."""
        await eventually(lambda: set(self.covered()) >= set(self.pushed) or self.ended_badly(), "a push has no result")
        expect(set(self.covered()) >= set(self.pushed), "a push has no result", self.events)

    def covered(self) -> list[str]:
        """Return what the results cover, in order."""
        return [uuid for result in self.of(Result) for uuid in result.covers]

    def ended_badly(self) -> bool:
        """Return whether no result will come any more."""
        return bool(self.of(Exited) or self.of(Failure))


@asynccontextmanager
async def watched(bench: ProviderBench, continuation: str | None = None) -> AsyncGenerator[Watch]:
    """Open a provider and read its events; afterwards close it, and see that it says so, last and once."""
    provider = await bench.open(continuation)
    watch = Watch(provider)
    async with asyncio.timeout(2 * DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        reading = group.create_task(watch.read())
        try:
            yield watch
        finally:
            async with asyncio.timeout(GRACE_SECONDS + FORCE_SECONDS):
                await provider.close(GRACE_SECONDS)
            expect(bench.is_gone(provider), "the agent goes on after `close`")
            await eventually(reading.done, "the events do not end after `close`", FORCE_SECONDS)
    expect(len(watch.of(Exited)) == 1, "the end was not told once", watch.events)
    expect(isinstance(watch.events[-1], Exited), "something came after the end", watch.events)
    expect(watch.of(Exited)[0].reason, "the end has no reason")
    told = [uuid for event in (*watch.of(Result), *watch.of(Aborted), *watch.of(Failure)) for uuid in event.covers]
    told += [uuid for event in watch.of(Began) for uuid in event.uuids]
    expect(set(told) <= set(watch.pushed), "an event names what was never pushed", watch.events)


async def a_push_is_answered_after_init_and_its_result_covers_it(bench: ProviderBench) -> None:
    """The continuation is known before the first answer: an agent that dies then can be resumed."""
    async with watched(bench) as watch:
        uuid = watch.push(bench.says("blue"))
        await watch.answered()
        kinds = [type(event) for event in watch.events]
        expect(kinds.index(Init) < kinds.index(Result), "Init did not come before the first Result", watch.events)
        expect(watch.of(Init)[0].continuation, "a continuation without text")
        expect(watch.covered() == [uuid], "the result does not cover exactly the push", watch.of(Result))
        expect("blue" in watch.of(Result)[0].text, "the answer is not the agent's", watch.of(Result))


async def every_push_is_covered_exactly_once_and_in_order(bench: ProviderBench) -> None:
    """One that `covers` takes pushes at any time, one that does not takes the next after its result."""
    async with watched(bench) as watch:
        for number in range(3):
            watch.push(bench.says(f"word{number}"))
            if not watch.provider.covers:
                await watch.answered()
        await watch.answered()
        expect(watch.covered() == watch.pushed, "not each push once, in order", watch.of(Result))
        text = "\n".join(result.text for result in watch.of(Result))
        expect(all(f"word{number}" in text for number in range(3)), "an answer is missing", text)


async def a_conversation_goes_on_from_its_continuation(bench: ProviderBench) -> None:
    """In a new process, under the same name."""
    async with watched(bench) as first:
        first.push(bench.says("one"))
        await first.answered()
    before = first.of(Init)[-1].continuation
    async with watched(bench, before) as second:
        second.push(bench.says("two"))
        await second.answered()
        after = {init.continuation for init in second.of(Init)}
        expect(after == {before}, f"not the conversation {before!r}", after)


async def an_interrupt_ends_the_turn_and_no_other(bench: ProviderBench) -> None:
    """Told as Aborted. The next push is answered; so it is after an interrupt that met no turn."""
    async with watched(bench) as watch:
        watch.push(bench.hangs())
        await bench.hanging(watch)
        expect(not watch.of(Aborted) and not watch.of(Result), "a turn that hangs has ended", watch.events)
        watch.provider.interrupt()
        await watch.told(Aborted)
        expect(not watch.of(Result), "an interrupted turn has a result", watch.of(Result))
        watch.provider.interrupt()
        last = watch.push(bench.says("again"))
        await eventually(
            lambda: last in watch.covered() or watch.ended_badly(), "after an interrupt nothing is answered"
        )
        expect(watch.covered() == [last], "the push after an interrupt has no result of its own", watch.events)


async def close_ends_an_agent_in_the_middle_of_a_turn(bench: ProviderBench) -> None:
    """Within its grace and a moment; `watched` looks. Whatever comes after that is nothing, and raises nothing."""
    async with watched(bench) as watch:
        watch.push(bench.hangs())
        await bench.hanging(watch)
    expect(not watch.of(Result), "a turn that hung has a result", watch.of(Result))
    watch.provider.push(bench.says("too late"), "00000000-0000-4000-8000-000000000000")
    watch.provider.interrupt()
    await watch.provider.close(GRACE_SECONDS)


async def an_agent_that_ends_by_itself_is_told_as_an_event(bench: ProviderBench) -> None:
    """Exited, never an exception; and the provider can still be called."""
    async with watched(bench) as watch:
        watch.push(bench.says("hello"))
        await watch.answered()
        bench.crash(watch)
        await watch.told(Exited)
        expect(bench.is_gone(watch.provider), "told as gone, and it is not")
        watch.provider.interrupt()
        watch.push(bench.says("anybody?"))


BEHAVIOURS: tuple[Behaviour, ...] = (
    a_push_is_answered_after_init_and_its_result_covers_it,
    every_push_is_covered_exactly_once_and_in_order,
    a_conversation_goes_on_from_its_continuation,
    an_interrupt_ends_the_turn_and_no_other,
    close_ends_an_agent_in_the_middle_of_a_turn,
    an_agent_that_ends_by_itself_is_told_as_an_event,
)
