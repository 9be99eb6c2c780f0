"""What a box that builds packages may reach: registries by GET, the operator's mirrors, nothing else."""

from __future__ import annotations

import pytest

from nanoclaw.gateway.control import BUILDS
from nanoclaw.gateway.policy import Allow, Rule, decide
from nanoclaw.gateway.rule_sets import build_rules
from nanoclaw.gateway.rules import Rulebook
from nanoclaw.gateway.target import parse_target


def judge(rules: tuple[Rule, ...], method: str, url: str) -> bool:
    host = url.partition("://")[2].partition("/")[0]
    return isinstance(decide(parse_target(method, url, host), rules), Allow)


@pytest.mark.parametrize("url", ["http://deb.debian.org/debian/dists/x", "http://10.0.0.7:8080/simple/x/"])
def test_registries_and_mirrors_are_reached_by_get(url: str) -> None:
    rules = build_rules(("http://10.0.0.7:8080/simple/", "no url", "file:///etc", "https://"))
    assert judge(rules, "GET", url)
    assert not judge(rules, "POST", url)
    assert not judge(rules, "PUT", url)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7/x", "http://10.0.0.8:8080/x", "http://example.org/", "http://127.0.0.1/"]
)
def test_nothing_else_is_reached(url: str) -> None:
    assert not judge(build_rules(("http://10.0.0.7:8080/simple/",)), "GET", url)


def test_a_build_has_its_own_rules_whatever_is_allowed_to_everybody() -> None:
    book = Rulebook()
    assert book.rules_for(BUILDS) == build_rules(())
    assert all(rule.inject == "" and rule.methods == {"GET", "HEAD"} for rule in book.rules_for(BUILDS))
