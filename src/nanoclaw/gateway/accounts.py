"""Who has spent what today and this month, and what is set aside for calls under way: sums in memory.

In: sums of the ledger at the start, then every call. Out: an account's figures, at once. Never: asks the ledger for a
call. Days and months are those of the operator's time zone; when one ends its sums begin again at nothing, while what
is set aside stays so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nanoclaw.gateway.spending import Account, Amount, Period, Scope

EVERYTHING = Account(Scope.ALL)


NOTHING = Amount()
Sums = defaultdict[Account, Amount]


def accounts_of(folder: str, charge: str) -> tuple[Account, ...]:
    """Return the accounts that a call of an agent group's counts on; a task (`task:ID`) is nobody's own money."""
    person = () if not charge or charge.startswith("task:") else (Account(Scope.PERSON, charge),)
    return (EVERYTHING, Account(Scope.GROUP, folder), *person)


@dataclass(slots=True)
class _Span:
    """The present day or month and what was spent in it."""

    period: Period
    start: int = 0
    end: int = 0
    spent: Sums = field(default_factory=lambda: defaultdict(Amount))


class Accounts:
    """Every account's sums."""

    def __init__(self, now: int, timezone: str) -> None:
        self.timezone = timezone
        self._zone = find_zone(timezone)
        self._spans = {period: _Span(period) for period in Period}
        self._held: Sums = defaultdict(Amount)
        self.roll(now)

    def start_of(self, period: Period) -> int:
        """Return when the present day or month began, in epoch milliseconds."""
        return self._spans[period].start

    def end_of(self, period: Period) -> int:
        """Return when it ends."""
        return self._spans[period].end

    def set_zone(self, timezone: str, now: int) -> None:
        """Count by another time zone; the sums are to be loaded again."""
        self.timezone = timezone
        self._zone = find_zone(timezone)
        for span in self._spans.values():
            span.end = 0
        self.roll(now)

    def load(self, period: Period, sums: Iterable[tuple[str, str, int, int]]) -> None:
        """Take over what the ledger says was spent since `start_of`: (folder, charge, micros, tokens)."""
        span = self._spans[period]
        span.spent.clear()
        for folder, charge, micros, tokens in sums:
            _add(span.spent, accounts_of(folder, charge), Amount(micros, tokens))

    def roll(self, now: int) -> None:
        """Begin a new day or month when the present one is over."""
        for span in self._spans.values():
            if now >= span.end:
                span.start, span.end = find_bounds(now, span.period, self._zone)
                span.spent.clear()

    def spent(self, account: Account, period: Period) -> Amount:
        """Return what was spent in the present day or month."""
        return self._spans[period].spent.get(account, NOTHING)

    def held(self, account: Account) -> Amount:
        """Return what is set aside for calls under way."""
        return self._held.get(account, NOTHING)

    def hold(self, accounts: Iterable[Account], amount: Amount) -> None:
        """Set aside."""
        _add(self._held, accounts, amount)

    def settle(self, accounts: tuple[Account, ...], held: Amount, spent: Amount, now: int) -> None:
        """Give back what was set aside and count what was spent."""
        self.roll(now)
        for account in accounts:
            self._held[account] -= held
            if self._held[account] == NOTHING:
                del self._held[account]
        for span in self._spans.values():
            _add(span.spent, accounts, spent)


def _add(sums: Sums, accounts: Iterable[Account], amount: Amount) -> None:
    for account in accounts:
        sums[account] += amount


def find_bounds(now: int, period: Period, zone: tzinfo) -> tuple[int, int]:
    """Return when the day or month of a moment began and when it ends, all in epoch milliseconds."""
    local = datetime.fromtimestamp(now / 1000, zone)
    start = datetime(local.year, local.month, local.day if period is Period.DAY else 1, tzinfo=zone)
    if period is Period.DAY:
        end = datetime.combine(start.date() + timedelta(days=1), time.min, zone)
    else:
        end = datetime(local.year + local.month // 12, local.month % 12 + 1, 1, tzinfo=zone)
    return round(start.timestamp() * 1000), round(end.timestamp() * 1000)


def find_zone(name: str) -> tzinfo:
    """Return a time zone, UTC where this system does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
