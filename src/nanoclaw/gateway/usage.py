"""Tokens are read from an answer of a model API while it passes, streamed or not; the bytes are not touched.

In: the content type and chunks of an answer. Out: `Usage`, estimated where the answer does not say it to its end.
Never: holds more than one line of a stream or 4 MiB of a JSON body, or fails on an answer it does not understand.
Shapes: https://docs.anthropic.com/en/api/messages-streaming (message_start carries the input, each message_delta the
output so far); https://platform.openai.com/docs/api-reference: chat completions (the last chunk carries `usage` when
`stream_options.include_usage` asks for it) and responses (`response.completed` carries it). OpenAI counts cached
tokens among the input, Anthropic beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import msgspec

LINE_BYTES = 1024 * 1024
BODY_BYTES = 4 * 1024 * 1024
COUNT_MAX = 2**53
EVENT_BYTES = 120  # of a streamed event that are not what the model said
SAID_BYTES = 3  # of what it said, for one token
ESTIMATE_MAX = 200_000  # tokens; no model says more at once
TAIL_BYTES = 16 * 1024  # of a JSON body that is too long to be held: what it used stands at its end, or nowhere
NAMED_WITHIN = 20  # events, among which one names the model

_USED = re.compile(rb'"usage"\s*:\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}')
_NAMED = re.compile(rb'"model"\s*:\s*"[^"\\]{1,128}"')


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used, in tokens; `cache_write_1h_tokens` are among `cache_write_tokens`.

    `estimated`: the output is an estimate, because the answer did not say it or broke off.
    """

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    estimated: bool = False

    @property
    def prompt_tokens(self) -> int:
        """All that was read, from a cache or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def tokens(self) -> int:
        """All together: what budgets in tokens count."""
        return self.prompt_tokens + self.output_tokens


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Written(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class _Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Written | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None
    input_tokens_details: _Cached | None = None


class _Message(msgspec.Struct):
    model: str | None = None
    usage: _Counts | None = None


class _Event(msgspec.Struct):
    """An event of a stream, or a whole answer: `message` and `response` are what some events carry it in."""

    model: str | None = None
    usage: _Counts | None = None
    message: _Message | None = None
    response: _Message | None = None
    choices: msgspec.Raw = msgspec.Raw()


class UsageReader:
    """Reads one answer; `feed` its chunks, then ask `result`."""

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self._streamed = kind == "text/event-stream"
        self._wanted = self._streamed or kind == "application/json"
        self._held = bytearray()
        self._tail = b""
        self._overlong = False
        self._bytes = 0
        self._events = 0
        self._one_token_events = False
        self._said_all = False
        self._usage = Usage()

    def feed(self, chunk: bytes) -> None:
        """Look at one more chunk."""
        self._bytes += len(chunk)
        if not self._wanted:
            return
        if not self._streamed:
            self._held += chunk[: BODY_BYTES + 1 - len(self._held)]
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]
            return
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._held += line[:LINE_BYTES]
            if not self._overlong:
                self._read_line(bytes(self._held))
            self._held.clear()
            self._overlong = False
        self._held += rest
        if len(self._held) > LINE_BYTES:
            self._held.clear()
            self._overlong = True

    def result(self) -> Usage:
        """Return what the answer said, after its last chunk."""
        if self._wanted and not self._streamed:
            self._read_event(bytes(self._held) if len(self._held) <= BODY_BYTES else _glean(self._tail))
        return self.usage

    @property
    def usage(self) -> Usage:
        """What is known so far; what is not is estimated."""
        if self._said_all or not self._bytes:
            return self._usage
        return replace(self._usage, output_tokens=max(self._usage.output_tokens, self._estimate()), estimated=True)

    def _estimate(self) -> int:
        """Return how much of an answer that does not say it the model may have said."""
        if self._one_token_events:
            return self._events
        said = (self._bytes - EVENT_BYTES * self._events) // SAID_BYTES
        return min(max(said, self._events), ESTIMATE_MAX)

    def _read_line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        self._events += 1
        unnamed = not self._usage.model and self._events <= NAMED_WITHIN
        if unnamed or b'"usage"' in line:
            self._read_event(line[5:])

    def _read_event(self, data: bytes) -> None:
        try:
            event = msgspec.json.decode(data, type=_Event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if event.choices:
            self._one_token_events = True
        for part in (event.message, event.response):
            if part is not None:
                self._learn(part.usage, part.model)
        self._learn(event.usage, event.model)
        finished = event.usage or (event.response and event.response.usage)
        self._said_all = self._said_all or bool(finished)

    def _learn(self, counts: _Counts | None, model: str | None) -> None:
        """Take over the figures that are given; later ones replace earlier ones (they are totals)."""
        known = replace(self._usage, model=model[:128]) if model else self._usage
        self._usage = known if counts is None else _merge(known, counts)


def _glean(tail: bytes) -> bytes:
    """Return what the end of a long JSON answer says of its usage and its model, as an answer of its own."""
    parts = [found.group() for found in (_USED.search(tail), _NAMED.search(tail)) if found]
    return b"{" + b",".join(parts) + b"}"


def _merge(known: Usage, given: _Counts) -> Usage:
    details = given.prompt_tokens_details or given.input_tokens_details
    read = given.cache_read_input_tokens if details is None else details.cached_tokens
    prompt = given.input_tokens if given.prompt_tokens is None else given.prompt_tokens
    if details is not None and prompt is not None:
        prompt -= min(read or 0, prompt)
    output = given.output_tokens if given.completion_tokens is None else given.completion_tokens
    written = _newer(given.cache_creation_input_tokens, known.cache_write_tokens)
    hour = given.cache_creation.ephemeral_1h_input_tokens if given.cache_creation else None
    return Usage(
        model=known.model,
        input_tokens=_newer(prompt, known.input_tokens),
        output_tokens=_newer(output, known.output_tokens),
        cache_read_tokens=_newer(read, known.cache_read_tokens),
        cache_write_tokens=written,
        cache_write_1h_tokens=min(_newer(hour, known.cache_write_1h_tokens), written),
    )


def _newer(given: int | None, known: int) -> int:
    return known if given is None else min(max(given, 0), COUNT_MAX)
