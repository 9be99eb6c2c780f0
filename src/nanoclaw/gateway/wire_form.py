"""How a secret's value is written into a call, and what must therefore never come back.

Pure text. Never: keeps what the agent wrote in a secret's place.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import quote, unquote_plus

from nanoclaw.errors import Refused
from nanoclaw.gateway.oauth_grant import parse_grant
from nanoclaw.gateway.secret import Secret
from nanoclaw.gateway.vault_file import Kind, StoredSecret, Way

SHORTEST = 8  # what is shorter would blot out ordinary words


def wire_forms(stored: StoredSecret, secret: Secret) -> tuple[bytes, ...]:
    """Return what must never come back of a secret: its value, and the forms in which it is sent."""
    value = secret.reveal()
    forms = list(parse_grant(value).values()) if stored.kind is Kind.OAUTH2 else [value]
    for way in (*stored.ways, Way("", "", stored.kind, stored.field)):
        if way.kind is Kind.BASIC:
            forms += [write_basic(way.field, value), value.partition(":")[2]]
    return tuple(form.encode("ascii") for form in forms if len(form) >= SHORTEST)


def write_basic(user: str, value: str) -> str:
    """Return Basic credentials (RFC 7617): of user:password, or of a token under a fixed user name."""
    return base64.b64encode(f"{user}:{value}".encode("ascii") if user else value.encode("ascii")).decode("ascii")


def put_parameter(path: str, name: str, value: str) -> str:
    """Return a path whose query has one parameter of that name, however the agent spelt its own."""
    bare, _, query = path.partition("?")
    others = [part for part in re.split("[&;]", query) if part and unquote_plus(part.partition("=")[0]) != name]
    return bare + "?" + "&".join([*others, f"{name}={quote(value, safe='')}"])


def put_segment(path: str, word: str, value: str) -> str:
    """Return a path whose first segment that begins with `word` is the word and the value. Raises Refused: none."""
    bare, mark, query = path.partition("?")
    segments = bare.split("/")
    for at, segment in enumerate(segments):
        if segment.startswith(word):
            return "/".join([*segments[:at], word + value, *segments[at + 1 :]]) + mark + query
    raise Refused(f"The secret is sent in a segment of the path that begins with {word!r}; write /{word}/ there.")
