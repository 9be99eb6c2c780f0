"""What an agent writes never moves, recolours or lies to the terminal of the person who reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.channels.plain_text import neutralise, one_line
from nanoclaw.cli.talk import render_markdown

HOSTILE = ("\x1b", "\x9b", "\x07", "\x08", "\r", "\x7f", "\0", "\u202e", "\u2066", "\u200e", "\ufeff", "\U000e0041")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße, 你好 👩‍👩‍👧", "Grüße, 你好 👩‍👩‍👧"),
        ("a\tb\nc", "a\tb\nc"),
        ("one\r\ntwo", "one\ntwo"),
        ("progress 1%\rprogress 2%", "progress 1%␍progress 2%"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b2J", "\ufffd2J"),
        ("del\x7f nul\0", "del␡ nul␀"),
        ("abc\u202edcba", "abcdcba"),
        ("a\u00a0b\u2028c", "a b\nc"),
        ("lone \ud800", "lone \ufffd"),
    ],
)
def test_what_a_terminal_obeys_is_shown_instead(text: str, shown: str) -> None:
    assert neutralise(text) == shown


@given(st.text(st.characters() | st.sampled_from(HOSTILE)))
def test_no_text_keeps_a_control_or_a_mark_of_direction(text: str) -> None:
    safe = neutralise(text)
    assert all(char in "\n\t\u200c\u200d" or char.isprintable() for char in safe)
    assert neutralise(safe) == safe


@pytest.mark.parametrize("text", ["&#13;over", "&#x202e;evil", "&#27;[31m", "`\x1b[31m`", "[a](http://x/\x1b]0;t\x07)"])
def test_rendered_markdown_holds_our_own_colours_only(text: str) -> None:
    shown = render_markdown(text, 40)
    assert "\r" not in shown and "\u202e" not in shown and "\x07" not in shown
    assert "\x1b]" not in shown and "\x1b[31m" not in shown


def test_a_rendered_link_shows_where_it_leads() -> None:
    assert "http://evil.example" in render_markdown("[my bank](http://evil.example)", 80)


def test_one_line_is_one_line_and_no_longer_than_asked() -> None:
    assert one_line("a\n\x1b b", 10) == "a ␛ b"
    assert one_line("x" * 20, 5) == "xxxx…"
