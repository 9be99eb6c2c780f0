"""How much a run may say: a box that floods its chat, or the host's disk through it, is at fault.

The file of a mailbox is bounded, but a box can delete rows and write more (run: 34,000 messages in 50 s, all kept).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from nanoclaw.errors import AgentFault
from nanoclaw.sandbox.wire import OutChat, OutMessage

MESSAGES_AT_ONCE = 1000
MESSAGES_PER_SECOND = 1.0
BYTES_AT_ONCE = 64 * 1024 * 1024
BYTES_PER_SECOND = 16 * 1024.0


@dataclass(slots=True)
class _Bucket:
    """Holds `most`, and wins `per_second` back."""

    most: float
    per_second: float
    left: float
    filled_at: float

    def take(self, amount: float, now: float) -> bool:
        """Take what was used; whether there was so much."""
        self.left = min(self.most, self.left + (now - self.filled_at) * self.per_second)
        self.filled_at = now
        self.left -= amount
        return self.left >= 0


def _bucket(most: float, per_second: float) -> _Bucket:
    return _Bucket(most, per_second, most, time.monotonic())


@dataclass(slots=True)
class Allowance:
    """What one run may still say."""

    _messages: _Bucket = field(default_factory=lambda: _bucket(MESSAGES_AT_ONCE, MESSAGES_PER_SECOND))
    _bytes: _Bucket = field(default_factory=lambda: _bucket(BYTES_AT_ONCE, BYTES_PER_SECOND))

    def take(self, messages: int, size: int) -> None:
        """Count what a run said just now. Raises AgentFault when it is too much."""
        now = time.monotonic()
        if not self._messages.take(messages, now):
            raise AgentFault(f"the agent sent more than {MESSAGES_AT_ONCE} messages in a row")
        if not self._bytes.take(size, now):
            raise AgentFault(f"the agent sent more than {BYTES_AT_ONCE // (1024 * 1024)} MiB of text in a row")


def weigh(message: OutMessage) -> int:
    """Return the length of what a message carries, in characters."""
    return len(message.body.text if isinstance(message.body, OutChat) else message.body.arguments)
