"""Secrets are blotted out of what passes, also where a border between chunks cuts one in two.

In: chunks of a stream. Out: the same number of bytes, every occurrence of a secret replaced by `*`.
Never: holds back more than a tail that could be the beginning of a secret, so a stream of events stays live.
"""

from __future__ import annotations

from collections.abc import Callable

from nanoclaw.gateway.needles import Span
from nanoclaw.gateway.wanted import Wanted

MASK = b"*"


class Blotter:
    """One stream in which what `find_spans` points at is masked; `feed` chunks in order, then `finish`.

    `measure_tail` says how much of the end must wait because more of it may come: nothing that begins before the
    tail may end after all that came.
    """

    def __init__(self, find_spans: Callable[[bytes], list[Span]], measure_tail: Callable[[bytes], int]) -> None:
        self._find_spans = find_spans
        self._measure_tail = measure_tail
        self._tail = b""  # as it came, held back
        self._tail_masked = 0  # how many of its first bytes belong to a secret that began before it

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be passed on of the tail and this chunk."""
        data = self._tail + chunk
        return self._advance(data, self._measure_tail(data)) if chunk else b""

    def finish(self) -> bytes:
        """Return the tail: the stream is over, so it is not the beginning of a secret."""
        return self._advance(self._tail, 0) if self._tail else b""

    def _advance(self, data: bytes, keep: int) -> bytes:
        border = len(data) - keep
        out = bytearray(data[:border])
        out[: self._tail_masked] = MASK * min(self._tail_masked, border)
        masked = max(self._tail_masked - border, 0)
        for start, end in self._find_spans(data):
            if start < border:
                out[start : min(end, border)] = MASK * (min(end, border) - start)
                masked = max(masked, end - border)
        self._tail = data[border:]
        self._tail_masked = masked
        return bytes(out)


class Redactor(Blotter):
    """One answer's redaction."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(wanted.secrets.find_spans, wanted.secrets.measure_beginning)


def redact_value(value: bytes, wanted: Wanted) -> bytes:
    """Return one header value with every secret blotted out, whole in one piece."""
    redactor = Redactor(wanted)
    return redactor.feed(value) + redactor.finish()
