"""What an agent may be called, and which folder it gets. Pure.

A name is for people: any script, emoji too, one line. A folder is a part of paths on this machine: plain characters
alone, so that no name can lead out of the home.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from nanoclaw.errors import Refused

MOST_CHARACTERS = 64
JOINER = "\u200d"  # makes one emoji of several; invisible, so allowed behind a symbol alone
FOLDER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
RESERVED = frozenset({"global", "all"})  # words that commands and older versions use for more than one agent group
NAMELESS = "agent"  # the folder of a name without a letter that fits into one


def check_agent_name(text: str) -> str:
    """Return an agent's name as it is kept: trimmed, composed (NFC). Raises Refused with a plain sentence."""
    name = unicodedata.normalize("NFC", text[: 4 * MOST_CHARACTERS]).strip()
    if not name or len(text) > 4 * MOST_CHARACTERS or len(name) > MOST_CHARACTERS:
        raise Refused(f"A name has 1 to {MOST_CHARACTERS} characters.")
    if not _is_shown(name):
        raise Refused("A name is one line of characters that can be seen.")
    if not any(unicodedata.category(character)[0] in "LNS" for character in name):
        raise Refused("A name needs at least one letter, digit or emoji.")
    return name


def check_folder(text: str) -> str:
    """Return a folder's name unchanged. Raises Refused with a plain sentence."""
    if not FOLDER.fullmatch(text):
        raise Refused("A folder's name is 1 to 64 of a-z, 0-9, - and _, and begins with a letter or digit.")
    if text in RESERVED:
        raise Refused(f"The folder name {text} is reserved. Take another.")
    return text


def decide_folder(name: str, taken: Collection[str]) -> str:
    """Return a free folder made from a name: `Zoë's Bot` -> `zoe-s-bot`, then `zoe-s-bot-2`."""
    plain = unicodedata.normalize("NFKD", name[: 4 * MOST_CHARACTERS]).lower()
    letters = "".join(character for character in plain if not unicodedata.combining(character))
    base = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:MOST_CHARACTERS].strip("-") or NAMELESS
    folder, number = base, 1
    while folder in taken or folder in RESERVED:
        number += 1
        suffix = f"-{number}"
        folder = base[: MOST_CHARACTERS - len(suffix)].rstrip("-") + suffix
    return folder


def _is_shown(name: str) -> bool:
    before = ""
    for character in name:
        joins = character == JOINER and unicodedata.category(before or "a") in ("So", "Sk", "Mn")
        if not character.isprintable() and not joins:
            return False
        before = character
    return before != JOINER
