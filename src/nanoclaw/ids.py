"""Ids: ULIDs that never go back, so that their order is the order in which they were made."""

from __future__ import annotations

import secrets
import threading

from ulid import ULID

from nanoclaw.clock import Clock

RANDOM_BITS = 80
STEP_BITS = 40  # the step over a clock that stands still: random, for the life before may have made ids after `floor`


class UlidSource:
    """Makes monotone ULIDs, also within a millisecond, over a clock set back, and after `floor`."""

    def __init__(self, clock: Clock, floor: str = "") -> None:
        self._clock = clock
        self._last = int(ULID.from_str(floor)) if floor else 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """Return an id greater than every one before."""
        with self._lock:
            fresh = self._clock.now_ms() << RANDOM_BITS | secrets.randbits(RANDOM_BITS - 1)
            self._last = max(fresh, self._last + 1 + secrets.randbits(STEP_BITS))
            return str(ULID.from_int(self._last))
