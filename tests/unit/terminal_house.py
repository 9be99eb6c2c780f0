"""A running terminal channel on a real unix socket, and a host behind it that a test scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from nanoclaw.channels.base import Accepted, Click, ClickAnswer, Incoming
from nanoclaw.channels.terminal import Facts, FeedDelivery, Speaker, TerminalChannel
from nanoclaw.clock import SystemClock
from nanoclaw.errors import StoreError
from nanoclaw.log import open_log

Line = dict[str, Any]


class FakeHost:
    """Sink and feed in one: what is said is accepted; answers are those that the test gives."""

    def __init__(self) -> None:
        self.accepted: dict[tuple[str, str], str] = {}
        self.heard: list[Incoming] = []
        self.sent: list[tuple[str, FeedDelivery]] = []
        self.outcomes: dict[str, str] = {}
        self.disk_full = False
        self.takes: Accepted | None = None  # what the next messages are taken as, when they are for no agent

    async def accept(self, batch: Sequence[Incoming], cursor: str | None = None) -> list[Accepted]:
        if self.disk_full:
            raise StoreError("the disk is full")
        results: list[Accepted] = []
        for incoming in batch:
            if self.takes is not None:
                results.append(self.takes)
                continue
            key = (incoming.chat_id, incoming.platform_id)
            fresh = key not in self.accepted
            message = self.accepted.setdefault(key, f"M{len(self.accepted) + 1}")
            if fresh:
                self.heard.append(incoming)
            results.append(Accepted(message, fresh))
        return results

    async def click(self, click: Click) -> ClickAnswer:
        return ClickAnswer("nobody asked", taken=False)

    def answer(self, text: str, *messages: str, chat: str = "local", notice: bool = False) -> None:
        order = len(self.sent) + 1
        reply_to = messages[-1] if messages else None
        self.sent.append((chat, FeedDelivery(f"D{order}", order, reply_to, messages, text, notice)))

    async def deliveries(self, chat: str, after: int, limit: int) -> list[FeedDelivery]:
        return [delivery for place, delivery in self.sent if place == chat and delivery.order > after][:limit]

    async def recent(self, chat: str, limit: int) -> list[FeedDelivery]:
        return [delivery for place, delivery in self.sent if place == chat][-limit:]

    async def deliveries_for(self, message: str) -> list[FeedDelivery]:
        return [delivery for _, delivery in self.sent if message in delivery.answers]

    async def settled(self, messages: Sequence[str]) -> list[tuple[str, str]]:
        return [(message, self.outcomes[message]) for message in messages if message in self.outcomes]

    async def facts(self, chat: str) -> Facts:
        return Facts(assistant="Andy", rehearsal=True)


class Client:
    """A terminal, as a script would be one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def sends(self, *lines: Line | bytes) -> None:
        for line in lines:
            self.writer.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        await self.writer.drain()

    async def hears(self) -> Line:
        async with asyncio.timeout(5):
            line = await self.reader.readline()
        return json.loads(line) if line else {"type": "closed"}

    async def says(self, text: str, client_id: str = "c1") -> Line:
        await self.sends({"type": "say", "client_id": client_id, "text": text})
        return await self.hears()


class House:
    """A running channel and the host behind it."""

    def __init__(self, directory: Path, host: FakeHost, channel: TerminalChannel) -> None:
        self.socket = directory / "terminal.sock"
        self.host = host
        self.channel = channel
        self.clients: list[Client] = []

    async def connects(self, *, hello: Line | None = None) -> Client:
        client = Client(*await asyncio.open_unix_connection(str(self.socket), limit=4 << 20))
        self.clients.append(client)
        if hello is not None:
            await client.sends({"type": "hello", **hello})
            assert (await client.hears())["type"] == "welcome"
        return client


@asynccontextmanager
async def open_house(directory: Path, host: FakeHost | None = None) -> AsyncIterator[House]:
    host, stop = host or FakeHost(), asyncio.Event()
    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, None]) -> object:
            return group.create_task(work)

        channel = TerminalChannel(
            directory / "terminal.sock", host, Speaker("root", "Ada"), SystemClock(), open_log(stream=StringIO()), spawn
        )
        running = group.create_task(channel.run(host, stop))
        await until(lambda: (directory / "terminal.sock").is_socket() or running.done())
        house = House(directory, host, channel)
        try:
            yield house
        finally:
            stop.set()
    for client in house.clients:
        client.writer.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)
