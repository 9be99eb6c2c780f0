"""A yes to a card becomes a rule: exactly what was asked for, once, and over no rule that denies or asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from nanoclaw.gateway.control import AddRule, RuleAdded
from nanoclaw.gateway.policy import Action, Allow, Ask, Deny, Rate, decide
from nanoclaw.gateway.proposals import add_rule
from nanoclaw.gateway.rules import Rulebook
from nanoclaw.gateway.target import Form, Target
from nanoclaw.testing.fakes import ManualClock

WANTED = AddRule("a1", "main", "api.example.org", ("GET",), ("/v1/**",), "user:alice")
ASKING = """\
[[rule]]
name = "pay"
group = "main"
host = "api.example.org"
action = "ask"
methods = ["POST", "PUT"]
paths = ["/v1/pay/**"]
rate = "5/hour"
"""
ALWAYS = AddRule("a2", "main", "api.example.org", ("POST",), ("/v1/pay/bob",), "user:alice", like="pay")


async def rulebook(path: Path, text: str = "") -> Rulebook:
    rules = Rulebook(path, ManualClock())
    rules.open()
    if text:
        await rules.apply(text, "test")
    return rules


def judge(rules: Rulebook, method: str, path: str, folder: str = "main") -> type:
    target = Target(Form.TUNNEL, method, "api.example.org", path)
    return type(decide(target, rules.rules_for(folder), rules.moment()))


async def test_what_was_asked_for_is_allowed_and_nothing_else(tmp_path: Path) -> None:
    rules = await rulebook(tmp_path)
    assert await add_rule(rules, WANTED) == RuleAdded("a1", 1)
    assert judge(rules, "GET", "/v1/weather") is Allow
    assert judge(rules, "POST", "/v1/weather") is judge(rules, "GET", "/v2") is Deny
    assert judge(rules, "GET", "/v1/weather", "other") is Deny
    (rule,) = (rule for rule in rules.rules_for("main") if rule.host == "api.example.org")
    assert (rule.inject, rule.allow_private, rule.upgrade, rule.port, rule.tls) == ("", False, False, 443, True)


async def test_one_approval_is_one_rule_also_in_the_next_gateway_and_after_it_was_taken_away(tmp_path: Path) -> None:
    rules = await rulebook(tmp_path)
    await add_rule(rules, WANTED)
    assert await add_rule(rules, WANTED) == RuleAdded("a1", 1)
    await rules.remove("api.example.org", "main", "bob")
    rules = await rulebook(tmp_path)
    assert await add_rule(rules, WANTED) == RuleAdded("a1", 1)
    assert judge(rules, "GET", "/v1/weather") is Deny


async def test_always_takes_over_the_terms_of_the_rule_that_asked_for_the_one_path(tmp_path: Path) -> None:
    rules = await rulebook(tmp_path, ASKING)
    assert (await add_rule(rules, ALWAYS)).error == ""
    assert judge(rules, "POST", "/v1/pay/bob") is Allow
    assert judge(rules, "POST", "/v1/pay/eve") is judge(rules, "PUT", "/v1/pay/bob") is Ask
    (rule,) = (rule for rule in rules.rules_for("main") if rule.paths == ("/v1/pay/bob",))
    assert rule.rate == Rate(5, 3600) and rule.action is Action.ALLOW


async def test_always_for_all_that_a_rule_asks_about_is_told_again_as_done(tmp_path: Path) -> None:
    """The new rule takes the place of the one that asked, so that one is gone when the host says it again."""
    rules = await rulebook(tmp_path, ASKING.replace("/v1/pay/**", "/v1/pay/bob").replace(', "PUT"', ""))
    done = await add_rule(rules, ALWAYS)
    assert done.error == "" and judge(rules, "POST", "/v1/pay/bob") is Allow
    assert await add_rule(await rulebook(tmp_path), ALWAYS) == done


async def test_a_rule_that_asked_and_is_gone_leaves_no_rule_behind(tmp_path: Path) -> None:
    added = await add_rule(await rulebook(tmp_path), ALWAYS)
    assert added == RuleAdded("a2", 0, "the rule 'pay' that asked is not there any more.")


@pytest.mark.parametrize(
    ("methods", "paths", "fits"),
    [
        (("GET",), ("/v1/**",), True),
        (("POST",), ("/v2/**",), True),
        (("POST",), ("/v1/pa",), True),
        (("POST",), ("/*/pays/**",), True),
        (("POST",), ("/v1/**",), False),
        (("GET", "POST"), ("/**",), False),
        (("POST",), ("/v1/pay",), False),
        (("POST",), ("/V1/Pay;a/",), False),
        (("POST",), ("/*/*/bob",), False),
        (("POST",), ("/v2", "/v1/pay/bob"), False),
    ],
)
@pytest.mark.parametrize("action", ["ask", "deny"])
async def test_a_proposal_goes_over_no_rule_that_asks_or_denies(
    tmp_path: Path, methods: tuple[str, ...], paths: tuple[str, ...], fits: bool, action: str
) -> None:
    text = ASKING.replace('"ask"', f'"{action}"')
    rules = await rulebook(tmp_path, text if action == "ask" else text.replace('rate = "5/hour"\n', ""))
    added = await add_rule(rules, AddRule("a3", "main", "api.example.org", methods, paths, "operator"))
    assert (added.error == "") is fits
    if not fits:
        assert added.error.startswith("the rule 'pay' ") and "nanoclaw egress list" in added.error
    assert judge(rules, "POST", "/v1/pay/bob") is (Ask if action == "ask" else Deny)


async def test_nothing_named_is_nothing_allowed(tmp_path: Path) -> None:
    rules = await rulebook(tmp_path, ASKING)
    for asked in (replace(WANTED, methods=()), replace(WANTED, paths=()), replace(ALWAYS, paths=())):
        assert "no methods or no paths" in (await add_rule(rules, asked)).error
    assert judge(rules, "GET", "/v1/weather") is Deny


async def test_what_no_rule_can_say_is_told_in_words(tmp_path: Path) -> None:
    rules = await rulebook(tmp_path)
    added = await add_rule(rules, AddRule("a4", "main", "api.example.org", ("GET",), ("/a*b",), "operator"))
    assert added.generation == 0 and added.error
