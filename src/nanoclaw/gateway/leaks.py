"""Nothing secret goes out: known secrets and well-known shapes of tokens in URL, headers and body stop a call.

In: a request as it would go out, before its own secret is put on. Out: what may be sent, and what was found in words.
Never: tells the value, or which secret of the vault it is (the agent would learn that it has guessed one).
The end of what has come waits until no token can reach over it, so no whole secret leaves before the call is stopped.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from nanoclaw.gateway.inject import Headers
from nanoclaw.gateway.needles import Span
from nanoclaw.gateway.redact import Blotter
from nanoclaw.gateway.shapes import LONGEST
from nanoclaw.gateway.target import Target
from nanoclaw.gateway.wanted import Wanted

BATCH_BYTES = 32 * 1024  # what is looked through at once: a client that sends byte by byte costs no more
KNOWN = "a secret that NanoClaw keeps"


class LeakScanner:
    """Looks for secrets in one request: its head, then its body piece by piece.

    `mask`: calls to a model are not stopped but go out with each secret blotted out, same length: a conversation in
    which a person once pasted a key would otherwise never get another answer.
    """

    def __init__(self, wanted: Wanted, *, mask: bool) -> None:
        self._secrets = wanted.secrets
        self._shapes = wanted.shapes
        self._mask = mask
        self._keep = max(wanted.secrets.longest, LONGEST)
        self._batch = bytearray()
        self._found: str | None = None
        self._blotter = Blotter(self._find_spans, lambda data: min(len(data), self._keep))

    def find_in_head(self, target: Target, headers: Headers) -> str | None:
        """Return what kind of secret the URL or a header holds (never the secret), None when there is none."""
        url = f"{target.method} {target.host}\n{target.path}?{target.query}".encode("latin-1", "replace")
        fields = b"\n".join(b"%s: %s" % field for field in headers)
        decoded = unquote_to_bytes(url), unquote_to_bytes(url.replace(b"+", b" "))  # a plus is itself, or a blank
        return self._name(b"\n".join((url, *decoded, fields)))

    def feed(self, piece: bytes) -> tuple[bytes, str | None]:
        """Return what may go out of the tail and this piece, and what was found (None: nothing, or it was masked)."""
        self._batch += piece
        if len(self._batch) < BATCH_BYTES:
            return b"", None
        passed = self._blotter.feed(bytes(self._batch))
        self._batch.clear()
        return self._judge(passed)

    def finish(self) -> tuple[bytes, str | None]:
        """Return the rest, and what was found in it."""
        passed = self._blotter.feed(bytes(self._batch)) + self._blotter.finish()
        self._batch.clear()
        return self._judge(passed)

    def _judge(self, passed: bytes) -> tuple[bytes, str | None]:
        return (b"", self._found) if self._found is not None and not self._mask else (passed, None)

    def _find_spans(self, data: bytes) -> list[Span]:
        spans = self._secrets.find_spans(data)
        if spans:
            self._found = KNOWN
        for span, what in self._shapes.find(data):
            self._found = self._found or f"what looks like {what}"
            spans.append(span)
        return spans

    def _name(self, data: bytes) -> str | None:
        if self._secrets.find_spans(data):
            return KNOWN
        return next((f"what looks like {what}" for _, what in self._shapes.find(data)), None)
