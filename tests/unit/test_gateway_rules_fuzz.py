"""Random rules and calls against a second, naive matcher; random rule files against what must hold of any."""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.gateway.egress_words import RuleWords
from nanoclaw.gateway.policy import (
    Action,
    Allow,
    Ask,
    Deny,
    Hours,
    Moment,
    Rule,
    Verdict,
    decide,
    decide_tunnel,
    matches,
)
from nanoclaw.gateway.rule_edit import add_rule
from nanoclaw.gateway.rule_file import FileFault, RuleFile, parse_file, write_rule
from nanoclaw.gateway.rule_sets import SETS
from nanoclaw.gateway.rule_words import RuleFault, covers_rule, parse_rule, write_words
from nanoclaw.gateway.target import Authority, Form, Target, parse_target

SHORT, LONG = 300, 12_000
DEFAULT = "default"

hosts = st.sampled_from(["a.org", "b.a.org", "c.b.a.org", "org", "10.0.0.1", "a1.b.a.org"])
patterns = st.one_of(hosts, st.sampled_from(["*", "*.a.org", "*.org", "*.b.a.org"]))
segment = st.sampled_from(["a", "b", "admin", "ADMIN", "a;v=1", "a%2Fb", "%20", "c.d"])
paths = st.lists(segment, max_size=4).map(lambda parts: "/" + "/".join(parts))
path_patterns = st.tuples(st.lists(st.one_of(segment, st.just("*")), max_size=3), st.sampled_from(["", "**"])).map(
    lambda pair: "/" + "/".join([*pair[0], *([pair[1]] if pair[1] else [])])
)
methods = st.sampled_from(["GET", "POST", "PUT"])
moments = st.one_of(st.none(), st.builds(Moment, st.integers(0, 6), st.integers(0, 1439)))
windows = st.builds(
    Hours, st.integers(0, 1439), st.integers(1, 1440), st.frozensets(st.integers(0, 6), min_size=1)
).filter(lambda hours: hours.start != hours.end)


def build(number: int, host: str, given: tuple[Action, frozenset[str], list[str], Hours | None, bool, int]) -> Rule:
    action, names, listed, hours, slash, port = given
    return Rule(
        f"r{number}",
        host,
        action,
        port=port,
        tls=port != 80,
        methods=names,
        paths=tuple(listed) or ("/**",),
        hours=hours,
        encoded_slash=slash,
    )


rules = st.lists(
    st.tuples(
        patterns,
        st.tuples(
            st.sampled_from(list(Action)),
            st.frozensets(methods, max_size=2),
            st.lists(path_patterns, max_size=2),
            st.one_of(st.none(), st.none(), windows),
            st.booleans(),
            st.sampled_from([443, 443, 443, 80, 8443]),
        ),
    ),
    max_size=6,
).map(lambda drawn: tuple(build(number, host, given) for number, (host, given) in enumerate(drawn)))


def naive_host(pattern: str, host: str) -> bool:
    if pattern == host:
        return True
    if not re.fullmatch(r"[a-z0-9.-]+\.[a-z][a-z0-9-]*", host):
        return False
    return bool(re.fullmatch(r".+" if pattern == "*" else pattern.replace(".", r"\.").replace("*", r"[^.]+"), host))


def naive_path(pattern: str, path: str) -> bool:
    body = pattern.removesuffix("/**")
    parts = ("[^/]+" if part == "*" else re.escape(part) for part in body.split("/"))
    return re.fullmatch("/".join(parts) + ("(/.*)?" if body != pattern else ""), path) is not None


def loose(path: str) -> str:
    """As a server may read it that knows no case, drops path parameters and takes /a/ for /a."""
    return "/".join(part.split(";")[0] for part in unquote(path).lower().split("/")).rstrip("/")


def naive_time(hours: Hours, now: Moment) -> bool:
    """Walk the week minute by minute, as a person with a calendar would: which windows are open now?"""
    at = now.weekday * 1440 + now.minute
    length = (hours.end - hours.start) % 1440 or 1440
    return any((at - (day * 1440 + hours.start)) % (7 * 1440) < length for day in hours.days)


def naive_matches(rule: Rule, target: Target, now: Moment | None) -> bool:
    if (rule.tls, rule.port) != (target.form is not Form.ABSOLUTE, target.port):
        return False
    if not naive_host(rule.host, target.host) or (rule.methods and target.method not in rule.methods):
        return False
    if rule.hours is not None and now is None and rule.action is Action.ALLOW:
        return False
    if rule.hours is not None and now is not None and not naive_time(rule.hours, now):
        return False
    if rule.action is Action.ALLOW:
        if "%2f" in target.path.lower() and not rule.encoded_slash:
            return False
        return any(naive_path(pattern, target.path) for pattern in rule.paths)
    return any(
        naive_path(pattern, target.path) or naive_path(loose(pattern), loose(target.path)) for pattern in rule.paths
    )


def naive_verdict(target: Target, given: tuple[Rule, ...], now: Moment | None) -> tuple[str, str]:
    first = next((rule for rule in given if naive_matches(rule, target, now)), None)
    if first is None:
        return "deny", DEFAULT
    if first.action is Action.ASK and "%2f" in target.path.lower() and not first.encoded_slash:
        return "deny", first.name
    return first.action.value, first.name


def said(verdict: Verdict) -> tuple[str, str]:
    match verdict:
        case Allow(rule=rule):
            return "allow", rule.name
        case Ask(rule=rule):
            return "ask", rule.name
        case Deny(rule=name):
            return "deny", name


def check_verdict(given: tuple[Rule, ...], target: Target, now: Moment | None) -> None:
    assert said(decide(target, given, now)) == naive_verdict(target, given, now)
    if target.form is Form.TUNNEL and not isinstance(decide(target, given, now), Deny):
        opened = Target(Form.CONNECT, "CONNECT", target.host, "", "", target.port)
        assert decide_tunnel(opened, given) is None, "a call that is allowed can never be made"


def target_of(host: str, port: int, method: str, path: str) -> Target:
    if port == 80:
        return parse_target(method, f"http://{host}{path}", "")
    return parse_target(method, path, host if port == 443 else f"{host}:{port}", Authority(host, port))


targets = st.builds(target_of, hosts, st.sampled_from([443, 443, 443, 80, 8443]), methods, paths)


@settings(max_examples=SHORT, deadline=None)
@given(given=rules, target=targets, now=moments)
def test_a_verdict_is_what_a_naive_matcher_says(given: tuple[Rule, ...], target: Target, now: Moment | None) -> None:
    check_verdict(given, target, now)


@pytest.mark.long  # a minute of random rules and calls: the 300 above are the daily share
@settings(max_examples=LONG, deadline=None)
@given(given=rules, target=targets, now=moments)
def test_a_verdict_is_what_a_naive_matcher_says_twelve_thousand_times(
    given: tuple[Rule, ...], target: Target, now: Moment | None
) -> None:
    check_verdict(given, target, now)


def check_covers(pair: tuple[Rule, ...], target: Target, now: Moment | None) -> None:
    for first in pair:
        for second in pair:
            if covers_rule(first, second) and matches(second, target, now):
                assert matches(first, target, now), (first, second, target)


@settings(max_examples=SHORT, deadline=None)
@given(pair=rules, target=targets, now=moments)
def test_a_rule_that_is_said_to_be_covered_never_decides(
    pair: tuple[Rule, ...], target: Target, now: Moment | None
) -> None:
    check_covers(pair, target, now)


@pytest.mark.long  # as above
@settings(max_examples=LONG, deadline=None)
@given(pair=rules, target=targets, now=moments)
def test_a_rule_that_is_said_to_be_covered_never_decides_twelve_thousand_times(
    pair: tuple[Rule, ...], target: Target, now: Moment | None
) -> None:
    check_covers(pair, target, now)


odd = st.one_of(st.text(max_size=12), st.integers(), st.booleans(), st.lists(st.text(max_size=4), max_size=3))
keys = st.sampled_from([*RuleWords.__struct_fields__, "set", "hots", "x y", ""])
plain = st.fixed_dictionaries(
    {"host": patterns, "methods": st.lists(methods, min_size=1, max_size=2, unique=True)},
    optional={
        "name": st.sampled_from(["one", "two", "three.4"]),
        "group": st.sampled_from(["main", "andy"]),
        "action": st.sampled_from(["allow", "deny", "ask"]),
        "paths": st.lists(path_patterns, min_size=1, max_size=2),
        "hours": st.sampled_from(["08:00-18:00", "22:00-06:00", "00:00-24:00"]),
        "days": st.sampled_from(["mon-fri", "sat,sun", "sat-mon"]),
        "encoded_slash": st.just(True),
        "allow_private": st.just(True),
    },
)


def words_of(drawn: dict[str, object]) -> RuleWords:
    return msgspec.convert(drawn, RuleWords)


def check_words(drawn: dict[str, object]) -> None:
    """Words are refused, or say a rule that writes the same words again, in a file that is taken."""
    words = words_of(drawn)
    try:
        rule = parse_rule(words)
    except RuleFault:
        return
    assert parse_rule(write_words(rule)) == rule
    text = RuleFile((), (write_rule(words),)).text
    assert parse_file(text, SETS).rules == (rule,)
    assert parse_file(text, SETS).text == text


@settings(max_examples=SHORT, deadline=None)
@given(drawn=plain)
def test_words_and_rules_say_the_same_both_ways(drawn: dict[str, object]) -> None:
    check_words(drawn)


def check_changes(stories: list[dict[str, object]]) -> None:
    """Rules added one after the other always leave a file that is taken, the last word first among its like."""
    file = RuleFile()
    for words in map(words_of, stories):
        if any((rule.name, rule.group) == (words.name, words.group) for rule in file.rules):
            continue  # a name that is another rule's is refused
        try:
            made = add_rule(file, words).file
        except RuleFault:
            continue
        file = parse_file(made.text, SETS)
        assert file.text == made.text
        first = next(rule for rule in file.rules if (rule.host, rule.group) == (words.host, words.group))
        assert first.action.value == words.action, "the last word does not come first"


@settings(max_examples=SHORT, deadline=None)
@given(stories=st.lists(plain, max_size=6))
def test_changes_one_after_the_other_leave_a_file_that_is_taken(stories: list[dict[str, object]]) -> None:
    check_changes(stories)


@pytest.mark.long  # as above
@settings(max_examples=LONG, deadline=None)
@given(stories=st.lists(plain, max_size=8))
def test_changes_one_after_the_other_leave_a_file_that_is_taken_twelve_thousand_times(
    stories: list[dict[str, object]],
) -> None:
    check_changes(stories)


def check_file(text: str) -> None:
    """Any text is taken or refused with a line that it has; what is taken reads the same again."""
    try:
        file = parse_file(text, SETS)
    except FileFault as fault:
        line = fault.line
    else:
        line = 0
        assert parse_file(file.text, SETS) == file
    assert 0 <= line <= max(1, len(text.split("\n")))


lines = st.one_of(
    st.sampled_from(
        ["[[rule]]", "[[use]]", "[rule]", "", "# x", 'host = "a.org"', 'set = "github"', "[rule.x]", '"""']
    ),
    st.builds(lambda key, value: f"{key} = {value!r}", keys, odd),
    st.text(max_size=20),
)


@settings(max_examples=SHORT, deadline=None)
@given(text=st.lists(lines, max_size=12).map("\n".join))
def test_any_text_is_taken_or_refused_with_a_line_of_its_own(text: str) -> None:
    check_file(text)


@pytest.mark.long  # as above
@settings(max_examples=LONG, deadline=None)
@given(text=st.lists(lines, max_size=12).map("\n".join))
def test_any_text_is_taken_or_refused_with_a_line_of_its_own_twelve_thousand_times(text: str) -> None:
    check_file(text)
