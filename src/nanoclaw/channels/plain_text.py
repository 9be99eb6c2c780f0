"""Makes text of others safe to show on a terminal: an agent may be hostile, and a terminal obeys escape sequences."""

from __future__ import annotations

import unicodedata

KEPT = "\n\t\u200c\u200d"  # the joiners shape emoji and several scripts, and move nothing
PICTURES = 0x2400  # U+2400.. show what a control character is


def neutralise(text: str) -> str:
    """Return `text` without anything a terminal obeys; line ends become newlines, controls become visible signs.

    Covered: C0 and C1 controls (ESC and CSI among them), DEL, marks that turn or hide the direction of text
    (Trojan Source, CVE-2021-42574), invisible format characters, surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    lines = text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return "".join(
        character if character in KEPT or character.isprintable() else _sign(character) for character in lines
    )


def one_line(text: str, most: int) -> str:
    """Return `text` neutralised, on one line of at most `most` characters."""
    line = " ".join(neutralise(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _sign(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(PICTURES + code)
    if code == 0x7F:
        return "\u2421"
    category = unicodedata.category(character)
    if category == "Zs":  # the spaces that str.isprintable does not count
        return " "
    return "" if category == "Cf" else "\ufffd"
