"""What money costs in time does not grow with what was spent: a million calls in the ledger, one more call.

Twenty agents at work day and night for 23 days, which are 44,000 sums. (With 140 pairs of agent and person in every
quarter of an hour, 311,000 sums, a start took 0.4 to 0.7 s on two busy cores.)
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import UTC
from pathlib import Path

import pytest

from nanoclaw.gateway.accounts import find_bounds
from nanoclaw.gateway.cashier import open_purse
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.policy import Caller, Rule
from nanoclaw.gateway.spending import Account, Budget, Period, Planned, Reservation, Scope
from nanoclaw.gateway.usage import Usage
from nanoclaw.testing.fakes import ManualClock

ROWS = 1_000_000
OPEN_SECONDS = 0.5
RESERVE_SECONDS = 0.0002
MODEL = Rule("model", "api.anthropic.com", model="anthropic")
BODY = b'{"model":"claude-sonnet-4-5","max_tokens":100,"messages":[]}'
FILL = """
INSERT INTO usage (call, at, session, fence, agent_group, folder, charge, host, model, input_tokens, output_tokens,
                   cache_read_tokens, cache_write_tokens, cost_micros, estimated)
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
SELECT i, :start + i * 2000, 's', 1, 'G' || (i % 20), 'f' || (i % 20), 'U' || (i % 20 % 7), 'api.anthropic.com',
       'claude-x', 10, 5, 100, 0, 3, 0
FROM n
"""
SUM_UP = """
INSERT INTO spending SELECT at / 900000, agent_group, folder, charge, host, model, count(*), 0, sum(input_tokens),
  sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(cost_micros)
FROM usage GROUP BY 1, 2, 3, 4, 5, 6
"""


@pytest.mark.ci  # writes a million rows: 10 s
def test_with_a_million_calls_in_the_ledger_a_start_and_a_reservation_stay_quick(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "ledger.db"
    Ledger(path, clock).open()
    start, _ = find_bounds(clock.now_ms(), Period.MONTH, UTC)  # the calls below fill 23 days of it
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(FILL, {"rows": ROWS, "start": start})
        connection.execute(SUM_UP)
        connection.commit()
    clock.advance((start - clock.now_ms()) / 1000 + ROWS * 2)

    ledger = Ledger(path, clock)
    began = time.perf_counter()
    ledger.open()
    purse = open_purse(ledger, clock)
    opened = time.perf_counter() - began
    account = Account(Scope.GROUP, "f3")
    purse.set_budgets([Budget(account, period, 10**12, 10**12) for period in Period])
    assert purse.accounts.spent(account, Period.MONTH).micros > 0
    planned = Planned(Caller("s", 1, "G3", "f3"), "U3", MODEL, BODY, len(BODY))

    def once() -> float:
        began = time.perf_counter()
        reservation = purse.reserve(planned)
        took = time.perf_counter() - began
        assert isinstance(reservation, Reservation)
        purse.settle(reservation, Usage("claude-sonnet-4-5", 10, 5), 200, 60)
        return took

    took = sorted(once() for _ in range(1000))
    ledger.close()
    assert opened < OPEN_SECONDS
    assert took[500] < RESERVE_SECONDS
    print(f"opened in {opened * 1000:.0f} ms, reserved in {took[500] * 1e6:.0f} us (median of 1000)")
