"""Tokens are read from answers of both shapes, in any chunks, and nonsense costs nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.usage import BODY_BYTES, COUNT_MAX, LINE_BYTES, Usage, UsageReader

SSE = "text/event-stream; charset=utf-8"
STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-x","usage":'
    b'{"input_tokens":12,"cache_read_input_tokens":5,"cache_creation_input_tokens":6,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"message_delta\\""}}\n\n'
    b'event: message_delta\r\ndata: {"type":"message_delta","usage":{"output_tokens":4}}\r\n\r\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":7}}\n\n'
    b'data: {"type":"message_stop"}\n\n'
)
USED = Usage("claude-x", 12, 7, 5, 6)


def read(kind: str, *chunks: bytes) -> Usage:
    reader = UsageReader(kind)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.result()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, len(STREAM)), max_size=8))
def test_a_stream_cut_anywhere_gives_the_same_figures(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in itertools.pairwise(borders)]
    assert read(SSE, *chunks) == USED


def test_a_whole_json_answer_gives_its_figures() -> None:
    body = b'{"type":"message","model":"claude-x","usage":{"input_tokens":3,"output_tokens":4}}'
    assert read("application/json", body[:20], body[20:]) == Usage("claude-x", 3, 4)


@pytest.mark.parametrize(
    ("kind", "chunk"),
    [
        ("text/html", STREAM),
        (SSE, b'data: {"type":"message_start"\n'),
        (SSE, b'data: {"type":"message_start","message":{"usage":{"input_tokens":"x"}}}\n'),
        (SSE, b'data: "message_\xff"\n'),
        ("application/json", b"{"),
        ("application/json", b'{"error":"x"}'),
        ("application/json", b'{"usage":' + b" " * BODY_BYTES + b'{"input_tokens":3}}'),
    ],
)
def test_an_answer_that_is_not_understood_counts_nothing(kind: str, chunk: bytes) -> None:
    assert read(kind, chunk) == Usage()


def test_a_figure_that_is_no_count_is_brought_into_range() -> None:
    body = b'{"usage":{"input_tokens":-5,"output_tokens":9223372036854775807}}'
    assert read("application/json", body) == Usage("", 0, COUNT_MAX)


def test_a_line_without_an_end_is_not_held_and_the_next_one_is_read() -> None:
    endless = b"x" * (LINE_BYTES + 1)
    assert read(SSE, endless, endless, b"\n" + STREAM) == USED


def test_figures_are_known_before_a_stream_ends() -> None:
    reader = UsageReader(SSE)
    reader.feed(STREAM[:250])
    assert reader.usage.input_tokens == 12
