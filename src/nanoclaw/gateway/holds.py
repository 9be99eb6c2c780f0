"""Calls that wait for a person's word, and one-shot grants for those whose word came later."""

from __future__ import annotations

from nanoclaw.gateway.policy import Caller, Deny, Rule
from nanoclaw.gateway.target import Target


class Holds:
    """Asks the host, which asks people."""

    async def ask(self, caller: Caller, rule: Rule, target: Target, body: bytes) -> Deny | None:
        """Wait for a person's word on a call: None, it may go once; a Deny says why not, with the question's id."""
        del caller, target, body
        return Deny("ask", f"The rule {rule.name!r} wants a person's word, and nobody can be asked.")
