"""Rules that people allow by answering a card: what was asked for, never more, and on no terms but those on the card.

In: `AddRule` of the host. Out: `RuleAdded`: the generation in which it is in force, or why there is none.
Writes: through the rulebook. Never: goes over a rule that denies or asks, but the one that asked about this very call;
adds a rule twice for one approval.
"""

from __future__ import annotations

from dataclasses import replace

from nanoclaw.errors import NanoClawError, Refused
from nanoclaw.gateway.control import AddRule, RuleAdded
from nanoclaw.gateway.policy import MANY, ONE, Action, Rule, covers_host, loosen
from nanoclaw.gateway.rules import Rulebook


async def add_rule(rules: Rulebook, asked: AddRule) -> RuleAdded:
    """Put a rule in force that a person has allowed, once, however often it is asked for."""
    if (done := rules.find_approved(asked.approval)) is not None:
        return RuleAdded(asked.approval, done)
    try:
        rule = make_rule(asked, rules.rules_for(asked.folder))
        return RuleAdded(asked.approval, await rules.add(rule, asked.by, asked.approval))
    except NanoClawError as error:
        return RuleAdded(asked.approval, 0, str(error))


def make_rule(asked: AddRule, in_force: tuple[Rule, ...]) -> Rule:
    """Return the rule, without a name. Raises Refused."""
    if not asked.methods or not asked.paths:
        raise Refused("it names no methods or no paths.")  # in a rule none of either would mean all
    if asked.like:
        asking = next((rule for rule in in_force if rule.name == asked.like and rule.action is Action.ASK), None)
        if asking is None:
            raise Refused(f"the rule {asked.like!r} that asked is not there any more.")
        rule = replace(asking, name="", action=Action.ALLOW, group=asked.folder, host=asked.host)
        return replace(rule, methods=frozenset(asked.methods), paths=asked.paths)
    rule = Rule("", asked.host, group=asked.folder, methods=frozenset(asked.methods), paths=asked.paths)
    for known in in_force:
        if known.action is not Action.ALLOW and _meet(rule, known):
            verb = "denies" if known.action is Action.DENY else "asks about"
            raise Refused(f"the rule {known.name!r} {verb} some of that. Change it by hand: `nanoclaw egress list`.")
    return rule


def _meet(first: Rule, second: Rule) -> bool:
    """Whether there may be a call that both rules are about; `first` names one host."""
    return (
        (first.tls, first.port) == (second.tls, second.port)
        and covers_host(second.host, first.host)
        and (not first.methods or not second.methods or bool(first.methods & second.methods))
        and any(_cross(one, other) for one in first.paths for other in second.paths)
    )


def _cross(first: str, second: str) -> bool:
    """Whether there may be a path that both patterns cover."""
    one, other = loosen(first).split("/"), loosen(second).split("/")
    for left, right in zip(one, other, strict=False):
        if MANY in {left, right}:
            return True
        if left != right and ONE not in {left, right}:
            return False
    longer = max(one, other, key=len)
    rest = longer[min(len(one), len(other)) :]
    return not rest or rest == [MANY]
