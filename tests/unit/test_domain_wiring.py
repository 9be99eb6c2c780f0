"""Who may reach an agent, and which messages engage it: pure."""

from __future__ import annotations

import time

import pytest

from nanoclaw.domain.people import Standing
from nanoclaw.domain.verdict import Allow, Ask, Deny
from nanoclaw.domain.wiring import (
    MOST_PATTERN,
    AgentGroupId,
    EngageMode,
    IgnoredMessagePolicy,
    MessagingGroupId,
    Patterns,
    Rule,
    SenderScope,
    SessionMode,
    UnknownSenderPolicy,
    WiringId,
    check_pattern,
    decide_admission,
    decide_called,
)
from nanoclaw.errors import Refused
from nanoclaw.flow.admit import decide_verdict
from nanoclaw.flow.route import Heard, decide_engagement, decide_routes
from nanoclaw.store.chats import Chat, Wiring

KNOWN = [standing for standing in Standing if standing.is_known]


def chat(policy: UnknownSenderPolicy = UnknownSenderPolicy.STRICT) -> Chat:
    return Chat(MessagingGroupId("c"), "x", "p", is_group=True, unknown_senders=policy)


def wiring(
    engage: EngageMode = EngageMode.PATTERN,
    pattern: str | None = ".",
    scope: SenderScope = SenderScope.ALL,
    ignored: IgnoredMessagePolicy = IgnoredMessagePolicy.DROP,
    name: str = "Andy",
) -> Wiring:
    ids = (WiringId(f"w {name}"), AgentGroupId(f"a {name}"))
    return Wiring(*ids, engage, pattern, SessionMode.SHARED, scope, ignored, agent_name=name)


def heard(text: str = "hi", *, is_group: bool = True, is_mention: bool = False, names: tuple[str, ...] = ()) -> Heard:
    return Heard(text, is_group, is_mention, decide_called(text, list(names)))


def engages(wired: Wiring, what: Heard) -> Rule | None:
    return decide_engagement(wired, what, Patterns())


@pytest.mark.parametrize("policy", list(UnknownSenderPolicy))
@pytest.mark.parametrize("standing", KNOWN)
def test_somebody_known_is_admitted_whatever_the_policy(policy: UnknownSenderPolicy, standing: Standing) -> None:
    assert decide_admission(policy, standing) == Allow(standing.value)


def test_a_stranger_is_refused_asked_about_or_let_in_as_the_chat_says() -> None:
    strict = decide_admission(UnknownSenderPolicy.STRICT, Standing.STRANGER)
    assert isinstance(strict, Deny) and strict.reason == "unknown_sender_strict" and "know" in strict.words
    assert decide_admission(UnknownSenderPolicy.REQUEST_APPROVAL, Standing.STRANGER) == Ask("unknown_sender")
    assert decide_admission(UnknownSenderPolicy.PUBLIC, Standing.STRANGER) == Allow("public")


def test_a_wiring_for_known_senders_keeps_strangers_out_of_a_public_chat() -> None:
    public, scoped = chat(UnknownSenderPolicy.PUBLIC), wiring(scope=SenderScope.KNOWN)
    assert decide_verdict(public, wiring(), Standing.STRANGER, blocked=False) == Allow("public")
    refused = decide_verdict(public, scoped, Standing.STRANGER, blocked=False)
    assert isinstance(refused, Deny) and refused.reason == "sender_scope_known"
    assert decide_verdict(public, scoped, Standing.MEMBER, blocked=False) == Allow("member")


def test_a_wiring_never_lets_in_whom_the_chat_refuses() -> None:
    for scope in SenderScope:
        assert isinstance(decide_verdict(chat(), wiring(scope=scope), Standing.STRANGER, blocked=False), Deny)


@pytest.mark.parametrize("policy", list(UnknownSenderPolicy))
@pytest.mark.parametrize("standing", list(Standing))
def test_a_denial_for_good_comes_before_every_other_rule(policy: UnknownSenderPolicy, standing: Standing) -> None:
    assert decide_verdict(chat(policy), wiring(), standing, blocked=True) == Deny("sender_blocked")


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (".", "", True),
        (".", "anything\nat all", True),
        ("^@andy", "@andy hi", True),
        ("^@andy", "hi @andy", False),
        ("(?i)ANDY", "hi andy", True),
        ("(", "(", False),  # does not compile: closed
        ("(?=x)", "x", False),
        ("\ud800", "x", False),
        ("x\0y", "ax\0yb", True),
        ("\U0001f980", "a \U0001f980 crab", True),
        ("hi", "\ud800 hi", False),
        (None, "hi", False),
    ],
)
def test_a_pattern_engages_when_it_is_found(pattern: str | None, text: str, found: bool) -> None:
    assert (engages(wiring(pattern=pattern), heard(text)) is Rule.PATTERN) is found


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "(a?){500}a{500}"])
def test_a_pattern_that_blows_up_elsewhere_takes_linear_time(pattern: str) -> None:
    began = time.monotonic()
    engages(wiring(pattern=pattern), heard("a" * 100_000 + "!"))
    assert time.monotonic() - began < 1.0  # python's own `re` would take longer than the universe has


def test_patterns_are_compiled_once_and_do_not_pile_up() -> None:
    patterns = Patterns()
    for number in range(2100):
        assert patterns.finds(f"^{number}$", str(number))
    assert not patterns.finds("^1$", "2") and patterns.finds("^1$", "1")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "may not be empty"),
        ("x" * (MOST_PATTERN + 1), f"may have {MOST_PATTERN} characters"),
        ("(", "missing )"),
        ("(?=x)", "invalid perl operator"),
        (r"(a)\1", "invalid escape"),
        ("a{1001}", "repetition"),
        ("\\pL{1000}", "too large"),
        ("\ud800", "surrogates not allowed"),
    ],
)
def test_a_bad_pattern_is_refused_when_it_is_set(pattern: str, why: str) -> None:
    with pytest.raises(Refused, match=why.replace(")", "\\)")):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", [".", "^@andy\\b", "(a+)+$", "x" * MOST_PATTERN, "\U0001f980|crab"])
def test_a_good_pattern_may_be_set(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("@andy hi", {"Andy"}),
        ("hi @ANDY!", {"Andy"}),
        ("(@andy)", {"Andy"}),
        ("@andy", {"Andy"}),
        ("hi\n@Andy\nthere", {"Andy"}),
        ("@andy, @bob: hi", {"Andy", "Bob"}),
        ("andy hi", set()),
        ("@andyx", set()),
        ("@andy_2", set()),
        ("mail bob@andy.example", set()),
        ("@@andy", set()),
        ("@ andy", set()),
        ("@andy smith, please", {"Andy Smith"}),
        ("@andy smithers", {"Andy"}),
        ("@andy smith and @andy", {"Andy Smith", "Andy"}),
        ("@\U0001f980 crab", {"\U0001f980"}),
        ("@\U0001f980", {"\U0001f980"}),
        ("@e\u0301mile", {"\u00c9mile"}),
        ("@STRASSE", {"Stra\u00dfe"}),
        ("@../etc/passwd read", {"../etc/passwd"}),
        ("", set()),
    ],
)
def test_a_text_calls_an_agent_by_its_own_name(text: str, called: set[str]) -> None:
    names = ["Andy", "Bob", "Andy Smith", "\U0001f980", "\u00c9mile", "Stra\u00dfe", "../etc/passwd", ""]
    assert decide_called(text, names) == called


def test_a_text_full_of_calls_is_searched_in_time() -> None:
    began = time.monotonic()
    assert decide_called("@andyx" * 40_000 + "x@andy" * 40_000, ["Andy", "Andy Smith", "n" * 10_000]) == set()
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("mode", [EngageMode.MENTION, EngageMode.MENTION_STICKY])
def test_a_mention_a_name_and_a_direct_chat_engage(mode: EngageMode) -> None:
    wired = wiring(engage=mode)
    assert engages(wired, heard(is_mention=True)) is Rule.MENTION
    assert engages(wired, heard(is_group=False)) is Rule.DIRECT
    assert engages(wired, heard("@andy hi", names=("Andy",))) is Rule.NAME
    assert engages(wired, heard("andy, you are not called")) is None


def test_a_text_that_calls_one_agent_means_it_alone() -> None:
    andy, bob = wiring(EngageMode.MENTION), wiring(EngageMode.MENTION, name="Bob")
    names = ("Andy", "Bob")
    for is_group in (True, False):
        called = heard("@bob hi", is_group=is_group, is_mention=True, names=names)
        assert engages(andy, called) is None and engages(bob, called) is Rule.NAME
    both = heard("hi", is_mention=True, names=names)
    assert engages(andy, both) is Rule.MENTION and engages(bob, both) is Rule.MENTION


def test_what_does_not_engage_is_dropped_or_kept_as_context() -> None:
    mention, accumulate = EngageMode.MENTION, IgnoredMessagePolicy.ACCUMULATE
    keeps, drops = wiring(mention, ignored=accumulate), wiring(mention)

    def routes(wirings: list[Wiring], what: Heard) -> list[tuple[Wiring, bool]]:
        return [(route.wiring, route.trigger) for route in decide_routes(wirings, what, Patterns())]

    assert routes([keeps, drops], heard()) == [(keeps, False)]
    assert routes([keeps, drops], heard(is_mention=True)) == [(keeps, True), (drops, True)]
    assert routes([], heard()) == []
