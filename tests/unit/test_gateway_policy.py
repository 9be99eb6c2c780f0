"""What may leave a box: every form of target, every path that is not canonical, default deny."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.policy import (
    DEFAULT_RULES,
    Action,
    Allow,
    Deny,
    Rule,
    Verdict,
    decide,
)
from nanoclaw.gateway.target import OWN_NAME, Authority, Form, find_path_fault, parse_target, shown, split_authority

OWN = "127.0.0.1:3128"


def verdict_of(method: str, target: str, host: str = OWN) -> Verdict:
    return decide(parse_target(method, target, host), DEFAULT_RULES)


def test_the_model_route_is_allowed_and_loses_its_prefix() -> None:
    allowed = verdict_of("POST", "/anthropic/v1/messages?beta=true")
    assert isinstance(allowed, Allow)
    assert (allowed.path, allowed.rule.host, allowed.rule.inject) == (
        "/v1/messages?beta=true",
        "api.anthropic.com",
        "anthropic",
    )
    counted = verdict_of("POST", "/anthropic/v1/messages/count_tokens", "localhost")
    assert isinstance(counted, Allow)
    assert counted.path == "/v1/messages/count_tokens"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/anthropic/v1/messages"),
        ("post", "/anthropic/v1/messages"),
        ("POST", "/anthropic/v1/messages/"),
        ("POST", "/anthropic/v1/messages/batches"),
        ("POST", "/anthropic/v1/files"),
        ("POST", "/anthropic"),
        ("POST", "/anthropicx/v1/messages"),
        ("POST", "/v1/messages"),
        ("GET", "/"),
    ],
)
def test_what_no_rule_names_is_denied_by_default(method: str, target: str) -> None:
    denied = verdict_of(method, target)
    assert isinstance(denied, Deny)
    assert denied.rule == "default"
    assert "nanoclaw" in denied.reason


@pytest.mark.parametrize(
    ("method", "target", "host", "asked"),
    [
        ("CONNECT", "example.org:443", "example.org:443", "example.org"),
        ("GET", "http://169.254.169.254/latest/meta-data", "169.254.169.254", "169.254.169.254"),
        ("POST", "http://127.0.0.1:3128/anthropic/v1/messages", OWN, "127.0.0.1"),
        ("POST", "/anthropic/v1/messages", "127.0.0.1.evil.test", "127.0.0.1.evil.test"),
    ],
)
def test_another_host_is_denied_and_it_is_said_what_would_allow_it(
    method: str, target: str, host: str, asked: str
) -> None:
    parsed = parse_target(method, target, host)
    assert parsed.host == asked
    denied = decide(parsed, DEFAULT_RULES)
    assert isinstance(denied, Deny)
    assert f"No rule allows this agent to reach {asked}." in denied.reason
    assert "nanoclaw egress allow" in denied.reason or "nanoclaw audit" in denied.reason


@pytest.mark.parametrize(
    ("method", "target", "host"),
    [
        ("CONNECT", "user@[::1]:443", "x"),
        ("CONNECT", "EXAMPLE.org:443", "EXAMPLE.org:443"),
        ("CONNECT", "example.org.:443", "x"),
        ("CONNECT", "2130706433:443", "x"),
        ("CONNECT", "0x7f.1:443", "x"),
        ("CONNECT", "127.1:443", "x"),
        ("CONNECT", "[::ffff:127.0.0.1:443", "x"),
        ("CONNECT", "example.org:99999", "x"),
        ("CONNECT", "example.org:+443", "x"),
        ("GET", "https://api.anthropic.com@evil.test/x", OWN),
        ("GET", "http://example.org/", "api.anthropic.com"),
        ("GET", "ftp://example.org/", "example.org"),
        ("GET", "*", ""),
    ],
)
def test_an_authority_that_is_not_written_plainly_is_refused_before_any_rule(
    method: str, target: str, host: str
) -> None:
    denied = verdict_of(method, target, host)
    assert isinstance(denied, Deny)
    assert denied.rule == "canonical"


@pytest.mark.parametrize(
    "target",
    [
        "/anthropic/../anthropic/v1/messages",
        "/anthropic/./v1/messages",
        "/anthropic//v1/messages",
        "/anthropic/%2e%2e/v1",
        "/anthropic/v1\\messages",
        "/anthropic/%5cv1",
        "/anthropic/%2561",
        "/anthropic/v1/messages%00",
        "/anthropic/v1/messages#x",
        "/anthropic/v1/mess\xe4ges",
        "/anthropic/v1/messages?a=\xe4",
        "/anthropic/v1/messages?a=\x7f",
        "/anthropic/v1/messages/..",
        "/anthropic/v1/..;/messages",
        "/anthropic/v1/..;a=b/messages",
        "/anthropic/v1/.;/messages",
        "/anthropic/v1/..%3b/messages",
        "/anthropic/v1/%c0%ae%c0%ae/messages",
        "/anthropic/v1/%e0%80%ae/messages",
    ],
)
def test_a_path_that_is_not_canonical_is_refused_before_any_rule(target: str) -> None:
    denied = verdict_of("POST", target)
    assert isinstance(denied, Deny)
    assert denied.rule == "canonical"


LENIENT = (
    "/repos/me/private",
    "/repos/me/PRIVATE",
    "/repos/Me/private/",
    "/repos/me;a=b/private;c/d",
    "/repos/me/private/x",
    "/repos%2Fme/private/x",
)


@pytest.mark.parametrize("action", [Action.DENY, Action.ASK])
@pytest.mark.parametrize("method", ["DELETE", "delete", "Delete"])
@pytest.mark.parametrize("path", LENIENT)
def test_a_rule_that_denies_or_asks_holds_however_a_lenient_server_may_take_a_call(
    action: Action, method: str, path: str
) -> None:
    closed = Rule("no", "api.example.org", action, methods=frozenset({"DELETE"}), paths=("/repos/me/private/**",))
    rules = (closed, Rule("api", "api.example.org", encoded_slash=True))
    verdict = decide(parse_target(method, path, "api.example.org", Authority("api.example.org", 443)), rules)
    assert not isinstance(verdict, Allow)
    assert verdict.rule in {"no", closed}


def test_a_rule_that_allows_takes_a_call_only_as_it_is_written() -> None:
    rules = (Rule("api", "api.example.org", methods=frozenset({"GET"}), paths=("/open/me",)),)
    for method, path in (("get", "/open/me"), ("GET", "/open/ME"), ("GET", "/open/me/"), ("GET", "/open/me;a")):
        target = parse_target(method, path, "api.example.org", Authority("api.example.org", 443))
        assert isinstance(decide(target, rules), Deny)


def test_encoded_characters_in_a_query_are_left_alone() -> None:
    assert find_path_fault("/anthropic/v1/messages?a=%2f%25//..") is None


def test_the_form_of_a_target_is_recognised() -> None:
    assert parse_target("GET", "/x", OWN).form is Form.ORIGIN
    assert parse_target("GET", "/x", OWN).host == OWN_NAME
    assert parse_target("GET", "/x", "evil").form is Form.ABSOLUTE
    assert parse_target("CONNECT", "a:1", "a:1").form is Form.CONNECT


def test_a_port_and_a_user_part_are_not_part_of_a_host() -> None:
    assert split_authority("a@b:80", 443) == ("b", 443, "it names a user before the host")
    assert split_authority("[::1]:80", 443) == ("[::1]", 80, None)
    assert split_authority("[::1]", 443) == ("[::1]", 443, None)
    assert split_authority("b", 443) == ("b", 443, None)


def test_what_is_shown_of_an_agents_text_is_printable_and_short() -> None:
    assert shown("a\x1b[2J\nb c") == "a*[2J*b*c"
    assert len(shown("x" * 10_000)) == 255


@settings(max_examples=300, deadline=None)
@given(method=st.text(max_size=8), target=st.text(max_size=60), host=st.text(max_size=30))
def test_nothing_but_the_exact_model_paths_is_ever_allowed(method: str, target: str, host: str) -> None:
    for asked in (target, "/anthropic/" + target, "/anthropic/v1/messages" + target):
        verdict = verdict_of(method, asked, host)
        if isinstance(verdict, Allow):
            assert verdict.path.partition("?")[0] in {"/v1/messages", "/v1/messages/count_tokens"}
            assert method == "POST"
