"""The ways in which a secret may be written: whoever echoes it may have encoded it first.

In: a value. Out: each form that is looked for. Never: a form so short that ordinary text would hold it by chance.
Not among them, because they are endless: a mixture of encodings, one inside another, a value cut up or turned round.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from urllib.parse import quote

FORM_MIN = 8  # bytes; the vault takes no shorter secret, and a shorter middle in base64 is left out
_QUOTED_BY_NOBODY = "!'()*~"  # encodeURIComponent leaves these alone, Python and RFC 3986 encode most of them


def write_forms(secret: bytes) -> frozenset[bytes]:
    """Return the forms of a secret, itself among them, each at least 8 bytes long."""
    forms = {secret, *_percent(secret), *_escaped(secret), *_hex(secret), *_base64(secret)}
    return frozenset(form for form in forms if len(form) >= FORM_MIN)


def _percent(secret: bytes) -> Iterator[bytes]:
    """Percent-encoded (RFC 3986 section 2.1): as libraries do it, with small digits, and every byte of it."""
    for safe in ("", "/", _QUOTED_BY_NOBODY):
        quoted = quote(secret, safe=safe)
        yield quoted.encode("ascii")
        yield _small_digits(quoted).encode("ascii")
    yield "".join(f"%{byte:02X}" for byte in secret).encode("ascii")
    yield "".join(f"%{byte:02x}" for byte in secret).encode("ascii")


def _small_digits(quoted: str) -> str:
    first, *rest = quoted.split("%")
    return "%".join((first, *(part[:2].lower() + part[2:] for part in rest)))


def _escaped(secret: bytes) -> Iterator[bytes]:
    """As a JSON string holds it (RFC 8259 section 7; PHP escapes `/`, Go `<`, `>` and `&`), and HTML."""
    text = secret.decode("latin-1")
    plain = json.dumps(text)[1:-1]
    yield plain.encode("ascii")
    yield plain.replace("/", "\\/").encode("ascii")
    safe = plain
    for character in "<>&":
        safe = safe.replace(character, f"\\u{ord(character):04x}")
    yield safe.encode("ascii")
    yield safe.replace("'", "\\u0027").encode("ascii")
    yield html.escape(text).encode("latin-1")
    yield "".join(f"\\u{byte:04x}" for byte in secret).encode("ascii")
    yield "".join(f"\\u{byte:04X}" for byte in secret).encode("ascii")


def _hex(secret: bytes) -> Iterator[bytes]:
    yield secret.hex().encode("ascii")
    yield secret.hex().upper().encode("ascii")


def _base64(secret: bytes) -> Iterator[bytes]:
    """In base64 (RFC 4648 sections 4 and 5), wherever it begins in what was encoded.

    Three bytes become four characters, so there are three alignments; a character that also holds bits of a neighbour
    is left out. Of 8 bytes 10 characters stay.
    """
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        first = -(-before * 8 // 6)  # characters that hold bits of what comes before
        last = (before + len(secret)) * 8 // 6  # the first that holds bits of what comes after
        middle = encoded[first:last]
        yield middle
        yield middle.replace(b"+", b"-").replace(b"/", b"_")
