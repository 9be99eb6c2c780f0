"""The contract of channels, over the terminal's real socket and over the scripted platform of the flow tests."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from io import StringIO
from pathlib import Path

import pytest

from nanoclaw.channels.base import Channel, Incoming, Outgoing
from nanoclaw.channels.terminal import Speaker, TerminalChannel
from nanoclaw.clock import SystemClock
from nanoclaw.errors import StoreError
from nanoclaw.log import open_log
from nanoclaw.testing.contracts.channels import BEHAVIOURS, Behaviour, Spawn
from nanoclaw.testing.contracts.proof import eventually
from nanoclaw.testing.fakes import ScriptedChannel
from tests.unit.terminal_house import FakeHost, Line


class TerminalBench:
    """One person per chat at a terminal of their own, on the channel's unix socket; the store is the test's."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "terminal.sock"
        self._store = FakeHost()
        self._people: dict[str, asyncio.StreamWriter] = {}
        self._told: dict[str, list[Line]] = defaultdict(list)
        self._spawn: Spawn | None = None
        self._channel: TerminalChannel | None = None

    def make(self, spawn: Spawn) -> Channel:
        self._spawn, self._people = spawn, {}
        self._told.clear()
        speaker, log = Speaker("uid:0", "Ada"), open_log(stream=StringIO())
        self._channel = TerminalChannel(self._socket, self._store, speaker, SystemClock(), log, spawn)
        return self._channel

    async def ready(self) -> None:
        await eventually(self._socket.is_socket, "the terminal made no socket")
        for chat in ("local", "work"):
            await self._connect(chat)
        await eventually(lambda: all(self._told[chat] for chat in ("local", "work")), "nobody is welcome")

    async def says(self, chat_id: str, platform_id: str, text: str) -> None:
        if platform_id in self._acknowledgements():
            self._told[chat_id] = [word for word in self._told[chat_id] if word.get("client_id") != platform_id]
        if chat_id not in self._people:
            await self._connect(chat_id)
        self._write(chat_id, {"type": "say", "client_id": platform_id, "text": text})

    def acknowledged(self, platform_id: str) -> bool:
        return platform_id in self._acknowledgements()

    async def committed(self, outgoing: Outgoing) -> None:
        assert self._channel is not None
        self._store.answer(outgoing.text, chat=outgoing.chat_id)
        self._channel.changed(outgoing.chat_id)

    def heard(self, chat_id: str) -> list[str]:
        return [word["text"] for word in self._told[chat_id] if word["type"] == "delivery"]

    async def presses(self, chat_id: str, label: str) -> bool:
        return False  # people type numbers

    def break_next_send(self, *, permanent: bool) -> bool:
        return False  # it only agrees: people read the store

    def break_typing(self) -> None:
        """Nobody is there to show it to."""
        for writer in self._people.values():
            writer.transport.abort()
        self._people.clear()

    def left(self) -> list[str]:
        return [str(path) for path in self._socket.parent.iterdir()]

    async def _connect(self, chat: str) -> None:
        assert self._spawn is not None
        reader, self._people[chat] = await asyncio.open_unix_connection(str(self._socket))
        self._spawn(self._listen(chat, reader, self._people[chat]))
        self._write(chat, {"type": "hello", "chat": chat, "recent": 0})

    async def _listen(self, chat: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self._told[chat].append(json.loads(line))
        except ConnectionError:
            return
        finally:
            writer.close()

    def _write(self, chat: str, line: Line) -> None:
        self._people[chat].write(json.dumps(line).encode() + b"\n")

    def _acknowledgements(self) -> set[str]:
        return {word["client_id"] for words in self._told.values() for word in words if word["type"] == "accepted"}


class ScriptedBench:
    """The platform is in memory; what `receive` returns is its acknowledgement."""

    def __init__(self) -> None:
        self._channel = ScriptedChannel()
        self._spawn: Spawn | None = None
        self._acknowledged: set[str] = set()

    def make(self, spawn: Spawn) -> Channel:
        self._spawn = spawn
        return self._channel

    async def ready(self) -> None:
        await eventually(lambda: self._channel.is_connected, "the scripted channel does not run")

    async def says(self, chat_id: str, platform_id: str, text: str) -> None:
        assert self._spawn is not None
        self._acknowledged.discard(platform_id)
        self._spawn(self._hand_in(Incoming(platform_id, chat_id, "u1", "Ada", text, 1)))

    def acknowledged(self, platform_id: str) -> bool:
        return platform_id in self._acknowledged

    async def committed(self, outgoing: Outgoing) -> None:
        """The platform showed it when it was sent."""

    def heard(self, chat_id: str) -> list[str]:
        return self._channel.heard(chat_id)

    async def presses(self, chat_id: str, label: str) -> bool:
        await self._channel.press(chat_id, "u1", label)
        return True

    def break_next_send(self, *, permanent: bool) -> bool:
        if permanent:
            self._channel.refuse("local")
        else:
            self._channel.fail("local", 1, retry_after_seconds=3)
        return True

    def break_typing(self) -> None:
        """Nothing to break."""

    def left(self) -> list[str]:
        return ["a sink"] if self._channel.is_connected else []

    async def _hand_in(self, incoming: Incoming) -> None:
        try:
            await self._channel.receive(incoming)
        except StoreError:
            return  # the platform keeps it
        self._acknowledged.add(incoming.platform_id)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_the_terminal_keeps_the_contract(behaviour: Behaviour, tmp_path: Path) -> None:
    await behaviour(TerminalBench(tmp_path))


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_the_scripted_channel_keeps_the_contract(behaviour: Behaviour) -> None:
    await behaviour(ScriptedBench())
