"""Money and tokens: what a call may cost is reserved before it is made and put right when its answer is known."""

from __future__ import annotations

from dataclasses import dataclass

from nanoclaw.gateway.policy import Caller, Deny, Rule
from nanoclaw.gateway.usage import Usage


@dataclass(frozen=True, slots=True)
class Planned:
    """A call that costs money, before it is made. `body`: what has come of the request, at most 1 MiB of `size`."""

    caller: Caller
    charge: str
    rule: Rule
    body: bytes
    size: int | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call may cost, in millionths of a US dollar."""

    micros: int


class Purse:
    """Who may still spend what."""

    def wants_body(self, caller: Caller, charge: str) -> bool:
        """Whether a budget applies, so that the request's model and length must be known before it is sent."""
        del caller, charge
        return False

    def reserve(self, planned: Planned) -> Reservation | Deny:
        """Set aside what a call may cost, or say which budget is spent."""
        del planned
        return Reservation(0)

    def settle(self, reservation: Reservation, usage: Usage) -> None:
        """Put right what was set aside, once the call has ended."""
        del reservation, usage
