"""The rules in force, by agent group: a group's own before those of every group, those before the built-in ones."""

from __future__ import annotations

from nanoclaw.gateway.policy import DEFAULT_RULES, Moment, Rule


class Rulebook:
    """What the gateway judges by."""

    generation = 0

    def rules_for(self, folder: str) -> tuple[Rule, ...]:
        """Return the rules of an agent group in the order in which they are tried."""
        del folder
        return DEFAULT_RULES

    def moment(self) -> Moment | None:
        """Return the time of day by which rules with hours are judged, in the operator's time zone."""
        return None
