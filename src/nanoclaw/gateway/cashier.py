"""The operator's side of money: limits and prices are set, what was spent is shown, and a purse is filled at the start.

In: requests of the admin socket (admin_words.py). Out: what they are answered by. Writes: the ledger, an audit row for
every change. Never: changes what was spent. Fails: OperatorError in plain words for what makes no sense.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import assert_never

from nanoclaw.clock import Clock
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words
from nanoclaw.gateway.accounts import Accounts, find_zone
from nanoclaw.gateway.audit_row import Entry, Event
from nanoclaw.gateway.budget import Purse
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.ledger_read import QUARTER_MS
from nanoclaw.gateway.policy import Caller
from nanoclaw.gateway.prices import Price, PriceTable, plain_name
from nanoclaw.gateway.spending import Account, Budget, Period, Scope, show_money

MOST_MICROS = 10**15  # a billion dollars: whoever means more means no limit
REPORTS = {
    "group": "list_spending_by_group",
    "person": "list_spending_by_charge",
    "task": "list_spending_by_charge",
    "model": "list_spending_by_model",
    "day": "list_spending_by_quarter",
}

MoneyRequest = (
    admin_words.BudgetSet
    | admin_words.BudgetRemove
    | admin_words.BudgetList
    | admin_words.PriceSet
    | admin_words.PriceRemove
    | admin_words.PriceList
    | admin_words.CostReport
)


def open_purse(ledger: Ledger, clock: Clock, timezone: str = "UTC") -> Purse:
    """Return a purse that knows the ledger's limits, prices and sums. Blocking."""
    purse = Purse(clock, Accounts(clock.now_ms(), timezone), PriceTable(_read_prices(ledger)))
    purse.set_budgets(_read_budgets(ledger))
    _load_sums(ledger, purse.accounts)
    return purse


def _read_budgets(ledger: Ledger) -> list[Budget]:
    return [
        Budget(Account(Scope(scope), name), Period(period), micros, tokens)
        for scope, name, period, micros, tokens in ledger.read("list_budgets")
    ]


def _read_prices(ledger: Ledger) -> list[Price]:
    return [Price(*row) for row in ledger.read("list_prices")]


def _load_sums(ledger: Ledger, accounts: Accounts) -> None:
    for period in Period:
        accounts.load(period, ledger.read("sum_spending", since=accounts.start_of(period) // QUARTER_MS))


class Cashier:
    """What an operator may do about money."""

    def __init__(self, ledger: Ledger, purse: Purse, clock: Clock) -> None:
        self._ledger = ledger
        self._purse = purse
        self._clock = clock

    def set_timezone(self, name: str) -> None:
        """Count days and months by this time zone. The host says it before its first box; sums are read anew."""
        if name != self._purse.accounts.timezone:
            self._purse.accounts.set_zone(name, self._clock.now_ms())
            _load_sums(self._ledger, self._purse.accounts)

    async def perform(self, request: MoneyRequest, uid: int) -> object:
        """Do what an operator asks and return the answer; a change is written down with who made it."""
        match request:
            case admin_words.BudgetSet():
                await self.set_budget(request)
                await self._note("cost.limit", f"{_whose(request)}: {_limits(request)}", uid)
                return True
            case admin_words.BudgetRemove(period=period):
                removed = await self.remove_budget(request)
                await self._note("cost.nolimit", f"{_whose(request)} {period}", uid)
                return removed
            case admin_words.BudgetList():
                return self.list_budgets()
            case admin_words.PriceSet(model=model):
                await self.set_price(request)
                await self._note("cost.price", f"{model}: {request.input} in, {request.output} out", uid)
                return True
            case admin_words.PriceRemove(model=model):
                await self.remove_price(model)
                await self._note("cost.noprice", model, uid)
                return True
            case admin_words.PriceList():
                return self.list_prices()
            case admin_words.CostReport(by=by, since=since):
                return await asyncio.to_thread(self.report, by, since)
            case _:
                assert_never(request)

    async def set_budget(self, request: admin_words.BudgetSet) -> None:
        """Set an account's limits, in force at once."""
        account = _account(request.scope, request.name)
        limits = {
            Period.DAY: (request.day_micros, request.day_tokens),
            Period.MONTH: (request.month_micros, request.month_tokens),
        }
        given = [value for pair in limits.values() for value in pair if value is not None]
        if not given:
            raise OperatorError("No limit was given: say --day, --month, --day-tokens or --month-tokens.")
        if not all(0 <= value <= MOST_MICROS for value in given):
            raise OperatorError("A limit is a number from 0 on, and no more than a billion.")
        for period, (micros, tokens) in limits.items():
            if micros is not None or tokens is not None:
                row = {"scope": account.scope.value, "name": account.name, "period": period.value}
                await self._ledger.change("set_budget", **row, micros=micros, tokens=tokens)
        await self._reload_budgets()

    async def remove_budget(self, request: admin_words.BudgetRemove) -> int:
        """Take an account's limits away and return how many there were."""
        account = _account(request.scope, request.name)
        removed = 0
        for period in [Period(request.period)] if request.period else list(Period):
            row = {"scope": account.scope.value, "name": account.name, "period": period.value}
            removed += await self._ledger.change("remove_budget", **row)
        await self._reload_budgets()
        return removed

    def list_budgets(self) -> list[admin_words.BudgetLine]:
        """Return every limit and how it stands."""
        accounts = self._purse.accounts
        accounts.roll(self._clock.now_ms())
        return [self._budget_line(budget, accounts) for budget in self._purse.budgets]

    async def set_price(self, request: admin_words.PriceSet) -> None:
        """Set the operator's own price of a model, for calls that end from now on."""
        prices = (request.input, request.output, request.cache_read, request.cache_write, request.cache_write_1h)
        if not request.model or not all(0 <= price <= MOST_MICROS for price in prices):
            raise OperatorError("A price is a model's name and dollars for a million tokens, from 0 on.")
        names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
        await self._ledger.change("set_price", model=plain_name(request.model), **dict(zip(names, prices, strict=True)))
        await self._reload_prices()

    async def remove_price(self, model: str) -> None:
        """Forget the operator's own price of a model."""
        if not await self._ledger.change("remove_price", model=plain_name(model)):
            raise OperatorError(f"There is no price of yours for {model}; `nanoclaw cost prices` lists them.")
        await self._reload_prices()

    def list_prices(self) -> list[admin_words.PriceLine]:
        """Return every price, the operator's own first."""
        return [
            admin_words.PriceLine(
                price.model,
                price.input,
                price.output,
                price.cache_read,
                price.cache_write,
                price.cache_write_1h,
                price.above,
                "own" if own else "shipped",
            )
            for price, own in self._purse.prices.list_all()
        ]

    def report(self, by: str, since: int) -> list[admin_words.CostLine]:
        """Return what was spent since a time, by what is asked for. Blocking."""
        if by not in REPORTS:
            raise OperatorError(f"Costs are shown by {', '.join(REPORTS)}, not by {by}.")
        rows = self._ledger.read(REPORTS[by], since=since // QUARTER_MS)
        if by == "day":
            return self._by_day(rows)
        lines = [admin_words.CostLine(*row) for row in rows]
        if by in ("person", "task"):
            return [line for line in lines if line.key.startswith("task:") == (by == "task")]
        return lines

    def _by_day(self, rows: list[tuple[int, ...]]) -> list[admin_words.CostLine]:
        zone = find_zone(self._purse.accounts.timezone)
        days: dict[str, list[int]] = {}
        for quarter, _, *figures in rows:
            day = datetime.fromtimestamp(quarter * QUARTER_MS / 1000, zone).date().isoformat()
            before = days.setdefault(day, [0] * len(figures))
            days[day] = [a + b for a, b in zip(before, figures, strict=True)]
        return [admin_words.CostLine(day, "", *figures) for day, figures in days.items()]

    def _budget_line(self, budget: Budget, accounts: Accounts) -> admin_words.BudgetLine:
        spent = accounts.spent(budget.account, budget.period)
        return admin_words.BudgetLine(
            scope=budget.account.scope,
            name=budget.account.name,
            period=budget.period,
            limit_micros=budget.micros,
            limit_tokens=budget.tokens,
            spent_micros=spent.micros,
            spent_tokens=spent.tokens,
            held_micros=accounts.held(budget.account).micros,
            opens_at=accounts.end_of(budget.period),
        )

    async def _note(self, verb: str, what: str, uid: int) -> None:
        entry = Entry(Event.CHANGED, Caller("", 0, ""), rule=verb, reason=f"{what.strip()}, by uid {uid}")
        await self._ledger.record(entry)

    async def _reload_budgets(self) -> None:
        self._purse.set_budgets(await asyncio.to_thread(_read_budgets, self._ledger))

    async def _reload_prices(self) -> None:
        self._purse.prices.set_own(await asyncio.to_thread(_read_prices, self._ledger))


def _account(scope: str, name: str) -> Account:
    try:
        account = Account(Scope(scope), name)
    except ValueError:
        raise OperatorError(f"A budget is for a group, a person or all, not for {scope!r}.") from None
    if (account.scope is Scope.ALL) != (name == ""):
        raise OperatorError("Say whose budget it is: --group FOLDER, --person WHO, or --all.")
    return account


def _whose(request: admin_words.BudgetSet | admin_words.BudgetRemove) -> str:
    return f"{request.scope} {request.name}".strip()


def _limits(request: admin_words.BudgetSet) -> str:
    """Return what was set, for the audit."""
    money = (("a day", request.day_micros), ("a month", request.month_micros))
    tokens = (("a day", request.day_tokens), ("a month", request.month_tokens))
    words = [f"{show_money(micros)} {period}" for period, micros in money if micros is not None]
    return ", ".join([*words, *(f"{count} tokens {period}" for period, count in tokens if count is not None)])
