"""Tokens are read from answers of both shapes, in any chunks, and nonsense costs nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.usage import BODY_BYTES, COUNT_MAX, ESTIMATE_MAX, LINE_BYTES, TAIL_BYTES, Usage, UsageReader

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
        ("application/json", b'{"usage":' + b" " * BODY_BYTES + b'"input_tokens"' + b" " * TAIL_BYTES),
    ],
)
def test_an_answer_that_is_not_understood_is_estimated(kind: str, chunk: bytes) -> None:
    usage = read(kind, chunk)
    assert (usage.model, usage.prompt_tokens, usage.estimated) == ("", 0, True)
    assert 0 <= usage.output_tokens <= ESTIMATE_MAX


def test_no_answer_is_no_usage() -> None:
    assert read(SSE) == read("application/json") == Usage()


def test_the_end_of_an_answer_that_is_too_long_to_be_held_still_says_what_it_used() -> None:
    body = b'{"data":[' + b"0," * BODY_BYTES + b'0],"model":"text-embedding-3-small","usage":{"prompt_tokens":7}}'
    assert read("application/json", body[:BODY_BYTES], body[BODY_BYTES:]) == Usage("text-embedding-3-small", 7)


def test_what_is_written_to_a_cache_for_an_hour_is_told_apart() -> None:
    body = (
        b'{"model":"claude-x","usage":{"input_tokens":3,"output_tokens":4,"cache_creation_input_tokens":9,'
        b'"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}}}'
    )
    assert read("application/json", body) == Usage("claude-x", 3, 4, 0, 9, 5)


CHAT = b'{"model":"gpt-5","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":'
CHUNK = b'data: {"model":"gpt-5","choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'


def test_a_chat_completion_says_what_it_used_and_cached_tokens_are_not_counted_twice() -> None:
    assert read("application/json", CHAT + b'{"cached_tokens":6}}}') == Usage("gpt-5", 4, 4, 6)
    assert read("application/json", CHAT + b"null}}") == Usage("gpt-5", 10, 4)
    assert read("application/json", CHAT + b'{"cached_tokens":600}}}') == Usage("gpt-5", 0, 4, 600)


def test_a_streamed_chat_completion_says_it_in_its_last_chunk() -> None:
    last = b"data: " + CHAT + b'{"cached_tokens":6}}}\n\ndata: [DONE]\n\n'
    assert read(SSE, CHUNK * 5, last) == Usage("gpt-5", 4, 4, 6)


def test_a_streamed_chat_completion_that_does_not_say_it_is_counted_by_its_chunks() -> None:
    assert read(SSE, CHUNK * 50, b"data: [DONE]\n\n") == Usage("gpt-5", 0, 51, estimated=True)


def test_the_responses_api_says_it_when_it_is_complete() -> None:
    counts = b'{"input_tokens":10,"input_tokens_details":{"cached_tokens":6},"output_tokens":4}'
    whole = b'{"model":"gpt-5","usage":%s}' % counts
    assert read("application/json", whole) == Usage("gpt-5", 4, 4, 6)
    created = b'data: {"type":"response.created","response":{"model":"gpt-5","usage":null}}\n\n'
    delta = b'data: {"type":"response.output_text.delta","delta":"hello"}\n\n'
    completed = b'data: {"type":"response.completed","response":%s}\n\n' % whole
    assert read(SSE, created, delta * 3, completed) == Usage("gpt-5", 4, 4, 6)
    broken_off = read(SSE, created, delta * 3)
    assert (broken_off.model, broken_off.estimated) == ("gpt-5", True)


def test_a_stream_that_breaks_off_keeps_its_input_and_has_its_output_estimated() -> None:
    delta = b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%s"}}\n\n' % (b"word " * 60)
    usage = read(SSE, STREAM[:250], delta * 10)
    assert (usage.input_tokens, usage.estimated) == (12, True)
    assert 600 <= usage.output_tokens <= 2000


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


def test_an_answer_too_deep_to_be_read_is_estimated() -> None:
    deep = b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert read("application/json", deep).estimated
    assert read(SSE, b"data: " + deep + b"\n\n").estimated
