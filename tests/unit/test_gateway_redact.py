"""A secret never comes back, wherever the borders between chunks fall; everything else comes back at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.needles import Needles
from nanoclaw.gateway.redact import Redactor, redact_value
from nanoclaw.gateway.shapes import Shapes
from nanoclaw.gateway.wanted import Wanted

KEY = b"sk-ant-REAL-1234"
SHAPES = Shapes()


def wanted(*secrets: bytes) -> Wanted:
    """These and no other form of them."""
    return Wanted(Needles(secrets), SHAPES)


def redact(chunks: list[bytes], *secrets: bytes) -> bytes:
    redactor = Redactor(wanted(*secrets))
    return b"".join(map(redactor.feed, chunks)) + redactor.finish()


def plain_answer(data: bytes, secrets: list[bytes]) -> bytes:
    """The same, said simply: mark every byte that lies in an occurrence."""
    hidden = [False] * len(data)
    for secret in secrets:
        for start in range(len(data) - len(secret) + 1):
            if data[start : start + len(secret)] == secret:
                hidden[start : start + len(secret)] = [True] * len(secret)
    return bytes(ord("*") if mark else byte for byte, mark in zip(data, hidden, strict=True))


def test_a_secret_in_one_chunk_is_blotted_out_at_the_same_length() -> None:
    assert redact([b"key=" + KEY + b";"], KEY) == b"key=" + b"*" * len(KEY) + b";"


def test_a_secret_cut_by_every_possible_border_is_blotted_out() -> None:
    data = b"<<" + KEY + b">>"
    for border in range(len(data)):
        assert redact([data[:border], data[border:]], KEY) == b"<<" + b"*" * len(KEY) + b">>"


def test_an_event_that_ends_with_a_line_break_is_passed_on_at_once() -> None:
    redactor = Redactor(wanted(KEY))
    event = b'data: {"text":"sk-ant"}\n\n'
    assert redactor.feed(event) == event


def test_only_the_possible_beginning_of_a_secret_is_held_back() -> None:
    redactor = Redactor(wanted(KEY))
    assert redactor.feed(b"hello sk-an") == b"hello "
    assert redactor.feed(b"swer") == b"sk-answer"
    assert redactor.finish() == b""


def test_the_beginning_of_a_secret_at_the_end_of_a_stream_is_passed_on() -> None:
    assert redact([b"abc sk-ant-"], KEY) == b"abc sk-ant-"


def test_without_secrets_nothing_is_changed_or_held() -> None:
    assert redact([b"sk-", b"ant"], b"") == b"sk-ant"


def test_a_header_value_is_redacted_whole() -> None:
    assert redact_value(b"Bearer " + KEY, wanted(KEY)) == b"Bearer " + b"*" * len(KEY)
    assert redact_value(b"sk-ant", wanted(KEY)) == b"sk-ant"


def test_overlapping_secrets_are_all_blotted_out_across_a_border() -> None:
    assert redact([b"aabab", b"ababc"], b"abab", b"babc") == b"a" + b"*" * 9


words = st.binary(min_size=1, max_size=6).map(lambda raw: bytes(b"ab"[byte % 2] for byte in raw))


long_words = st.binary(min_size=7, max_size=40).map(lambda raw: bytes(b"ab"[byte % 2] for byte in raw))


@settings(max_examples=300, deadline=None)
@given(secrets=st.lists(long_words, min_size=1, max_size=4), data=st.data())
def test_secrets_long_enough_for_the_sieve_are_found_at_every_place(secrets: list[bytes], data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from([*secrets, b"a", b"ba", b"."]) | words, max_size=12))
    assert redact(parts, *secrets) == plain_answer(b"".join(parts), secrets)


@settings(max_examples=400, deadline=None)
@given(secrets=st.lists(words, min_size=1, max_size=3), chunks=st.lists(words, max_size=12))
def test_any_split_of_any_text_is_redacted_like_the_whole_text(secrets: list[bytes], chunks: list[bytes]) -> None:
    assert redact(chunks, *secrets) == plain_answer(b"".join(chunks), secrets)
