"""A question with options as channel-neutral data: buttons where a platform has them, numbered text where not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

MOST_NAME = 64  # characters of a stranger's name on a card


@dataclass(frozen=True, slots=True)
class Option:
    """One answer. `value` is what the host gets back; `takes_text`: the answer needs words after its number."""

    value: str
    label: str
    takes_text: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """A question put to a person. `approval` is the id an answer names, `code` its short name in a typed answer.

    A card without options is the end of one: nothing can be answered any more.
    """

    approval: str
    code: str
    title: str
    text: str
    options: tuple[Option, ...] = ()


def card_to_json(card: Card) -> str:
    """Serialise for the `outbox.card` column."""
    return json.dumps(asdict(card), ensure_ascii=False, separators=(",", ":"))


def card_from_json(text: str) -> Card:
    """Parse what card_to_json wrote."""
    fields = json.loads(text)
    options = tuple(Option(**option) for option in fields.pop("options"))
    return Card(**fields, options=options)


def options_to_json(options: tuple[Option, ...]) -> str:
    """Serialise for the `approvals.options` column."""
    return json.dumps([asdict(option) for option in options], ensure_ascii=False, separators=(",", ":"))


def options_from_json(text: str) -> tuple[Option, ...]:
    """Parse what options_to_json wrote."""
    return tuple(Option(**option) for option in json.loads(text))


def render_card(card: Card) -> str:
    """Return a card as text: the question, then its options by number, then how to answer by typing."""
    lines = [card.title] if card.title else []
    if card.text:
        lines.append(card.text)
    for number, option in enumerate(card.options, 1):
        words = f" (or at once: `{card.code} {number} NAME`)" if option.takes_text else ""
        lines.append(f"{number}. {option.label}{words}")
    if card.options:
        lines.append(f"Answer with the number, or at any time with `{card.code} 1`.")
    return "\n".join(lines)


def one_line(text: str, most: int = MOST_NAME) -> str:
    """Return a name somebody gave themselves as it may stand on a card: one line, no control or markup characters."""
    kept = "".join(character if character.isprintable() and character not in "*_`#<>[]" else " " for character in text)
    line = " ".join(kept.split())
    return line if len(line) <= most else line[: most - 1] + "…"
