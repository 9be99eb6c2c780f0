"""Who may reach an agent, and which messages engage it: pure."""

from __future__ import annotations

import pytest

from nanoclaw.channels.base import Incoming
from nanoclaw.domain.verdict import Allow, Ask, Deny
from nanoclaw.domain.wiring import (
    AgentGroupId,
    EngageMode,
    IgnoredMessagePolicy,
    MessagingGroupId,
    SenderScope,
    SessionMode,
    UnknownSenderPolicy,
    WiringId,
    decide_admission,
)
from nanoclaw.flow.admit import decide_verdict
from nanoclaw.flow.route import decide_engagement, decide_routes
from nanoclaw.store.chats import Chat, Wiring


def chat(policy: UnknownSenderPolicy = UnknownSenderPolicy.STRICT) -> Chat:
    return Chat(MessagingGroupId("c"), "x", "p", is_group=True, unknown_senders=policy)


def wiring(
    engage: EngageMode = EngageMode.PATTERN,
    pattern: str | None = ".",
    scope: SenderScope = SenderScope.ALL,
    ignored: IgnoredMessagePolicy = IgnoredMessagePolicy.DROP,
) -> Wiring:
    return Wiring(WiringId("w"), AgentGroupId("a"), engage, pattern, SessionMode.SHARED, scope, ignored)


def said(text: str = "hi", *, is_group: bool = True, is_mention: bool = False) -> Incoming:
    return Incoming("1", "p", "alice", "Alice", text, 0, is_group=is_group, is_mention=is_mention)


@pytest.mark.parametrize("policy", list(UnknownSenderPolicy))
def test_somebody_known_is_admitted_whatever_the_policy(policy: UnknownSenderPolicy) -> None:
    assert decide_admission(policy, known=True) == Allow("member")


def test_a_stranger_is_refused_asked_about_or_let_in_as_the_chat_says() -> None:
    assert decide_admission(UnknownSenderPolicy.STRICT, known=False) == Deny("unknown_sender_strict")
    assert decide_admission(UnknownSenderPolicy.REQUEST_APPROVAL, known=False) == Ask("unknown_sender")
    assert decide_admission(UnknownSenderPolicy.PUBLIC, known=False) == Allow("public")


def test_a_wiring_for_known_senders_keeps_strangers_out_of_a_public_chat() -> None:
    public = chat(UnknownSenderPolicy.PUBLIC)
    assert decide_verdict(public, wiring(), known=False) == Allow("public")
    assert decide_verdict(public, wiring(scope=SenderScope.KNOWN), known=False) == Deny("sender_scope_known")
    assert decide_verdict(public, wiring(scope=SenderScope.KNOWN), known=True) == Allow("member")


def test_a_wiring_never_lets_in_whom_the_chat_refuses() -> None:
    for scope in SenderScope:
        assert isinstance(decide_verdict(chat(), wiring(scope=scope), known=False), Deny)


@pytest.mark.parametrize(
    ("pattern", "text", "engages"),
    [
        (".", "", True),
        (".", "anything\nat all", True),
        ("^@andy", "@andy hi", True),
        ("^@andy", "hi @andy", False),
        ("(", "(", False),  # does not compile: closed
        (None, "hi", True),
        ("", "hi", True),
    ],
)
def test_a_pattern_engages_when_it_is_found(pattern: str | None, text: str, engages: bool) -> None:
    assert decide_engagement(wiring(pattern=pattern), said(text)) is engages


@pytest.mark.parametrize("mode", [EngageMode.MENTION, EngageMode.MENTION_STICKY])
def test_a_mention_engages_and_a_direct_chat_counts_as_one(mode: EngageMode) -> None:
    wired = wiring(engage=mode)
    assert decide_engagement(wired, said(is_mention=True))
    assert decide_engagement(wired, said(is_group=False))
    assert not decide_engagement(wired, said("@andy, the text alone mentions nobody"))


def test_what_does_not_engage_is_dropped_or_kept_as_context() -> None:
    mention = EngageMode.MENTION
    keeps, drops = wiring(mention, ignored=IgnoredMessagePolicy.ACCUMULATE), wiring(mention)
    assert [(route.wiring, route.trigger) for route in decide_routes([keeps, drops], said())] == [(keeps, False)]
    assert [route.trigger for route in decide_routes([keeps, drops], said(is_mention=True))] == [True, True]
    assert decide_routes([], said()) == []
