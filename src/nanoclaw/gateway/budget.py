"""Money and tokens: what a call may cost is reserved before it is made and put right when its answer is known.

In: a call that a rule allows, the budgets, the sums of what was spent. Out: a `Reservation`, or a `Deny` that says
which budget is spent. Never: lets a call through whose budget is spent; waits; asks the ledger.

A call goes when what was spent, what is set aside for others and what it may cost itself are within every limit. A
call alone may use up the rest of a budget, so that a budget smaller than the most a call could cost is of use: a
limit is exceeded by at most the one call that used it up (and by what `forecast` took for too little).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from nanoclaw.clock import Clock
from nanoclaw.gateway.accounts import Account, Accounts, accounts_of
from nanoclaw.gateway.forecast import estimate_input, forecast
from nanoclaw.gateway.policy import Caller, Deny
from nanoclaw.gateway.prices import FREE, PriceTable
from nanoclaw.gateway.spending import Amount, Budget, Planned, Reservation, Spent, explain_held, explain_spent
from nanoclaw.gateway.usage import Usage

SPENT, HELD = "budget", "budget-held"  # what decided: no use to try again before the budget opens, or a little later


class Purse:
    """Who may still spend what."""

    def __init__(self, clock: Clock, accounts: Accounts, prices: PriceTable) -> None:
        self.accounts = accounts
        self.prices = prices
        self._clock = clock
        self._budgets: dict[Account, list[Budget]] = {}

    @property
    def budgets(self) -> list[Budget]:
        """Every limit, by account."""
        return [budget for budgets in self._budgets.values() for budget in budgets]

    def set_budgets(self, budgets: Iterable[Budget]) -> None:
        """Take these limits, in place of the ones before; calls under way go on."""
        self._budgets = {}
        for budget in budgets:
            self._budgets.setdefault(budget.account, []).append(budget)

    def wants_body(self, caller: Caller, charge: str) -> bool:
        """Whether a budget applies, so that the request's model and length must be known before it is sent."""
        return any(account in self._budgets for account in accounts_of(caller.folder, charge))

    def reserve(self, planned: Planned) -> Reservation | Deny:
        """Set aside what a call may cost, or say which budget is spent."""
        reservation = Reservation(dataclasses.replace(planned, body=b""))
        accounts = accounts_of(planned.caller.folder, planned.charge)
        budgets = [budget for account in accounts for budget in self._budgets.get(account, ())]
        if not planned.counts or not budgets:
            return reservation
        expected = forecast(planned.body, planned.size)
        price = (
            FREE
            if self._is_free(planned, expected.model)
            else self.prices.find(expected.model, expected.input_tokens)[0]
        )
        reservation = dataclasses.replace(
            reservation,
            model=expected.model,
            input_tokens=expected.input_tokens,
            output_tokens=expected.output_tokens,
            cost_micros=price.most(expected),
        )
        self.accounts.roll(self._clock.now_ms())
        for budget in budgets:
            if (denied := self._decide(budget, reservation.amount)) is not None:
                return denied
        self.accounts.hold(accounts, reservation.amount)
        return reservation

    def settle(self, reservation: Reservation, usage: Usage, status: int = 0, sent_bytes: int = 0) -> Spent | None:
        """Put right what was set aside, once the call has ended; None when it was no call to a model.

        `status` 0: no answer came. An answer that refuses costs nothing; a request that got none may have cost.
        """
        planned = reservation.planned
        if not planned.counts:
            return None
        spent = self._price(reservation, usage, status, sent_bytes)
        amount = Amount(spent.cost_micros, spent.usage.tokens)
        accounts = accounts_of(planned.caller.folder, planned.charge)
        self.accounts.settle(accounts, reservation.amount, amount, self._clock.now_ms())
        return spent

    def _price(self, reservation: Reservation, usage: Usage, status: int, sent_bytes: int) -> Spent:
        if status >= 400 or (status == 0 and not sent_bytes):
            return Spent(reservation, Usage(model=usage.model or reservation.model), 0, estimated=False)
        guessed = usage.prompt_tokens == 0
        if guessed:
            tokens = reservation.input_tokens or estimate_input(b"", sent_bytes)
            usage = dataclasses.replace(usage, input_tokens=tokens)
        usage = dataclasses.replace(usage, model=usage.model or reservation.model)
        guessed = guessed or usage.estimated
        if self._is_free(reservation.planned, usage.model):
            return Spent(reservation, usage, 0, guessed)
        price, known = self.prices.find(usage.model, usage.prompt_tokens)
        return Spent(reservation, usage, price.cost(usage), guessed or not known)

    def _is_free(self, planned: Planned, model: str) -> bool:
        """Whether nobody is paid: the rehearsal, or a model on a private address without a price of the operator's."""
        return planned.rehearsed or (planned.rule.allow_private and self.prices.find_own(model) is None)

    def _decide(self, budget: Budget, wanted: Amount) -> Deny | None:
        """Return why a call may not go, None when this budget lets it."""
        spent, held = self.accounts.spent(budget.account, budget.period), self.accounts.held(budget.account)
        for limit, used, under_way, asked in (
            (budget.micros, spent.micros, held.micros, wanted.micros),
            (budget.tokens, spent.tokens, held.tokens, wanted.tokens),
        ):
            if limit is None or not asked:
                continue
            if used >= limit:
                return Deny(SPENT, explain_spent(budget, spent, self.accounts.timezone))
            if under_way and used + under_way + asked > limit:
                return Deny(HELD, explain_held(budget, spent))
        return None
