"""Questions put to a person: one table, one life, one rule for who may answer, one way to answer by typing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nanoclaw.domain.card import Option
from nanoclaw.domain.people import Standing
from nanoclaw.domain.verdict import Allow, Deny

HOUR_MS = 3_600_000
LIFE_MS = 24 * HOUR_MS  # of a question; everything open expires
STRANGER_LIFE_MS = 7 * LIFE_MS  # of an unknown sender or chat: nobody waits for the answer
TEXT_MS = HOUR_MS // 6  # an option that takes words waits this long for them in the chat

APPROVE = Option("approve", "Approve")
DENY = Option("deny", "Deny")
DENYING = frozenset({"deny", "deny_for_good", "reject"})  # option values that say no
NOT_YOURS = "This is for an admin of this assistant or an owner to answer."


class ApprovalState(StrEnum):
    """open -> approved | denied | expired; everything open expires."""

    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


class ApprovalKind(StrEnum):
    """What is asked."""

    UNKNOWN_SENDER = "unknown_sender"
    UNKNOWN_CHAT = "unknown_chat"
    AGENT_REQUEST = "agent_request"
    EGRESS = "egress"
    QUESTION = "question"


def decide_answer(standing: Standing, *, is_asked: bool) -> Allow | Deny:
    """Decide whether a person may answer: an approver of the question's agent group now, or who was asked.

    `standing` is that of the moment of the answer; `is_asked`: it is a question, and put to this very person.
    """
    if standing.is_approver:
        return Allow(standing)
    return Allow("asked") if is_asked else Deny("not_an_approver", NOT_YOURS)


def decide_end_state(kind: ApprovalKind, value: str) -> ApprovalState:
    """Decide what an answer makes of an approval. A question has no wrong answer."""
    if kind is not ApprovalKind.QUESTION and value in DENYING:
        return ApprovalState.DENIED
    return ApprovalState.APPROVED


# -- answers by typing ---------------------------------------------------------------------------------------------

MOST_TYPED = 200  # characters; a longer message is no answer
CODE_CHARACTERS = "abcdefghjkmnpqrstuvwxyz"  # no i, l, o: read aloud and copied by hand
CODE_DIGITS = "23456789"
_NUMBER = re.compile(r"[0-9]{1,2}")
_YES = frozenset({"yes", "approve", "y"})
_NO = frozenset({"no", "deny", "n"})
_TALK = frozenset({"yes", "no", "y", "n"})  # words that people say to agents all the time


@dataclass(frozen=True, slots=True)
class OpenCard:
    """A question that stands open in a chat. `mine`: put to whoever writes; `latest`: nothing was said since."""

    approval: str
    code: str
    options: tuple[Option, ...]
    mine: bool
    latest: bool


@dataclass(frozen=True, slots=True)
class Typed:
    """A message that answers a card; `text` for an option that takes words."""

    approval: str
    value: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Unclear:
    """A message that looks like an answer, but to what? `words` say how to answer."""

    words: str


def decide_typed(text: str, cards: Sequence[OpenCard]) -> Typed | Unclear | None:
    """Decide whether a message in a chat with open cards answers one; None: it is an ordinary message.

    With a card's code (`k3 1`) always. Without it only when the message is exactly an option, one card is open, and
    it is the last thing that was said there: a `yes` may be meant for the agent, who could ask for one on purpose.
    """
    text = text.strip()
    if not cards or not text or len(text) > MOST_TYPED:
        return None
    for card in cards:
        code, _, rest = text.partition(" ")
        if code.casefold() == card.code:
            return _with_code(card, rest.strip())
    mine = [card for card in cards if card.mine]
    matching = [(card, option) for card in mine if (option := _find_option(card.options, text)) is not None]
    if not matching:
        return None
    if len(mine) == 1 and mine[0].latest:
        return Typed(matching[0][0].approval, matching[0][1].value)
    if text.casefold() in _TALK and not any(card.latest for card in mine):
        return None
    codes = " or ".join(f"`{card.code} {text}`" for card, _ in matching)
    why = "More than one question is open here." if len(mine) > 1 else "Something else was said since the question."
    return Unclear(f"{why} To answer it write {codes}.")


def _with_code(card: OpenCard, rest: str) -> Typed | Unclear | None:
    option = _find_option(card.options, rest)
    if option is not None:
        return Typed(card.approval, option.value)
    number, _, words = rest.partition(" ")
    option = _find_option(card.options, number)
    if option is not None and option.takes_text:
        return Typed(card.approval, option.value, words.strip())
    if _NUMBER.fullmatch(number):
        return Unclear(f"That question has the answers 1 to {len(card.options)}: `{card.code} 1`.")
    return None


def _find_option(options: Sequence[Option], text: str) -> Option | None:
    """Return the option that a text names: by number, label, or a plain yes or no where there is just one of these."""
    if _NUMBER.fullmatch(text):
        number = int(text)
        return options[number - 1] if 1 <= number <= len(options) else None
    word = text.casefold()
    for option in options:
        if word == option.label.casefold():
            return option
    if word in _YES | _NO:
        wanted = APPROVE.value if word in _YES else DENY.value
        return next((option for option in options if option.value == wanted), None)
    return None
