"""Tokens are read from an answer of the Messages API while it passes, streamed or not; the bytes are not touched.

In: the status, content type and chunks of an answer. Out: `Usage`, zeros where the answer says nothing.
Never: holds more than one line of a stream or 4 MiB of a JSON body, or fails on an answer it does not understand.
Source: https://docs.anthropic.com/en/api/messages-streaming (message_start carries the input, each message_delta the
output so far).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

LINE_BYTES = 1024 * 1024
BODY_BYTES = 4 * 1024 * 1024
COUNT_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used, in tokens; `cache_write_1h_tokens` are among `cache_write_tokens`."""

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0


class _Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    model: str = ""
    usage: _Counts | None = None


class _Event(msgspec.Struct):
    """`message_start` has `message`, `message_delta` has `usage`."""

    type: str
    message: _Message | None = None
    usage: _Counts | None = None


class UsageReader:
    """Reads one answer; `feed` its chunks, then ask `result`."""

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self._streamed = kind == "text/event-stream"
        self._wanted = self._streamed or kind == "application/json"
        self._held = bytearray()
        self._overlong = False
        self.usage = Usage()  # what is known so far

    def feed(self, chunk: bytes) -> None:
        """Look at one more chunk."""
        if not self._wanted:
            return
        if not self._streamed:
            self._held += chunk[: BODY_BYTES + 1 - len(self._held)]
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
        if self._wanted and not self._streamed and len(self._held) <= BODY_BYTES:
            self._read_body(bytes(self._held))
        return self.usage

    def _read_line(self, line: bytes) -> None:
        if not line.startswith(b"data:") or b'"message_' not in line[:200]:
            return
        try:
            event = msgspec.json.decode(line[5:], type=_Event)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if event.message is not None:
            self._learn(event.message.usage, event.message.model)
        self._learn(event.usage, "")

    def _read_body(self, body: bytes) -> None:
        try:
            message = msgspec.json.decode(body, type=_Message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._learn(message.usage, message.model)

    def _learn(self, counts: _Counts | None, model: str) -> None:
        """Take over the figures that are given; later ones replace earlier ones (they are totals)."""
        known = self.usage
        given = counts or _Counts()
        self.usage = Usage(
            model=model[:128] or known.model,
            input_tokens=_newer(given.input_tokens, known.input_tokens),
            output_tokens=_newer(given.output_tokens, known.output_tokens),
            cache_read_tokens=_newer(given.cache_read_input_tokens, known.cache_read_tokens),
            cache_write_tokens=_newer(given.cache_creation_input_tokens, known.cache_write_tokens),
        )


def _newer(given: int | None, known: int) -> int:
    return known if given is None else min(max(given, 0), COUNT_MAX)
