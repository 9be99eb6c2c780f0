"""How often a rule may be used: calls in a sliding window, for each agent group. In memory: a restart forgets."""

from __future__ import annotations

from collections import deque

from nanoclaw.clock import Clock
from nanoclaw.gateway.policy import Deny, Rule


class Rates:
    """The calls of the last while, by agent group and rule."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[tuple[str, str, str], deque[float]] = {}

    def take(self, folder: str, rule: Rule) -> Deny | None:
        """Count a call now, or say why it may not be made now."""
        if rule.rate is None:
            return None
        now = self._clock.monotonic()
        calls = self._calls.setdefault((folder, rule.group, rule.name), deque())
        while calls and calls[0] <= now - rule.rate.seconds:
            calls.popleft()
        if len(calls) >= rule.rate.calls:
            wait = round(calls[0] + rule.rate.seconds - now) + 1
            most = "1 call" if rule.rate.calls == 1 else f"{rule.rate.calls} calls"
            return Deny(
                "rate", f"The rule {rule.name!r} allows {most} in {rule.rate.seconds} s. Try again in {wait} s."
            )
        calls.append(now)
        return None
