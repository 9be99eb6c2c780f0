"""What calls may cost, did cost, and may not exceed, as values; and what is said when a budget is spent. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum

from nanoclaw.gateway.policy import Caller, Rule
from nanoclaw.gateway.usage import Usage

CENT_MICROS = 10_000


class Scope(StrEnum):
    """Whose money it is."""

    GROUP = "group"
    PERSON = "person"
    ALL = "all"


class Period(StrEnum):
    """What a limit is for."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Account:
    """An agent group by its folder, a person as turns are charged to them, or all together (name '')."""

    scope: Scope
    name: str = ""


@dataclass(frozen=True, slots=True)
class Amount:
    """Millionths of a US dollar, and tokens."""

    micros: int = 0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        """Return both together."""
        return Amount(self.micros + other.micros, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        """Return what is left without the other."""
        return Amount(self.micros - other.micros, self.tokens - other.tokens)


@dataclass(frozen=True, slots=True)
class Planned:
    """A call that may cost money, before it is made. `body`: what has come of the request, at most 1 MiB of `size`.

    `rehearsed`: it goes to the rehearsal model, which costs nothing.
    """

    caller: Caller
    charge: str
    rule: Rule
    body: bytes
    size: int | None
    method: str = "POST"
    path: str = ""
    attempt: int = 1
    rehearsed: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is asked of a model at all: lists of models and counts of tokens are free."""
        return bool(self.rule.model) and self.method.upper() == "POST" and not self.path.endswith("/count_tokens")


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call may use, and cost in millionths of a US dollar; all zero where no budget applies."""

    planned: Planned
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0

    @property
    def amount(self) -> Amount:
        """What is set aside."""
        return Amount(self.cost_micros, self.input_tokens + self.output_tokens)

    def columns(self) -> dict[str, int | str]:
        """Return what the ledger keeps of it besides its call."""
        return {
            "folder": self.planned.caller.folder,
            "attempt": self.planned.attempt,
            "model": self.model,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_micros": self.cost_micros,
        }


@dataclass(frozen=True, slots=True)
class Spent:
    """What a call that ended used and cost; `estimated` where its answer or the price table did not say all of it."""

    reservation: Reservation
    usage: Usage
    cost_micros: int
    estimated: bool

    def columns(self) -> dict[str, int | str]:
        """Return what the ledger keeps of it besides its call."""
        figures = {"cost_micros": self.cost_micros, "estimated": int(self.estimated)}
        return self.reservation.columns() | dataclasses.asdict(self.usage) | figures


@dataclass(frozen=True, slots=True)
class Budget:
    """What an account may spend in a period; None is no limit."""

    account: Account
    period: Period
    micros: int | None
    tokens: int | None


def explain_spent(budget: Budget, spent: Amount, timezone: str) -> str:
    """Return what is said of a call whose budget is spent: which, how much, when it opens, what mends it."""
    day = budget.period is Period.DAY
    opens = "at midnight" if day else "on the first of next month"
    span = "today" if day else "this month"
    return (
        f"The budget of {_name(budget.account)} for {span} is spent: {_state(budget, spent)}. It opens again {opens} "
        f"({timezone}); an admin can raise it with `nanoclaw cost limit {_option(budget, spent)}`."
    )


def explain_held(budget: Budget, spent: Amount) -> str:
    """Return what is said of a call for which others under way may leave nothing."""
    return (
        f"What is left of the budget of {_name(budget.account)} ({_state(budget, spent)} spent) is set aside for calls "
        "under way. Try again when they have ended."
    )


def show_money(micros: int) -> str:
    """Return an amount for people: cents are enough from one cent on; below, as many figures as it takes."""
    if micros % CENT_MICROS == 0 or micros >= CENT_MICROS:
        return f"${micros / 1_000_000:,.2f}"
    return f"${micros / 1_000_000:.6f}".rstrip("0")


def _by_money(budget: Budget, spent: Amount) -> bool:
    """Whether it is the money that ran out, not the tokens."""
    return budget.micros is not None and (budget.tokens is None or spent.tokens < budget.tokens)


def _state(budget: Budget, spent: Amount) -> str:
    if _by_money(budget, spent):
        return f"{show_money(spent.micros)} of {show_money(budget.micros or 0)}"
    return f"{spent.tokens:,} of {budget.tokens or 0:,} tokens"


def _name(account: Account) -> str:
    match account.scope:
        case Scope.GROUP:
            return account.name
        case Scope.PERSON:
            return "the person who asked"
        case Scope.ALL:
            return "all agents together"


def _option(budget: Budget, spent: Amount) -> str:
    """Return the options of a limit that leaves room: twice the old one, or twice what is spent when that is more."""
    whose = {Scope.GROUP: f"--group {budget.account.name}", Scope.PERSON: f"--person {budget.account.name}"}
    which = whose.get(budget.account.scope, "--all")
    if _by_money(budget, spent):
        micros = max(budget.micros or 0, spent.micros, CENT_MICROS) * 2
        return f"{which} --{budget.period} {-(-micros // CENT_MICROS) / 100:.12g}"
    return f"{which} --{budget.period}-tokens {max(budget.tokens or 0, spent.tokens, 1) * 2}"
