"""What the agent said, taken apart: plain text for the chat it came from, blocks for named destinations. Pure.

Rules (architecture section 8): `<message to="name">` goes to that destination, other text to where the message came
from, `<internal>` is stripped, also when left open. A name that is no destination is returned, never dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INTERNAL = re.compile(r"<internal\b[^>]*>.*?(?:</internal\s*>|\Z)", re.DOTALL | re.IGNORECASE)
BLOCK = re.compile(
    r"""<message\s+to\s*=\s*["']([^"'<>]*)["']\s*>(.*?)(?:</message\s*>|\Z)""", re.DOTALL | re.IGNORECASE
)
ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&"))


@dataclass(frozen=True, slots=True)
class Part:
    """One message to send; `to` None means where the trigger came from."""

    text: str
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be sent, and what names a place nobody knows."""

    parts: tuple[Part, ...]
    unknown: tuple[Part, ...]


def parse_answer(text: str, destinations: frozenset[str], origin: str = "") -> Answer:
    """Take a final text apart. Blocks keep their order; text around them is joined to one message before them.

    A block for `origin`, where the trigger came from, is an answer to it, also where that is no destination.
    """
    text = INTERNAL.sub("", text)
    parts: list[Part] = []
    unknown: list[Part] = []
    around: list[str] = []
    end = 0
    for match in BLOCK.finditer(text):
        around.append(text[end : match.start()].strip())
        end = match.end()
        name, body = unescape(match.group(1)).strip(), match.group(2).strip()
        if body and name == origin and name not in destinations:
            parts.append(Part(body))
        elif body:
            (parts if name in destinations else unknown).append(Part(body, name))
    around.append(text[end:].strip())
    rest = "\n\n".join(piece for piece in around if piece)
    if rest:
        parts.insert(0, Part(rest))
    return Answer(tuple(parts), tuple(unknown))


def unescape(text: str) -> str:
    """Undo the escapes of prompt.escape."""
    for entity, character in ENTITIES:
        text = text.replace(entity, character)
    return text
