"""A conversation that lasts: words come in on a thread of their own, what is said is kept until it has an outcome.

When the host goes, messages without an outcome are said again on the next connection (accepted once, by their
`client_id`). A host is started again only when one of those waits; an operator who stopped it is not argued with.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Protocol

from nanoclaw.channels.terminal_words import (
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
)
from nanoclaw.cli.host_process import HostStarter
from nanoclaw.cli.link import Link
from nanoclaw.errors import NanoClawError

LOOK_SECONDS = 0.25
FOREVER_SECONDS = 1e9


class Screen(Protocol):
    """Where a conversation is shown; called from the conversation's thread."""

    def welcome(self, assistant: str, rehearsal: bool) -> None:
        """Show who is there; said again when that changes, and on every connection."""
        ...

    def delivery(self, text: str, *, notice: bool) -> None:
        """Show what was said (not yet safe to print)."""
        ...

    def note(self, text: str) -> None:
        """Show something about the conversation itself (not yet safe to print)."""
        ...

    def typing(self, active: bool) -> None:
        """Show or hide that the agent is at work."""
        ...


class Conversation:
    """`open`, then `say`; `wait_settled` until nothing waits for an answer. `failed` counts what was not answered."""

    def __init__(self, starter: HostStarter, chat: str, screen: Screen, *, recent: int) -> None:
        self.failed = 0
        self._starter = starter
        self._chat = chat
        self._screen = screen
        self._recent = recent
        self._lock = threading.Condition()
        self._unsettled: dict[str, Say] = {}
        self._ids: dict[str, str] = {}  # our id of a message -> its client_id
        self._seen: set[str] = set()
        self._cursor: int | None = None
        self._link: Link | None = None
        self._greeted = False  # by the host at the other end; one that dies before that is not worth a word of its own
        self._closed = False

    def open(self) -> None:
        """Connect (starting a host when none runs) and begin to listen. Raises NanoClawError when that fails."""
        self._connect()
        threading.Thread(target=self._run, name="conversation", daemon=True).start()

    def say(self, text: str) -> None:
        """Send a message now, or on the next connection."""
        word = Say(secrets.token_hex(16), text)
        with self._lock:
            self._unsettled[word.client_id] = word
            link = self._link
            self._lock.notify_all()
        if link is None:
            return
        try:
            link.send(word)
        except OSError:
            link.close()  # the listening thread sees it, connects again and sends what is unsettled

    def wait_settled(self, timeout_seconds: float) -> bool:
        """Return True when every message has an outcome, False when the time ran out."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._unsettled, timeout_seconds)

    def close(self) -> None:
        """End it; messages without an outcome are answered all the same, to whoever connects next."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            if self._link is not None:
                self._link.close()

    def _connect(self) -> None:
        sock = self._starter.connect(time.monotonic() + FOREVER_SECONDS)
        if sock is None:
            return
        link = Link(sock)
        with self._lock:
            try:
                link.send(Hello(self._chat, self._cursor, self._recent), *self._unsettled.values())
            except ConnectionError:
                link.close()  # it is found out at the first receive
            self._link = link

    def _run(self) -> None:
        while not self._closed:
            try:
                self._listen()
            except (OSError, ValueError):
                self._lost(
                    "The host went away." if self._unsettled else "The host went away. Say something to start it."
                )
            except NanoClawError as error:
                self._lost(str(error))
            self._reconnect()

    def _listen(self) -> None:
        link = self._link
        while link is not None:
            for word in link.receive(None):
                self._hear(word)

    def _lost(self, why: str) -> None:
        with self._lock:
            if self._link is not None:
                self._link.close()
            self._link = None
        if self._greeted and not self._closed:
            self._screen.typing(False)
            self._screen.note(why)
        self._greeted = False

    def _reconnect(self) -> None:
        """Wait until a host is there, or is wanted; a start that failed is not tried again before the next message."""
        tried: set[str] = set()
        while not self._closed and self._link is None:
            with self._lock:
                wanted = set(self._unsettled) - tried
                if not wanted:
                    self._lock.wait(LOOK_SECONDS)
                    wanted = set(self._unsettled) - tried
            if not wanted and not self._starter.host_answers():
                continue
            try:
                self._connect()
            except NanoClawError as error:
                tried |= wanted
                self._screen.note(f"{error} Your messages are kept; say something to try again.")

    def _hear(self, word: ServerWord) -> None:
        match word:
            case Welcome():
                self._greeted = True
                self._cursor = word.cursor if self._cursor is None else self._cursor
                self._screen.welcome(word.assistant, word.rehearsal)
            case Accepted():
                self._ids[word.message] = word.client_id
            case Told():
                self._screen.note(word.words)
                self._settle(word.client_id, ok=True)
            case Refused():
                self._screen.note(word.reason)
                self._settle(word.client_id, ok=False)
            case Delivery():
                self._show(word)
            case Settled():
                ok = word.outcome in ("replied", "silent")
                if not ok:
                    self._screen.note(f"That message {word.outcome}: ./nanoclaw.sh trace {word.message}")
                self._settle(self._ids.pop(word.message, ""), ok=ok)
            case Typing():
                self._screen.typing(word.active)

    def _show(self, delivery: Delivery) -> None:
        if delivery.id in self._seen:
            return
        self._seen.add(delivery.id)
        self._cursor = max(self._cursor or 0, delivery.order)
        self._screen.delivery(delivery.text, notice=delivery.notice)

    def _settle(self, client_id: str, *, ok: bool) -> None:
        with self._lock:
            if self._unsettled.pop(client_id, None) is not None:
                self.failed += not ok
            self._lock.notify_all()
