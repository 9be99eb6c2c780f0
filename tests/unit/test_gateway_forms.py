"""A secret is found however it is written: raw, percent-encoded, in JSON, HTML, hex and base64 of every alignment."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.forms import FORM_MIN, write_forms
from nanoclaw.gateway.needles import Needles
from nanoclaw.gateway.wanted import SecretWatch

SECRET = b"p+a/ss\"w\\or<d>&'=~%20!"
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda raw: raw,
    "percent": lambda raw: quote(raw, safe="").encode(),
    "percent, slashes kept": lambda raw: quote(raw).encode(),
    "percent, of a form": lambda raw: quote_plus(raw).encode(),
    "percent, of a browser": lambda raw: quote(raw, safe="!'()*~").encode(),
    "percent, of a query": lambda raw: urlencode({"q": raw}).encode(),
    "percent, every byte": lambda raw: "".join(f"%{byte:02X}" for byte in raw).encode(),
    "percent, every byte, small digits": lambda raw: "".join(f"%{byte:02x}" for byte in raw).encode(),
    "JSON": lambda raw: json.dumps({"a": raw.decode()}).encode(),
    "JSON of PHP": lambda raw: json.dumps(raw.decode()).replace("/", "\\/").encode(),
    "JSON of Go": lambda raw: (
        json.dumps(raw.decode()).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()
    ),
    "HTML": lambda raw: html.escape(raw.decode()).encode(),
    "hex": lambda raw: raw.hex().encode(),
    "hex, large digits": lambda raw: raw.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64, after one byte": lambda raw: base64.b64encode(b":" + raw + b"\n"),
    "base64, after two": lambda raw: base64.b64encode(b"u:" + raw + b"."),
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 for URLs, after five": lambda raw: base64.urlsafe_b64encode(b"user:" + raw),
    "Basic": lambda raw: b"Basic " + base64.b64encode(b"somebody:" + raw),
}


@pytest.mark.parametrize("how", ENCODINGS)
def test_a_secret_is_found_in_each_encoding(how: str) -> None:
    assert Needles(write_forms(SECRET)).find_spans(b"<<" + ENCODINGS[how](SECRET) + b">>")


@settings(max_examples=200, deadline=None)
@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60).map(str.encode),
    how=st.sampled_from(list(ENCODINGS)),
    before=st.binary(max_size=40),
)
def test_any_secret_of_eight_characters_or_more_is_found_in_each(secret: bytes, how: str, before: bytes) -> None:
    assert Needles(write_forms(secret)).find_spans(before + ENCODINGS[how](secret))


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("length", [8, 9, 10])
def test_the_middle_in_base64_does_not_depend_on_what_stands_beside_it(before: int, length: int) -> None:
    secret = b"\xff" * length  # each bit of it counts
    for beside in (b"\x00", b"\xff", b"~"):
        data = base64.b64encode(beside * before + secret + beside * 2)
        assert Needles(write_forms(secret)).find_spans(data)


def test_no_form_is_so_short_that_text_would_hold_it_by_chance() -> None:
    assert min(map(len, write_forms(b"12345678"))) == FORM_MIN
    assert write_forms(b"abc") == frozenset(
        {b"%61%62%63", b"\\u0061\\u0062\\u0063"}
    )  # what a shorter value leaves; the vault takes none


def test_ordinary_text_holds_no_form() -> None:
    assert Needles(write_forms(b"correct-horse")).find_spans(b"correct horse battery staple " * 1000) == []


def test_what_is_wanted_is_worked_out_once_for_each_state_of_the_vault() -> None:
    values: list[tuple[bytes, ...]] = [(b"first-secret",)]
    watch = SecretWatch(lambda: values[-1])
    before = watch()
    assert watch() is before
    values.append((b"first-secret", b"other-secret"))
    after = watch()
    assert after is not before
    assert after.secrets.find_spans(b"other-secret") == [(0, 12)]
    assert before.secrets.find_spans(b"other-secret") == []
