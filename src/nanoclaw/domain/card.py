"""A question with options as channel-neutral data: buttons where a platform has them, numbered text where not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


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


def render_card(card: Card) -> str:
    """Return a card as text: the question, then its options by number, then how to answer by typing."""
    lines = [f"**{card.title}**"] if card.title else []
    if card.text:
        lines.append(card.text)
    for number, option in enumerate(card.options, 1):
        words = " (write the name after it)" if option.takes_text else ""
        lines.append(f"{number}. {option.label}{words}")
    if card.options:
        lines.append(f"Answer with the number. When several questions are open: `{card.code} 1`.")
    return "\n".join(lines)
