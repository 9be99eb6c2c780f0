"""What single rules say of single calls: hosts, ports, methods, paths and hours, each at its border."""

from __future__ import annotations

import pytest

from nanoclaw.gateway.policy import Action, Allow, Ask, Deny, Hours, Moment, Rule, decide, decide_tunnel
from nanoclaw.gateway.target import OWN_NAME, Authority, Form, Target, parse_target

ALL = Rule("all", "*")
SUNDAY, MONDAY, TUESDAY = 6, 0, 1


def asked(path: str = "/x", method: str = "GET", host: str = "a.example.org", port: int = 443) -> Target:
    return parse_target(method, path, host if port == 443 else f"{host}:{port}", Authority(host, port))


def said(target: Target, *rules: Rule, now: Moment | None = None) -> str:
    match decide(target, rules, now):
        case Allow(rule=rule):
            return f"allow {rule.name}"
        case Ask(rule=rule):
            return f"ask {rule.name}"
        case Deny(rule=name):
            return f"deny {name}"


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("*", "example.org", True),
        ("*", "a.b.example.org", True),
        ("*", "localhost", False),
        ("*", "10.0.0.1", False),
        ("*", "[fd00::1]", False),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", False),
        ("*.example.org", "example.org", False),
        ("*.0.0.1", "10.0.0.1", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("localhost", "localhost", True),
    ],
)
def test_a_star_is_for_names_and_one_label(pattern: str, host: str, *, covered: bool) -> None:
    assert said(asked(host=host), Rule("r", pattern)) == ("allow r" if covered else "deny default")


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/", False),
        ("/a/*", "/a/b/c", False),
        ("/a/**", "/a", True),
        ("/a/**", "/a/", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab", False),
        ("/a/*/c", "/a/b/c", True),
        ("/a/*/c", "/a//c", False),
        ("/a", "/A", False),
        ("/a", "/a/", False),
        ("/a", "/a;x", False),
    ],
)
def test_a_rule_that_allows_takes_a_path_as_it_is_written(pattern: str, path: str, *, covered: bool) -> None:
    assert said(asked(path), Rule("r", "*", paths=(pattern,))).startswith("allow" if covered else "deny")


@pytest.mark.parametrize("action", [Action.DENY, Action.ASK])
@pytest.mark.parametrize(
    "path", ["/admin/keys", "/Admin/keys", "/admin;x=1/keys", "/admin%3bx/keys", "/ADMIN/Keys;v/", "/admin/keys/"]
)
def test_what_a_server_may_take_for_a_denied_path_is_denied_too(path: str, action: Action) -> None:
    assert said(asked(path), Rule("closed", "*", action, paths=("/admin/keys",)), ALL) == f"{action} closed"
    assert said(asked("/admin/keys2"), Rule("closed", "*", action, paths=("/admin/keys",)), ALL) == "allow all"


@pytest.mark.parametrize("path", ["/open/..;/admin", "/open/..;x=1/admin", "/open/.;/admin", "/..;"])
def test_a_dot_segment_with_parameters_is_one_as_some_servers_read_it(path: str) -> None:
    assert said(asked(path), ALL) == "deny canonical"


@pytest.mark.parametrize("path", ["/a%2e/b", "/a%2d", "/a%2D", "/%2e%2e/b"])
def test_an_encoded_dot_or_dash_hides_what_it_is(path: str) -> None:
    assert said(asked(path), ALL) == "deny canonical"


@pytest.mark.parametrize("method", ["delete", "Delete", "DELETE"])
def test_a_method_in_other_letters_goes_past_no_rule_that_denies(method: str) -> None:
    closed = Rule("closed", "*", Action.DENY, methods=frozenset({"DELETE"}))
    assert said(asked(method=method), closed, ALL) == "deny closed"
    assert said(asked(method="GET"), closed, ALL) == "allow all"
    assert said(asked(method=method), Rule("r", "*", methods=frozenset({"DELETE"}))).startswith(
        "allow" if method == "DELETE" else "deny"
    )


def test_a_rule_is_for_one_port_and_one_scheme() -> None:
    assert said(asked(port=8443), ALL) == "deny default"
    assert said(asked(port=8443), Rule("r", "*", port=8443)) == "allow r"
    plain = parse_target("GET", "http://a.example.org/", "a.example.org")
    assert said(plain, Rule("r", "*", port=80)) == "deny default"
    assert said(plain, Rule("r", "*", port=80, tls=False)) == "allow r"
    other = parse_target("GET", "http://a.example.org/", "a.example.org:8080")
    assert said(other, Rule("r", "*", port=80, tls=False)) == "deny canonical"


def test_no_rule_is_about_the_gateway_itself() -> None:
    own = Rule("own", OWN_NAME)
    assert said(parse_target("GET", "/x", "127.0.0.1:3128"), own) == "deny default"
    assert said(Target(Form.ORIGIN, "GET", OWN_NAME, "/x"), own, ALL) == "deny default"


def test_an_encoded_slash_is_asked_about_only_where_the_rule_says_so() -> None:
    assert said(asked("/a%2Fb"), Rule("r", "*", Action.ASK), ALL) == "deny r"
    assert said(asked("/a%2fb"), Rule("r", "*", Action.ASK, encoded_slash=True), ALL) == "ask r"
    assert said(asked("/a%2Fb"), ALL) == "deny default"
    assert said(asked("/a%2Fb"), Rule("r", "*", encoded_slash=True)) == "allow r"
    assert said(asked("/a%2Fb"), Rule("closed", "*", Action.DENY, paths=("/a/b",)), ALL) == "deny closed"


@pytest.mark.parametrize(
    ("weekday", "time", "open_"),
    [
        (MONDAY, "07:59", False),
        (MONDAY, "08:00", True),
        (MONDAY, "17:59", True),
        (MONDAY, "18:00", False),
        (TUESDAY, "09:00", False),
    ],
)
def test_a_window_begins_with_its_first_minute_and_ends_before_its_last(
    weekday: int, time: str, *, open_: bool
) -> None:
    rule = Rule("office", "*", hours=Hours(8 * 60, 18 * 60, frozenset({MONDAY})))
    now = Moment(weekday, int(time[:2]) * 60 + int(time[3:]))
    assert said(asked(), rule, now=now) == ("allow office" if open_ else "deny default")


@pytest.mark.parametrize(
    ("weekday", "time", "open_"),
    [
        (SUNDAY, "23:00", False),
        (MONDAY, "21:59", False),
        (MONDAY, "22:00", True),
        (TUESDAY, "05:59", True),
        (TUESDAY, "06:00", False),
        (MONDAY, "05:00", False),
        (TUESDAY, "22:00", False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_began(weekday: int, time: str, *, open_: bool) -> None:
    rule = Rule("night", "*", hours=Hours(22 * 60, 6 * 60, frozenset({MONDAY})))
    now = Moment(weekday, int(time[:2]) * 60 + int(time[3:]))
    assert said(asked(), rule, now=now) == ("allow night" if open_ else "deny default")


@pytest.mark.parametrize("action", [Action.DENY, Action.ASK])
def test_with_no_time_known_a_rule_that_allows_says_nothing_and_every_other_speaks(action: Action) -> None:
    hours = Hours(0, 60)
    assert said(asked(), Rule("open", "*", hours=hours)) == "deny default"
    assert said(asked(), Rule("r", "*", action, hours=hours), ALL) == f"{action} r"


def tunnel(*rules: Rule, host: str = "a.example.org", port: int = 443) -> str:
    denied = decide_tunnel(parse_target("CONNECT", f"{host}:{port}", ""), rules)
    return "opened" if denied is None else denied.rule


def test_a_tunnel_is_opened_where_a_call_in_it_could_be_allowed() -> None:
    closed = Rule("closed", "*", Action.DENY)
    assert tunnel(ALL) == "opened"
    assert tunnel(Rule("r", "*", Action.ASK)) == "opened"
    assert tunnel(closed, ALL) == "closed"
    assert tunnel(ALL, port=8443) == "default"
    assert tunnel(Rule("r", "*", port=443, tls=False)) == "default"
    assert tunnel() == "default"
    assert tunnel(ALL, host="10.0.0.1") == "default"


@pytest.mark.parametrize(
    "narrow",
    [
        Rule("r", "*", Action.DENY, methods=frozenset({"POST"})),
        Rule("r", "*", Action.DENY, paths=("/admin/**",)),
        Rule("r", "*", Action.DENY, hours=Hours(0, 60)),
    ],
)
def test_a_rule_that_denies_part_of_a_host_closes_no_tunnel(narrow: Rule) -> None:
    assert tunnel(narrow, ALL) == "opened"
