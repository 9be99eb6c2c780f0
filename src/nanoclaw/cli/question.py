"""`nanoclaw chat TEXT`: one message, its answers on stdout, an exit code that says how it ended.

In: words of the terminal channel. Out: the texts that answer our message, each once, over any number of connections.
The host may die and come back meanwhile: the message is said again under the same `client_id`, which is accepted once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nanoclaw.channels.terminal_words import (
    Accepted,
    ClientWord,
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
from nanoclaw.cli.host_process import HostStarter, Tell
from nanoclaw.cli.link import Link

REHEARSAL = "rehearsal: no model key is set, a stand-in answers. Set one with `./nanoclaw.sh setup`"
REHEARSAL_OVER = "A model key is set: the rehearsal is over"
GOOD = ("replied", "silent")


@dataclass(slots=True)
class Question:
    """What is known about one message; pure, so that a test can lose its connection at every point."""

    client_id: str
    text: str
    chat: str
    message: str | None = None
    outcome: str | None = None
    refusal: str = ""
    rehearsal: bool = False
    answers: list[str] = field(default_factory=list[str])
    _cursor: int | None = None
    _seen: set[str] = field(default_factory=set[str])

    def opening(self) -> tuple[ClientWord, ...]:
        """Return what to say on a new connection."""
        return Hello(self.chat, self._cursor, recent=0), Say(self.client_id, self.text)

    def hear(self, word: ServerWord) -> str | None:
        """Take a word; return the text of a delivery that answers our message and was not seen before."""
        match word:
            case Welcome():
                self.rehearsal = word.rehearsal
                self._cursor = word.cursor if self._cursor is None else self._cursor
            case Accepted(client_id=self.client_id):
                self.message = word.message
            case Refused(client_id=client_id) if client_id == self.client_id or (
                not client_id and self.message is None
            ):
                self.refusal = word.reason
            case Told(client_id=self.client_id):
                self.outcome = GOOD[0]
                self.answers.append(word.words)
                return word.words
            case Delivery():
                return self._take(word)
            case Settled(message=self.message):
                self.outcome = word.outcome
            case Accepted() | Told() | Refused() | Settled() | Typing():
                pass
        return None

    def hear_aside(self, word: ServerWord) -> str | None:
        """Return what the host itself says in our chat while we wait, once: such as a card about a call of ours."""
        if not isinstance(word, Delivery) or not word.notice or word.answers or word.id in self._seen:
            return None
        self._seen.add(word.id)
        return word.text

    def _take(self, delivery: Delivery) -> str | None:
        if self.message is None or self.message not in delivery.answers or delivery.id in self._seen:
            return None
        self._seen.add(delivery.id)
        self.answers.append(delivery.text)
        return delivery.text

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return bool(self.refusal) or self.outcome is not None


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a question's answers go (`show`), and what the person should know besides (`tell`)."""

    show: Callable[[str], None]
    tell: Tell


def ask(question: Question, starter: HostStarter, timeout_seconds: float, listener: Listener) -> bool:
    """Say the message and show what answers it. Returns False when the time ran out. Raises NanoClawError."""
    deadline = time.monotonic() + timeout_seconds
    while not question.is_over:
        sock = starter.connect(deadline)
        if sock is None:
            return False
        link = Link(sock)
        try:
            if not _hear_out(question, link, deadline, listener):
                return False
        except ConnectionError:
            listener.tell("the host went away; connecting again ...")
        finally:
            link.close()
    return True


def _hear_out(question: Question, link: Link, deadline: float, listener: Listener) -> bool:
    """Listen on one connection until the question is over (True) or its time is (False)."""
    link.send(*question.opening())
    while not question.is_over:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        for word in link.receive(left):
            if isinstance(word, Welcome) and word.rehearsal and not question.rehearsal:
                listener.tell(REHEARSAL)
            aside = question.hear_aside(word)
            if aside is not None:
                listener.tell(aside)
            text = question.hear(word)
            if text is not None:
                listener.show(text)
    return True
