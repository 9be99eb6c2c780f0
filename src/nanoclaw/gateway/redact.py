"""Secrets are blotted out of what comes back, also where a border between chunks cuts one in two.

In: chunks of an upstream's answer. Out: the same number of bytes, every occurrence of a secret replaced by `*`.
Never: holds back more than a tail that could be the beginning of a secret, so a stream of events stays live.
"""

from __future__ import annotations

from collections.abc import Iterable

MASK = b"*"


class Redactor:
    """One stream's redaction; `feed` chunks in order, then `finish`."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = tuple({secret for secret in secrets if secret})
        self._tail = b""  # as it came, held back
        self._tail_masked = 0  # how many of its first bytes belong to a secret that began before it

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be passed on of the tail and this chunk."""
        return self._advance(self._tail + chunk, hold=True)

    def finish(self) -> bytes:
        """Return the tail: the stream is over, so it is not the beginning of a secret."""
        return self._advance(self._tail, hold=False)

    def _advance(self, data: bytes, *, hold: bool) -> bytes:
        spans = self._find_spans(data)
        keep = self._partial_length(data) if hold else 0
        border = len(data) - keep
        out = bytearray(data[:border])
        out[: self._tail_masked] = MASK * min(self._tail_masked, border)
        masked = max(self._tail_masked - border, 0)
        for start, end in spans:
            if start < border:
                out[start : min(end, border)] = MASK * (min(end, border) - start)
                masked = max(masked, end - border)
        self._tail = data[border:]
        self._tail_masked = masked
        return bytes(out)

    def _find_spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return where secrets lie, overlapping ones too."""
        spans: list[tuple[int, int]] = []
        for secret in self._secrets:
            start = data.find(secret)
            while start >= 0:
                spans.append((start, start + len(secret)))
                start = data.find(secret, start + 1)
        return spans

    def _partial_length(self, data: bytes) -> int:
        """Return the length of the longest tail that is the beginning, but not the whole, of a secret."""
        longest = 0
        for secret in self._secrets:
            start = data.find(secret[:1], max(len(data) - len(secret) + 1, 0))
            while start >= 0:
                if secret.startswith(data[start:]):
                    longest = max(longest, len(data) - start)
                    break
                start = data.find(secret[:1], start + 1)
        return longest


def redact_value(value: bytes, secrets: Iterable[bytes]) -> bytes:
    """Return one header value with every secret blotted out, whole in one piece."""
    redactor = Redactor(secrets)
    return redactor.feed(value) + redactor.finish()
