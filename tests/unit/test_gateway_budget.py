"""A budget holds: calls at once, crashes and midnight do not let more through than it says."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.accounts import EVERYTHING, Accounts, accounts_of, find_bounds
from nanoclaw.gateway.audit_row import Entry, Event
from nanoclaw.gateway.budget import HELD, SPENT, Purse
from nanoclaw.gateway.cashier import open_purse
from nanoclaw.gateway.forecast import forecast
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.policy import Caller, Deny, Rule
from nanoclaw.gateway.prices import Price, PriceTable
from nanoclaw.gateway.spending import (
    Account,
    Amount,
    Budget,
    Period,
    Planned,
    Reservation,
    Scope,
    Spent,
    explain_spent,
    show_money,
)
from nanoclaw.gateway.usage import Usage
from nanoclaw.testing.fakes import ManualClock

BOX = Caller("s1", 1, "G1", "main")
MODEL = Rule("model", "api.anthropic.com", model="anthropic")
MAIN = Account(Scope.GROUP, "main")
DOLLAR = 1_000_000
PRICE = Price("m", DOLLAR, DOLLAR, DOLLAR, DOLLAR, DOLLAR)  # a millionth of a dollar for a token


def purse_with(*budgets: Budget, clock: ManualClock | None = None, timezone: str = "UTC") -> Purse:
    clock = clock or ManualClock()
    purse = Purse(clock, Accounts(clock.now_ms(), timezone), PriceTable([PRICE]))
    purse.set_budgets(budgets)
    return purse


def daily(micros: int | None = None, tokens: int | None = None, account: Account = MAIN) -> Budget:
    return Budget(account, Period.DAY, micros, tokens)


def call(output: int = 100, charge: str = "U1", caller: Caller = BOX, rule: Rule = MODEL, path: str = "/v1") -> Planned:
    """Plan a call that may cost `output` + 12 millionths of a dollar."""
    body = b'{"model":"m","max_tokens":%d}' % output
    return Planned(caller, charge, rule, body.ljust(36), len(body), path=path)


def reserved(purse: Purse, planned: Planned) -> Reservation:
    found = purse.reserve(planned)
    assert isinstance(found, Reservation), found
    return found


def refused(purse: Purse, planned: Planned) -> Deny:
    found = purse.reserve(planned)
    assert isinstance(found, Deny)
    return found


def spend(purse: Purse, micros: int, planned: Planned | None = None) -> None:
    purse.settle(reserved(purse, planned or call(1)), Usage("m", micros), 200, 10)


def test_what_a_call_may_cost_is_set_aside_and_put_right_when_it_ends() -> None:
    purse = purse_with(daily(1000))
    reservation = reserved(purse, call(100))
    assert purse.accounts.held(MAIN) == Amount(112, 112)
    spent = purse.settle(reservation, Usage("m", 5, 6), 200, 36)
    assert spent is not None and (spent.cost_micros, spent.estimated) == (11, False)
    assert purse.accounts.held(MAIN) == Amount()
    assert [purse.accounts.spent(a, Period.DAY).micros for a in accounts_of("main", "U1")] == [11, 11, 11]


def test_the_limit_that_is_proposed_leaves_room_also_when_far_more_than_the_old_one_is_spent() -> None:
    tokens = explain_spent(Budget(MAIN, Period.DAY, None, 10), Amount(0, 139_747), "UTC")
    assert "139,747 of 10 tokens" in tokens and "--group main --day-tokens 279494`" in tokens
    money = explain_spent(Budget(MAIN, Period.MONTH, DOLLAR, None), Amount(40_001_234, 7), "UTC")
    assert "$40.00 of $1.00" in money and "--group main --month 80.01`" in money


def test_a_call_is_refused_before_it_is_made_once_the_budget_is_spent() -> None:
    purse = purse_with(daily(5 * DOLLAR), timezone="Europe/Berlin")
    spend(purse, 5 * DOLLAR)
    denied = refused(purse, call())
    assert denied == Deny(
        SPENT,
        "The budget of main for today is spent: $5.00 of $5.00. It opens again at midnight (Europe/Berlin); an admin "
        "can raise it with `nanoclaw cost limit --group main --day 10`.",
    )


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(EVERYTHING, Period.MONTH, 2_500_000, None), "of all agents together for this month is spent: $2.50 of"),
        (Budget(EVERYTHING, Period.MONTH, 2_500_000, None), "on the first of next month (UTC)"),
        (Budget(EVERYTHING, Period.MONTH, 2_500_000, None), "`nanoclaw cost limit --all --month 5`"),
        (Budget(Account(Scope.PERSON, "U1"), Period.DAY, 2_000, None), "of the person who asked for today is spent"),
        (Budget(Account(Scope.PERSON, "U1"), Period.DAY, 2_000, None), "--person U1 --day 5`"),
        (daily(tokens=1_000_000), "is spent: 2,500,000 of 1,000,000 tokens"),
        (daily(tokens=1_000_000), "--group main --day-tokens 5000000`"),
        (daily(10 * DOLLAR, 1_000_000), "2,500,000 of 1,000,000 tokens"),
        (daily(0), "$2.50 of $0.00"),
    ],
)
def test_a_refusal_says_which_budget_it_is_and_what_raises_it(budget: Budget, words: str) -> None:
    purse = purse_with()
    spend(purse, 2_500_000)
    purse.set_budgets([budget])
    assert words in refused(purse, call()).reason


def test_a_budget_of_nothing_lets_nothing_through() -> None:
    assert refused(purse_with(daily(0)), call()).rule == SPENT


def test_calls_at_once_never_have_more_than_the_budget_between_them() -> None:
    purse = purse_with(daily(300))
    first, second = reserved(purse, call(100)), reserved(purse, call(100))
    denied = refused(purse, call(100))
    assert denied.rule == HELD and "set aside for calls under way" in denied.reason
    purse.settle(first, Usage("m", 1), 200, 10)
    third = reserved(purse, call(100))
    for reservation in (second, third):
        purse.settle(reservation, Usage("m", 112), 200, 10)
    assert purse.accounts.spent(MAIN, Period.DAY).micros == 225


def test_a_call_alone_may_use_up_what_is_left() -> None:
    """A budget that is smaller than the most one call could cost would else be no use at all."""
    purse = purse_with(daily(50))
    alone = reserved(purse, call(100))
    assert refused(purse, call(1)).rule == HELD
    purse.settle(alone, Usage("m", 50), 200, 10)
    assert refused(purse, call(1)).rule == SPENT


def test_another_group_and_another_person_have_budgets_of_their_own() -> None:
    purse = purse_with(daily(10), daily(10, account=Account(Scope.PERSON, "U1")))
    spend(purse, 20)
    other = Caller("s2", 1, "G2", "other")
    assert refused(purse, call(1, charge="U2")).rule == SPENT
    assert "the person" in refused(purse, call(1, caller=other)).reason
    reserved(purse, call(1, "U2", other))


def test_a_task_is_charged_to_its_agent_and_to_all_but_to_no_person() -> None:
    assert accounts_of("main", "task:T1") == (EVERYTHING, MAIN)
    assert accounts_of("main", "") == (EVERYTHING, MAIN)


def test_no_budget_wants_no_body_and_reserves_nothing() -> None:
    purse = purse_with(daily(10))
    assert purse.wants_body(BOX, "U2")
    other = Caller("s2", 1, "G2", "other")
    assert not purse.wants_body(other, "U1")
    assert reserved(purse, call(100, caller=other)).amount == Amount()


@pytest.mark.parametrize(
    "planned",
    [
        Planned(BOX, "U1", Rule("web", "example.org"), b"", 0),
        Planned(BOX, "U1", MODEL, b"", 0, method="GET", path="/v1/models"),
        Planned(BOX, "U1", MODEL, b"", 0, path="/v1/messages/count_tokens"),
    ],
)
def test_what_costs_nothing_goes_when_a_budget_is_spent(planned: Planned) -> None:
    purse = purse_with(daily(0, 0))
    assert purse.settle(reserved(purse, planned), Usage("m", 5), 200, 10) is None


def test_the_rehearsal_and_a_local_model_cost_no_money_but_tokens() -> None:
    local = Rule("ollama", "ollama.internal", model="openai", allow_private=True)
    rehearsal = Planned(BOX, "U1", MODEL, b"", 9, rehearsed=True)
    at_home = Planned(BOX, "U1", local, b'{"model":"llama"}', 17)
    for planned in (rehearsal, at_home):
        purse = purse_with(daily(0, 20))
        spent = purse.settle(reserved(purse, planned), Usage("llama", 20), 200, 10)
        assert spent is not None and (spent.cost_micros, spent.estimated) == (0, False)
        assert "20 of 20 tokens" in refused(purse, planned).reason
    priced = Planned(BOX, "U1", local, b'{"model":"m"}', 13)
    purse = purse_with(daily(10))
    spent = purse.settle(reserved(purse, priced), Usage("m", 20), 200, 10)
    assert spent is not None and spent.cost_micros == 20


def test_an_answer_that_refuses_costs_nothing_and_no_answer_costs_what_was_sent() -> None:
    purse = purse_with(daily(1000))
    for status, sent in ((429, 36), (500, 36), (0, 0)):
        spent = purse.settle(reserved(purse, call()), Usage(output_tokens=3, estimated=True), status, sent)
        assert spent is not None and (spent.cost_micros, spent.estimated, spent.usage.tokens) == (0, False, 0)
    spent = purse.settle(reserved(purse, call()), Usage(), 0, 36)
    assert spent is not None and (spent.cost_micros, spent.estimated, spent.usage.model) == (12, True, "m")


def test_an_unknown_model_is_estimated_by_the_dearest_one() -> None:
    purse = purse_with()
    spent = purse.settle(reserved(purse, call()), Usage("claude-unheard-of", 100, 0), 200, 10)
    assert spent is not None and (spent.cost_micros, spent.estimated) == (1500, True)


def test_a_day_ends_at_the_operators_midnight_and_the_month_goes_on() -> None:
    clock = ManualClock()
    clock.advance((datetime(2026, 3, 28, 22, 59, tzinfo=ZoneInfo("UTC")).timestamp() * 1000 - clock.now_ms()) / 1000)
    purse = purse_with(daily(10), Budget(MAIN, Period.MONTH, 100, None), clock=clock, timezone="Europe/Berlin")
    spend(purse, 10)
    assert "for today" in refused(purse, call()).reason
    clock.advance(60)
    spend(purse, 90)
    assert "for today" in refused(purse, call()).reason
    clock.advance(23 * 3600)  # that day has 23 hours
    assert "for this month" in refused(purse, call()).reason
    clock.advance(3 * 24 * 3600)
    reserved(purse, call())


def test_what_is_set_aside_over_midnight_counts_on_the_day_on_which_it_ends() -> None:
    clock = ManualClock()
    purse = purse_with(daily(1000), clock=clock)
    reservation = reserved(purse, call())
    clock.advance(24 * 3600)
    refused(purse, call(5000))
    purse.settle(reservation, Usage("m", 7), 200, 10)
    assert purse.accounts.spent(MAIN, Period.DAY) == Amount(7, 7)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"])
def test_every_midnight_is_at_a_quarter_of_an_hour(name: str) -> None:
    """The ledger keeps sums by quarters of an hour, so that days of every time zone can be made of them."""
    start = round(datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")).timestamp() * 1000)
    for _ in range(366):
        begin, end = find_bounds(start, Period.DAY, ZoneInfo(name))
        assert begin <= start < end and begin % 900_000 == 0
        start = end


def test_money_is_shown_in_cents_and_small_amounts_as_exactly_as_it_takes() -> None:
    amounts = (0, 1, 1500, 10_000, 5_000_000, 1_234_567_890)
    assert [show_money(a) for a in amounts] == ["$0.00", "$0.000001", "$0.0015", "$0.01", "$5.00", "$1,234.57"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "end", "break", "crash"]), st.integers(0, 400), st.sampled_from(["U1", "U2"])),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 1500))
def test_calls_at_once_and_crashes_never_spend_more_than_the_budget_and_one_call(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, str]], limit: int
) -> None:
    """Answers use at most what was reserved for them. One call, alone, may have used up the rest."""
    clock, path = ManualClock(), tmp_path_factory.mktemp("ledger") / "ledger.db"
    till = Till(path, clock, limit)
    for what, size, charge in steps:
        if what == "ask":
            till.ask(call(size, charge))
        elif what == "crash":
            till.crash()
        elif till.open:
            till.end(size, breaks=what == "break")
    till.check()
    till.crash()
    till.check()
    till.ledger.close()


class Till:
    """A purse and its ledger, as the gateway uses them, killed now and then."""

    def __init__(self, path: Path, clock: ManualClock, limit: int) -> None:
        self.path, self.clock, self.limit = path, clock, limit
        self.open: list[tuple[int, Reservation]] = []
        self.overdraft = 0
        self._start()

    def _start(self) -> None:
        self.ledger = Ledger(self.path, self.clock)
        self.ledger.open()
        self.purse = open_purse(self.ledger, self.clock)
        self.purse.prices.set_own([PRICE])
        self.purse.set_budgets([daily(self.limit)])

    def ask(self, planned: Planned) -> None:
        reservation = self.purse.reserve(planned)
        if isinstance(reservation, Deny):
            return
        if not self.open:
            left = self.limit - self.purse.accounts.spent(MAIN, Period.DAY).micros
            self.overdraft = max(self.overdraft, reservation.cost_micros - left)
        entry = Entry(Event.ALLOWED, BOX, charge=planned.charge)
        number = asyncio.run(self.ledger.record(entry, reservation))
        self.open.append((number, reservation))

    def end(self, size: int, *, breaks: bool) -> None:
        number, reservation = self.open.pop(size % len(self.open))
        output = min(size, reservation.output_tokens)
        usage = Usage() if breaks else Usage("m", min(size, reservation.input_tokens), output)
        spent = self.purse.settle(reservation, usage, 0 if breaks else 200, 36)
        assert isinstance(spent, Spent)
        entry = Entry(Event.FINISHED, BOX, charge=reservation.planned.charge, call=number)
        self.ledger.submit(entry, spent).result(5)

    def crash(self) -> None:
        """End without a word: what is open was never settled."""
        self.ledger.close()
        self.open.clear()
        self._start()

    def check(self) -> None:
        spent = self.purse.accounts.spent(MAIN, Period.DAY).micros
        assert spent <= self.limit + self.overdraft
        assert spent == sum(used.cost_micros for used in self.ledger.list_usage())
        people = (self.purse.accounts.spent(Account(Scope.PERSON, name), Period.DAY).micros for name in ("U1", "U2"))
        assert sum(people) == spent == self.purse.accounts.spent(EVERYTHING, Period.DAY).micros
        assert self.ledger.verify().broken_at is None


def test_a_request_too_deep_to_be_read_is_counted_by_its_length() -> None:
    deep = b'{"model":"m","max_tokens":10,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    found = forecast(deep, len(deep))
    assert (found.model, found.output_tokens, found.input_tokens > 60_000) == ("m", 10, True)


def test_each_of_several_answers_to_one_request_is_set_aside() -> None:
    assert forecast(b'{"model":"m","max_tokens":10,"n":3}', None).output_tokens == 30
    assert forecast(b'{"model":"m","max_tokens":10,"n":-3}', None).output_tokens == 10


def test_an_account_with_nothing_set_aside_is_forgotten() -> None:
    purse = purse_with(daily(1000, account=EVERYTHING))
    for number in range(10):
        purse.settle(reserved(purse, call(charge=f"U{number}")), Usage("m", 0), 400)
    assert purse.accounts._held == {}


def test_a_method_in_small_letters_is_paid_for_as_some_servers_take_it_for_the_same() -> None:
    purse = purse_with(daily(1000))
    spend(purse, 1000)
    assert refused(purse, dataclasses.replace(call(), method="post")).rule == SPENT
