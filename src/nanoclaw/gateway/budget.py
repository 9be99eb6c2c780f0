"""Money and tokens: what a call may cost is reserved before it is made and put right when its answer is known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from nanoclaw.gateway.policy import Caller, Deny, Rule
from nanoclaw.gateway.usage import Usage


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


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call may use, and cost in millionths of a US dollar; all zero where no budget applies."""

    planned: Planned
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0

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
    """What a call that ended used and cost; `estimated` where its answer did not say all of it."""

    reservation: Reservation
    usage: Usage
    cost_micros: int
    estimated: bool

    def columns(self) -> dict[str, int | str]:
        """Return what the ledger keeps of it besides its call."""
        return (
            self.reservation.columns()
            | dataclasses.asdict(self.usage)
            | {
                "cost_micros": self.cost_micros,
                "estimated": int(self.estimated),
            }
        )


class Purse:
    """Who may still spend what."""

    def wants_body(self, caller: Caller, charge: str) -> bool:
        """Whether a budget applies, so that the request's model and length must be known before it is sent."""
        del caller, charge
        return False

    def reserve(self, planned: Planned) -> Reservation | Deny:
        """Set aside what a call may cost, or say which budget is spent."""
        return Reservation(dataclasses.replace(planned, body=b""))

    def settle(self, reservation: Reservation, usage: Usage, status: int = 200, sent_bytes: int = 0) -> Spent | None:
        """Put right what was set aside, once the call has ended; None when it was no call to a model."""
        del status, sent_bytes
        return Spent(reservation, usage, 0, estimated=False) if reservation.planned.rule.model else None
