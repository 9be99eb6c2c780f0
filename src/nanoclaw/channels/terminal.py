"""The terminal channel: a unix socket in the home, for people (and scripts) at this machine.

In: lines of its clients (terminal_words.py); `changed(chat)` from the host after its commits. Out: `Incoming`s to the
sink; to each client the deliveries of its chat in order, and how its messages ended. Writes: nothing.
Never: serves another user than the host's own (or root), keeps a delivery in memory, lets a slow client delay another.
Fails: a line that is not understood is refused and the connection stays; a store that fails closes the connection.

For this channel `sent` means committed: clients read deliveries from the store by cursor, so `send` only agrees.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nanoclaw.channels import base
from nanoclaw.channels.base import Incoming, Outgoing, Receipt, Sink
from nanoclaw.channels.terminal_words import (
    DEFAULT_CHAT,
    LINE_BYTES,
    Accepted,
    Delivery,
    Hello,
    Refused,
    Say,
    ServerWord,
    Settled,
    Told,
    Typing,
    Welcome,
    WordError,
    encode_word,
    parse_client_word,
)
from nanoclaw.clock import Clock
from nanoclaw.errors import NanoClawError, OperatorError, StoreError
from nanoclaw.log import Log

NAME = "terminal"
PAGE = 100
MOST_CLIENTS = 64
BEHIND_BYTES = 1024 * 1024  # a client that reads this slowly misses typing signs, never deliveries
CLOSE_SECONDS = 1.0
LOOK_SECONDS = 2.0  # while an answer is awaited, the store is looked at this often even when nobody says `changed`

Spawn = Callable[[Coroutine[Any, Any, None]], object]


@dataclass(frozen=True, slots=True)
class FeedDelivery:
    """A delivery that was sent. `order` is monotone over the store; `answers` are ids of accepted messages."""

    id: str
    order: int
    reply_to: str | None
    answers: tuple[str, ...]
    text: str
    notice: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What a client is told when it connects."""

    assistant: str
    rehearsal: bool


class TerminalFeed(Protocol):
    """What the channel reads of the store; `chat` is the chat's name as in `Hello`. Raises StoreError."""

    async def deliveries(self, chat: str, after: int, limit: int) -> list[FeedDelivery]:
        """Return what was sent in a chat with an order above `after`, oldest first."""
        ...

    async def recent(self, chat: str, limit: int) -> list[FeedDelivery]:
        """Return the last `limit` deliveries of a chat, oldest first."""
        ...

    async def deliveries_for(self, message: str) -> list[FeedDelivery]:
        """Return what was sent in answer to an accepted message, oldest first."""
        ...

    async def settled(self, messages: Sequence[str]) -> list[tuple[str, str]]:
        """Return (message, outcome) of those that have ended, every delivery of theirs sent or failed."""
        ...

    async def facts(self, chat: str) -> Facts:
        """Return who answers in a chat."""
        ...


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is at the terminal, as the operating system vouches for it: the socket lets nobody else in."""

    handle: str
    name: str


class TerminalChannel:
    """The channel of the machine's own user. `run` serves until `stop` is set; clients' work goes through `spawn`."""

    name = NAME

    def __init__(self, path: Path, feed: TerminalFeed, speaker: Speaker, clock: Clock, log: Log, spawn: Spawn) -> None:
        self._path = path
        self._feed = feed
        self._speaker = speaker
        self._clock = clock
        self._log = log
        self._spawn = spawn
        self._clients: set[_Client] = set()

    async def run(self, sink: Sink, stop: asyncio.Event) -> None:
        """Listen until `stop` is set. Raises OperatorError when the socket cannot be made."""

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._spawn(self._serve(sink, reader, writer))

        server = await asyncio.start_unix_server(connected, sock=_open_socket(self._path), limit=LINE_BYTES)
        try:
            await stop.wait()
        finally:
            server.close()
            for client in tuple(self._clients):
                client.end()
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Agree: once committed as sent it is in the feed."""
        return Receipt(outgoing.delivery)

    async def typing(self, chat_id: str, thread_id: str | None, active: bool) -> None:
        """Show or hide the sign that the agent is at work."""
        for client in self._clients:
            if client.chat == chat_id:
                client.hint(Typing(active))

    def changed(self, chat: str) -> None:
        """Say that deliveries or outcomes of a chat were committed; its clients look at the store. Never blocks."""
        for client in self._clients:
            if client.chat == chat:
                client.wake()

    def rehearsing(self, active: bool) -> None:
        """Tell every client that the stand-in model answers from now on, or no longer. Never blocks."""
        for client in self._clients:
            client.welcome_again(active)

    async def _serve(self, sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = _peer_uid(writer.get_extra_info("socket"))
        if uid not in (0, os.geteuid()):
            self._log.warning("terminal.stranger_refused", uid=uid)
            await _say_goodbye(writer, "This socket is only for the user who runs the host.")
            return
        if len(self._clients) >= MOST_CLIENTS:
            await _say_goodbye(writer, f"{MOST_CLIENTS} terminals are connected already. Close one.")
            return
        client = _Client(self._feed, reader, writer)
        self._clients.add(client)
        self._spawn(client.push())
        try:
            await self._listen(client, sink)
        except (ConnectionError, TimeoutError):
            pass  # the client is gone: that is how every conversation ends
        except StoreError as error:
            self._log.warning("terminal.client_dropped", error=str(error))
            client.hint(Refused("", str(error)))
        finally:
            self._clients.discard(client)
            await client.close()

    async def _listen(self, client: _Client, sink: Sink) -> None:
        while True:
            try:
                line = await client.read_line()
            except ValueError:  # asyncio's word for a line beyond the limit
                await client.dismiss(f"A line is longer than {LINE_BYTES >> 20} MiB; the connection is closed.")
                return
            if not line:
                return
            try:
                word = parse_client_word(line)
            except WordError as error:
                await client.tell(Refused(error.client_id, str(error)))
                continue
            match word:
                case Hello():
                    await client.greet(word)
                case Say():
                    await client.hear(word, lambda say: self._accept(say, client.chat, sink))

    async def _accept(self, word: Say, chat: str, sink: Sink) -> base.Accepted:
        accepted = await sink.accept(
            [
                Incoming(
                    platform_id=word.client_id,
                    chat_id=chat,
                    sender=self._speaker.handle,
                    sender_name=self._speaker.name,
                    text=word.text,
                    sent_at=self._clock.now_ms(),
                    chat_name=chat,
                )
            ]
        )
        return accepted[0]


class _Client:
    """One connection. `push` looks at the store whenever it is woken; a lock keeps its words in order."""

    def __init__(self, feed: TerminalFeed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.chat = DEFAULT_CHAT
        self._feed = feed
        self._reader = reader
        self._writer = writer
        self._cursor: int | None = None  # None until hello, or the first message, says where to begin
        self._awaited: dict[str, int] = {}  # message -> the order after which its answers may lie
        self._welcome: Welcome | None = None
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        self._ended = False

    async def read_line(self) -> bytes:
        """Return the next line, b'' at the end. Raises ValueError for one beyond the limit."""
        return await self._reader.readline()

    async def tell(self, word: ServerWord) -> None:
        """Send a word and wait until the client's buffer has room."""
        self._writer.write(encode_word(word))
        await self._writer.drain()

    async def dismiss(self, reason: str) -> None:
        """Say why the connection ends, and swallow what still comes: closing on unread bytes would lose the reason."""
        await self.tell(Refused("", reason))
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while await self._reader.read(LINE_BYTES):
                    pass

    def hint(self, word: ServerWord) -> None:
        """Send a word that may be lost: to a client that is far behind it is not sent."""
        if not self._ended and self._writer.transport.get_write_buffer_size() < BEHIND_BYTES:
            self._writer.write(encode_word(word))

    def wake(self) -> None:
        """Have the store looked at."""
        self._news.set()

    def end(self) -> None:
        """Close the connection; what is buffered is still sent."""
        self._ended = True
        self._news.set()
        self._writer.close()

    async def close(self) -> None:
        """End, and wait for the last bytes to go; a client that does not read them is cut off."""
        self.end()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()
        self._writer.transport.abort()

    async def greet(self, word: Hello) -> None:
        """Answer hello: who is there, then what the client has not seen."""
        async with self._turn:
            facts = await self._feed.facts(word.chat)
            shown = await self._feed.recent(word.chat, max(word.recent, 1)) if word.after is None else []
            if word.after is not None:
                self._cursor = word.after
            else:
                replay = shown[len(shown) - word.recent :] if word.recent else []
                self._cursor = replay[0].order - 1 if replay else (shown[-1].order if shown else 0)
            self.chat = word.chat
            self._welcome = Welcome(facts.assistant, facts.rehearsal, self._cursor)
            await self.tell(self._welcome)
        self.wake()

    def welcome_again(self, rehearsal: bool) -> None:
        """Say who answers, when that is not what was said before."""
        if self._welcome is not None and self._welcome.rehearsal is not rehearsal:
            self._welcome = Welcome(self._welcome.assistant, rehearsal, self._welcome.cursor)
            self.hint(self._welcome)

    async def hear(self, word: Say, accept: Callable[[Say], Coroutine[Any, Any, base.Accepted]]) -> None:
        """Take a message: `accepted` or `told` once it is committed, `refused` when it is not; before its answers."""
        async with self._turn:
            if self._cursor is None:
                latest = await self._feed.recent(self.chat, 1)
                self._cursor = latest[-1].order if latest else 0
            try:
                taken = await accept(word)
            except NanoClawError as error:
                await self.tell(Refused(word.client_id, f"The message was not saved: {error}"))
                return
            if taken.message:
                self._awaited[taken.message] = self._cursor if taken.fresh else 0
                await self.tell(Accepted(word.client_id, taken.message))
            elif taken.words:
                await self.tell(Told(word.client_id, taken.words))
            else:
                await self.tell(Refused(word.client_id, taken.refused or "Nobody here answers that."))
        self.wake()

    async def push(self) -> None:
        """Send news until the connection ends."""
        while not self._ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self._awaited else None):
                    await self._news.wait()
            self._news.clear()
            try:
                async with self._turn:
                    await self._send_news()
            except (ConnectionError, StoreError):
                self.end()

    async def _send_news(self) -> None:
        if self._cursor is None or self._ended:
            return
        # outcomes first: every delivery of what has ended is then among those that are read below
        ended = await self._feed.settled(tuple(self._awaited)) if self._awaited else []
        begun_at = self._cursor
        while page := await self._feed.deliveries(self.chat, self._cursor, PAGE):
            for delivery in page:
                await self._show(delivery)
            self._cursor = page[-1].order
        for message, outcome in ended:
            await self._show_again(message, self._awaited.pop(message), begun_at)
            await self.tell(Settled(message, outcome))

    async def _show_again(self, message: str, after: int, until: int) -> None:
        """Show the answers to a message that were sent when this client, or anybody, did not know them as such.

        It was said before on another connection, or its turn was under way; clients drop what they have shown.
        """
        for delivery in await self._feed.deliveries_for(message):
            if after < delivery.order <= until:
                await self._show(delivery)

    async def _show(self, delivery: FeedDelivery) -> None:
        words = Delivery(
            delivery.id, delivery.order, delivery.reply_to, delivery.answers, delivery.text, delivery.notice
        )
        await self.tell(words)


def _open_socket(path: Path) -> socket.socket:
    """Return a listening socket at `path`, 0600; one left behind by a host that died is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)  # nobody can connect before it listens, and it does not listen yet
    except OSError as error:
        listener.close()
        raise OperatorError(
            f"cannot make the socket {path}: {error.strerror}. Check that its folder is yours and writable"
        ) from error
    return listener


def _peer_uid(sock: socket.socket) -> int:
    """Return who is at the other end, by the kernel's word (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid


async def _say_goodbye(writer: asyncio.StreamWriter, reason: str) -> None:
    writer.write(encode_word(Refused("", reason)))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
