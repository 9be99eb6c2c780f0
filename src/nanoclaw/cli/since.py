"""How far back a command looks: `12h`, `7d`, `4w`, `today`, `month`, a date, or `all`."""

from __future__ import annotations

import re
from datetime import date, datetime, time

import click

from nanoclaw.admin.table import find_zone

_SPAN = re.compile(r"([0-9]{1,4})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}


def parse_since(text: str, now: int, timezone: str) -> int:
    """Return a time in epoch milliseconds; days are those of `timezone`. Raises UsageError."""
    if text == "all":
        return 0
    zone = find_zone(timezone)
    today = datetime.fromtimestamp(now / 1000, zone).date()
    if found := _SPAN.fullmatch(text):
        return max(0, now - int(found[1]) * _HOURS[found[2]] * 3_600_000)
    if text == "today":
        start = today
    elif text == "month":
        start = today.replace(day=1)
    else:
        try:
            start = date.fromisoformat(text)
        except ValueError:
            raise click.UsageError(f"--since {text}: say 12h, 7d, 4w, today, month, 2026-01-31 or all") from None
    return round(datetime.combine(start, time.min, zone).timestamp() * 1000)
