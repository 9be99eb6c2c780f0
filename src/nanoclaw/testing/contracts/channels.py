"""What every channel must do (channels/base.py); a bench is the platform, with people at the other end of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from nanoclaw.channels.base import Accepted, Channel, Click, ClickAnswer, Incoming, Outgoing
from nanoclaw.domain.card import Card, Option, render_card
from nanoclaw.errors import PlatformError, StoreError
from nanoclaw.testing.contracts.proof import DEADLINE_SECONDS, eventually, expect

STOP_SECONDS = 5.0
MANY = 20
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class ChannelBench(Protocol):
    """A platform of one channel, real or scripted, and the people who use it."""

    def make(self, spawn: Spawn) -> Channel:
        """Return the channel, not running yet; work that it begins goes through `spawn`. Called once per run."""
        ...

    async def ready(self) -> None:
        """Wait until the channel that runs hears what people say."""
        ...

    async def says(self, chat_id: str, platform_id: str, text: str) -> None:
        """A person writes this, and the platform gives it this id, or hands it in again. Does not wait for us."""
        ...

    def acknowledged(self, platform_id: str) -> bool:
        """Return whether the channel told the platform that it has the message."""
        ...

    async def committed(self, outgoing: Outgoing) -> None:
        """The host has noted it as sent: nothing to do, but for a platform that shows what the store holds."""
        ...

    def heard(self, chat_id: str) -> list[str]:
        """Return the texts that people in a chat have been shown, oldest first."""
        ...

    async def presses(self, chat_id: str, label: str) -> bool:
        """A person presses the button with this label; False when this platform has no buttons."""
        ...

    def break_next_send(self, *, permanent: bool) -> bool:
        """Have the platform fail the next send; False when no send of this channel can fail."""
        ...

    def break_typing(self) -> None:
        """Have the platform fail at typing signs, if it can."""
        ...

    def left(self) -> list[str]:
        """Name what a channel that does not run has left: sockets, connections, files."""
        ...


Behaviour = Callable[[ChannelBench], Awaitable[None]]


class ContractSink:
    """A sink that commits when the test lets it; as the store does, it knows a platform id it has had."""

    def __init__(self) -> None:
        self.handed_in: list[Incoming] = []  # each time
        self.fresh: list[Incoming] = []
        self.clicks: list[Click] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False
        self._known: dict[tuple[str, str], str] = {}

    async def accept(self, batch: Sequence[Incoming], cursor: str | None = None) -> list[Accepted]:
        """Commit a batch. Raises StoreError when told to."""
        self.handed_in += batch
        await self.open.wait()
        if self.fails:
            raise StoreError("the disk is full")
        return [self._accept(incoming) for incoming in batch]

    async def click(self, click: Click) -> ClickAnswer:
        """Remember a press."""
        self.clicks.append(click)
        return ClickAnswer("taken", taken=True)

    def _accept(self, incoming: Incoming) -> Accepted:
        key = (incoming.chat_id, incoming.platform_id)
        fresh = key not in self._known
        if fresh:
            self.fresh.append(incoming)
        return Accepted(self._known.setdefault(key, f"M{len(self._known) + 1}"), fresh)

    def texts(self) -> list[str]:
        """Return what was accepted, once each."""
        return [incoming.text for incoming in self.fresh]


class Running:
    """A channel that runs, and its sink."""

    def __init__(self, bench: ChannelBench, channel: Channel, sink: ContractSink) -> None:
        self.bench, self.channel, self.sink = bench, channel, sink
        self._count = 0

    async def says(self, text: str, platform_id: str = "", chat_id: str = "local") -> str:
        """Have a person write; returns the platform's id of it."""
        self._count += 1
        platform_id = platform_id or f"p{self._count}"
        await self.bench.says(chat_id, platform_id, text)
        return platform_id

    async def sends(
        self, text: str, chat_id: str = "local", *, card: Card | None = None, edits: str | None = None
    ) -> str:
        """Send as the host does; returns the receipt's id."""
        self._count += 1
        outgoing = Outgoing(f"D{self._count}", chat_id, None, text, None, card, edits)
        receipt = await self.channel.send(outgoing)
        await self.bench.committed(outgoing)
        return receipt.platform_id

    async def acknowledged(self, platform_id: str) -> None:
        """Wait until the platform knows that we have it."""
        await eventually(lambda: self.bench.acknowledged(platform_id), f"{platform_id} was never acknowledged")


@asynccontextmanager
async def running(bench: ChannelBench, sink: ContractSink | None = None) -> AsyncGenerator[Running]:
    """Run the channel; afterwards stop it, and see that it ends in time and leaves nothing."""
    stop, sink = asyncio.Event(), sink or ContractSink()
    before = asyncio.all_tasks()
    async with asyncio.timeout(2 * DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        channel = bench.make(group.create_task)
        run = group.create_task(channel.run(sink, stop))
        await bench.ready()
        try:
            yield Running(bench, channel, sink)
        finally:
            stop.set()
            await eventually(lambda: not asyncio.all_tasks() - before, "a task goes on after `stop`", STOP_SECONDS)
    expect(run.done() and run.exception() is None, "`run` did not end well", run)
    expect(not bench.left(), "the channel left something", bench.left())


async def a_message_is_acknowledged_only_when_it_is_committed(bench: ChannelBench) -> None:
    """The platform must not forget what we may still lose."""
    async with running(bench) as channel:
        channel.sink.open.clear()
        said = await channel.says("hi")
        await eventually(lambda: channel.sink.handed_in, "a message never reached the sink")
        await asyncio.sleep(0.02)  # nothing to wait for: it must not happen
        expect(not bench.acknowledged(said), "acknowledged before it was committed")
        channel.sink.open.set()
        await channel.acknowledged(said)
        heard = channel.sink.fresh[0]
        expect((heard.platform_id, heard.text) == (said, "hi"), "the message was changed on its way", heard)
        expect(heard.chat_id and heard.sender, "who wrote, or where, is not known", heard)


async def what_the_store_did_not_take_is_not_acknowledged_and_may_come_again(bench: ChannelBench) -> None:
    """A full disk loses nothing and ends nothing."""
    async with running(bench) as channel:
        channel.sink.fails = True
        said = await channel.says("hi")
        await eventually(lambda: channel.sink.handed_in, "a message never reached the sink")
        channel.sink.fails = False
        expect(not bench.acknowledged(said), "acknowledged, and the store has not got it")
        await channel.says("hi", said)
        await channel.acknowledged(said)
        expect(channel.sink.texts() == ["hi"], "the message that came again was not accepted", channel.sink.texts())


async def the_same_platform_id_twice_is_accepted_once(bench: ChannelBench) -> None:
    """And acknowledged again: else the platform would repeat it for ever. A restart changes nothing."""
    sink = ContractSink()
    async with running(bench, sink) as channel:
        said = await channel.says("once")
        await channel.acknowledged(said)
        await channel.says("once", said)
        await channel.acknowledged(await channel.says("and another"))
        await eventually(lambda: len(sink.handed_in) == 3, "a repeated message never reached the sink")
    async with running(bench, sink) as channel:
        await channel.says("once", said)
        await eventually(lambda: len(sink.handed_in) == 4, "after a restart no message reached the sink")
    expect(sink.texts() == ["once", "and another"], "a repeated message was accepted twice", sink.texts())


async def what_people_say_is_handed_in_in_order(bench: ChannelBench) -> None:
    """Also when it comes all at once, and the store is slow."""
    async with running(bench) as channel:
        channel.sink.open.clear()
        for number in range(MANY):
            await channel.says(f"t{number}", f"p{number}")
        await eventually(lambda: channel.sink.handed_in, "no message reached the sink")
        channel.sink.open.set()
        await channel.acknowledged(f"p{MANY - 1}")
        expected = [f"t{number}" for number in range(MANY)]
        expect(channel.sink.texts() == expected, "the order was lost", channel.sink.texts())


async def a_send_gives_a_receipt_and_the_chat_hears_it_in_order(bench: ChannelBench) -> None:
    """Each message once, with an id of its own, and in no other chat."""
    async with running(bench) as channel:
        texts = [f"line {number}\nand 'more' <&> ☃" for number in range(MANY)]
        receipts = [await channel.sends(text) for text in texts]
        await channel.sends("for somebody else", "work")
        expect(all(receipts), "a receipt without an id", receipts)
        expect(len(set(receipts)) == MANY, "two messages have the same receipt", receipts)
        await eventually(lambda: len(bench.heard("local")) >= MANY, "the chat did not hear everything")
        await eventually(lambda: bench.heard("work"), "the other chat heard nothing")
        expect(bench.heard("local") == texts, "the chat heard something else", bench.heard("local"))
        expect(bench.heard("work") == ["for somebody else"], "the other chat heard something else")


async def a_card_arrives_with_its_options_and_a_press_reaches_the_host(bench: ChannelBench) -> None:
    """As buttons or as numbered text; who pressed is the platform's word, and no card changes by it."""
    card = Card("A1", "k3", "May they?", "Bob wrote.", (Option("approve", "Allow"), Option("deny", "Not now")))
    async with running(bench) as channel:
        await channel.sends(render_card(card), card=card)
        await eventually(lambda: bench.heard("local"), "the chat heard no card")
        shown = bench.heard("local")[0]
        expect(all(words in shown for words in ("May they?", "Bob wrote.")), "a card without its question", shown)
        if not await bench.presses("local", "Not now"):
            expect("2. Not now" in shown, "no buttons, and no numbers", shown)
            return
        await eventually(lambda: channel.sink.clicks, "a press never reached the host")
        click = channel.sink.clicks[0]
        expect((click.approval, click.value) == ("A1", "deny"), "another answer arrived", click)
        expect(bool(click.sender) and click.chat_id == "local", "who pressed, or where, is not known", click)
        expect(bench.heard("local") == [shown], "the card changed before the host decided", bench.heard("local"))


async def an_edit_takes_the_place_of_a_message_or_follows_it(bench: ChannelBench) -> None:
    """Never lost, also when what it replaces is not known to the platform any more."""
    async with running(bench) as channel:
        first = await channel.sends("open")
        await channel.sends("decided", edits=first)
        await channel.sends("decided too", edits="a message of long ago")
        await eventually(lambda: "decided too" in bench.heard("local"), "an edit of something unknown is lost")
        heard = bench.heard("local")
        expect(heard in (["decided", "decided too"], ["open", "decided", "decided too"]), "an edit went wrong", heard)


async def a_send_that_fails_raises_a_platform_error_and_the_next_one_goes(bench: ChannelBench) -> None:
    """Permanent or passing, as it is; the host decides on that alone."""
    async with running(bench) as channel:
        for permanent in (False, True):
            if not bench.break_next_send(permanent=permanent):
                continue
            try:
                await channel.sends("lost")
            except PlatformError as error:
                expect(error.permanent is permanent, "an error is not told as what it is", error)
                expect(str(error).strip(), "an error without words")
                wait = error.retry_after_seconds
                expect(wait is None or (wait >= 0 and not permanent), "a wait that makes no sense", wait)
            else:
                expect(False, "a send that failed gave a receipt")
        await channel.sends("found")
        await eventually(lambda: bench.heard("local"), "after an error nothing is sent any more")
        expect(bench.heard("local") == ["found"], "what failed was heard", bench.heard("local"))


async def typing_never_raises(bench: ChannelBench) -> None:
    """On and off, in a chat nobody knows, with a platform that fails, and when the channel has stopped."""
    async with running(bench) as channel:
        for chat in ("local", "no such chat"):
            for active in (True, True, False, False):
                await channel.channel.typing(chat, None, active)
        bench.break_typing()
        await channel.channel.typing("local", None, True)
        await channel.acknowledged(await channel.says("still here"))
        stopped = channel.channel
    await stopped.typing("local", None, True)


async def a_run_ends_on_stop_leaves_nothing_and_can_be_begun_again(bench: ChannelBench) -> None:
    """No task, socket or file; also when people are connected and a message is under way. `running` looks."""
    sink = ContractSink()
    for number in range(3):
        async with running(bench, sink) as channel:
            await channel.acknowledged(await channel.says(f"t{number}", f"p{number}"))
            await channel.sends(f"answer {number}")
    async with running(bench, sink) as channel:
        sink.open.clear()
        await channel.says("under way", "last")
        await eventually(lambda: len(sink.handed_in) == 4, "a message never reached the sink")
        asyncio.get_running_loop().call_later(0.05, sink.open.set)
    expect(sink.texts()[:3] == ["t0", "t1", "t2"], "a message was lost between runs", sink.texts())


async def a_run_that_is_cancelled_leaves_nothing(bench: ChannelBench) -> None:
    """The host's own end need not be polite."""
    before = asyncio.all_tasks()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            await bench.make(group.create_task).run(ContractSink(), asyncio.Event())

    async with asyncio.timeout(2 * DEADLINE_SECONDS), asyncio.TaskGroup() as group:
        task = group.create_task(run())
        await bench.ready()
        await bench.says("local", "p1", "hi")
        task.cancel()
    await eventually(lambda: not asyncio.all_tasks() - before, "a task goes on after the cancel", STOP_SECONDS)
    expect(not bench.left(), "the channel left something", bench.left())


BEHAVIOURS: tuple[Behaviour, ...] = (
    a_message_is_acknowledged_only_when_it_is_committed,
    what_the_store_did_not_take_is_not_acknowledged_and_may_come_again,
    the_same_platform_id_twice_is_accepted_once,
    what_people_say_is_handed_in_in_order,
    a_send_gives_a_receipt_and_the_chat_hears_it_in_order,
    a_card_arrives_with_its_options_and_a_press_reaches_the_host,
    an_edit_takes_the_place_of_a_message_or_follows_it,
    a_send_that_fails_raises_a_platform_error_and_the_next_one_goes,
    typing_never_raises,
    a_run_ends_on_stop_leaves_nothing_and_can_be_begun_again,
    a_run_that_is_cancelled_leaves_nothing,
)
