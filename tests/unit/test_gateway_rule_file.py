"""Rule files: what is taken, what is refused, and that every refusal names its line."""

from __future__ import annotations

import pytest

from nanoclaw.gateway.policy import Action, Hours, Rate, Rule
from nanoclaw.gateway.rule_file import FILE_BYTES, FileFault, Use, parse_file
from nanoclaw.gateway.rule_sets import SETS, load_set
from nanoclaw.gateway.rule_words import covers_rule

WHOLE = """
# what Andy needs
[[rule]]
name = "weather"
host = "api.example.org"
group = "andy"
methods = ["GET", "POST"]
paths = ["/v1/*/now", "/v2/**"]
action = "ask"
inject = "weather-key"
rate = "60/minute"
hours = "08:00-18:00"
days = "mon-fri"
answer_limit = "10MB"
upgrade = true
encoded_slash = true

[[use]]
set = "packages"
group = "andy"

[[rule]] # plain http, in the house
host = "10.0.0.7"
scheme = "http"
port = 8080
allow_private = true
"""


def fault_of(text: str) -> FileFault:
    with pytest.raises(FileFault) as caught:
        parse_file(text, SETS)
    return caught.value


def rule_with(line: str) -> str:
    return f'[[rule]]\nhost = "api.example.org"\n{line}\n'


def test_every_key_of_a_rule_means_what_it_says() -> None:
    file = parse_file(WHOLE, SETS)
    assert file.uses == (Use("packages", "andy"),)
    assert file.rules == (
        Rule(
            name="weather",
            host="api.example.org",
            action=Action.ASK,
            group="andy",
            methods=frozenset({"GET", "POST"}),
            paths=("/v1/*/now", "/v2/**"),
            inject="weather-key",
            rate=Rate(60, 60),
            hours=Hours(480, 1080, frozenset(range(5))),
            answer_bytes=10_000_000,
            upgrade=True,
            encoded_slash=True,
        ),
        Rule(name="10.0.0.7", host="10.0.0.7", port=8080, tls=False, allow_private=True),
    )
    assert file.text == WHOLE


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("metods = []", "'metods' is no key of a rule"),
        ("port = '443'", "port: it is a number"),
        ("port = true", "port: it is a number"),
        ("port = 4.5", "port: it is a number"),
        ("port = 0", "from 1 to 65535"),
        ("port = 99999999999999999999999", "port: it is a number"),
        ("methods = 'GET'", "methods: it is a list"),
        ("methods = ['GET', 1]", "methods: it is a list"),
        ("methods = []", "an empty list allows nothing"),
        ("methods = ['get']", "'get' is no method"),
        ("methods = ['CONNECT']", "CONNECT only opens a tunnel"),
        ("paths = []", "an empty list allows nothing"),
        ("paths = ['v1']", "begins with `/`"),
        ("paths = ['/v1*']", "a whole segment"),
        ("paths = ['/**/x']", "`**` is the last segment"),
        ("paths = ['/a//b']", "empty segment"),
        ("paths = ['/a/../b']", "dot segment"),
        ("paths = ['/%61']", "hides its meaning"),
        ("paths = ['/a%2Fb']", "encoded_slash = true"),
        ("paths = ['/a?b']", "leave the query"),
        ("paths = ['/a b']", "not printable"),
        ("action = 'permit'", "allow, deny or ask"),
        ("scheme = 'ftp'", "https or http"),
        ("rate = '60 per minute'", "like 60/minute"),
        ("rate = '0/minute'", "like 60/minute"),
        ("rate = '99999/second'", "at most 10000"),
        ("hours = '8-18'", "like 08:00-18:00"),
        ("hours = '25:00-26:00'", "like 08:00-18:00"),
        ("hours = '08:00-08:00'", "begins when it ends"),
        ("days = 'monday'", "like mon-fri"),
        ("answer_limit = '10 megabytes'", "like 10MB"),
        ("name = 'My Rule'", "small letters"),
        ("name = 'telemetry'", "something of its own"),
        ("name = 'budget-held'", "something of its own"),
        ("group = '../etc'", "no folder"),
        ("inject = 'Key'", "no name of a secret"),
        ("model = 'gpt'", "anthropic or openai"),
        ("upgrade = 'yes'", "true or false"),
        ("upgrade = true\nmodel = 'openai'", "no budget would hold"),
        ("rule.x = 1", "'rule' is no key of a rule"),
        ("port = 443 443", "not valid TOML"),
        ("port = 443\nport = 443", "not valid TOML"),
        ("name = '''x'''", "over several lines"),
        ("host = 'b.example.org'", "not valid TOML"),
    ],
)
def test_a_typo_is_named_with_its_line_and_what_to_write(line: str, said: str) -> None:
    fault = fault_of("# a comment\n\n" + rule_with(line))
    assert said in str(fault)
    assert fault.line in {5, 6}
    assert str(fault).startswith(f"line {fault.line}: ")
    assert fault.line == 5 or "port = 443\nport" in line


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("HTTPS://Api.Example.ORG/", "write the host alone, 'api.example.org'"),
        ("https://api.example.org", "write the host alone, 'api.example.org'"),
        ("https://api.example.org/v1", "write the host alone, 'api.example.org'"),
        ("api.example.org/v1", "a path goes into `paths`"),
        ("api.example.org:8443", "(--port): 8443"),
        ("API.example.org", "small letters: 'api.example.org'"),
        ("api.example.org.", "without the dot at its end: 'api.example.org'"),
        ("a*.example.org", "exactly one whole label"),
        ("*.*.example.org", "exactly one whole label"),
        ("**.example.org", "exactly one whole label"),
        ("api.*.org", "exactly one whole label"),
        ("*.", "without the dot"),
        ("", "empty"),
        (" api.example.org", "blanks"),
        ("bücher.example", "'xn--bcher-kva.example'"),
        ("2130706433", "neither a host name nor an address"),
        ("0x7f.1", "neither a host name nor an address"),
        ("127.1", "neither a host name nor an address"),
        ("::1", "neither a host name nor an address"),
        ("[::0:1]", "neither a host name nor an address"),
        ("127.0.0.1", "no public address: add allow_private"),
        ("[::1]", "no public address: add allow_private"),
        ("169.254.169.254", "no public address: add allow_private"),
        ("gateway", "the gateway itself"),
        ("ex_ample..org", "neither a host name nor an address"),
    ],
)
def test_a_host_that_is_not_written_plainly_is_refused_with_what_to_type(host: str, said: str) -> None:
    fault = fault_of(f'[[rule]]\nhost = "{host}"\n')
    assert said in str(fault)
    assert fault.line == 2


def test_a_rule_for_every_host_does_not_open_the_private_network() -> None:
    fault = fault_of('[[rule]]\nhost = "*"\nmethods = ["GET"]\nallow_private = true\n')
    assert (fault.line, "name the host" in str(fault)) == (4, True)


@pytest.mark.parametrize("host", ["*", "*.example.org", "example.org", "localhost", "8.8.8.8", "[2606:4700::1111]"])
def test_a_plain_host_is_taken(host: str) -> None:
    assert parse_file(f'[[rule]]\nhost = "{host}"\n', SETS).rules[0].host == host


@pytest.mark.parametrize(
    ("words", "line", "said"),
    [
        ('host = "a.org"\ninject = "key"', 2, "list them when a secret is put on"),
        ('host = "a.org"\nmethods = ["GET"]\nscheme = "http"\ninject = "key"', 5, "unencrypted"),
        ('host = "*.a.org"\nmethods = ["GET"]\ninject = "key"', 4, "a secret goes to one host"),
        ('host = "a.org"\nmethods = ["GET"]\naction = "deny"\ninject = "key"', 5, "denies puts no secret on"),
        ('host = "a.org"\naction = "deny"\nrate = "1/day"', 4, "no meaning in a rule that denies"),
    ],
)
def test_a_secret_only_goes_where_it_is_safe(words: str, line: int, said: str) -> None:
    fault = fault_of(f"[[rule]]\n{words}\n")
    assert said in str(fault)
    assert fault.line == (1 if said.startswith("list them") else line)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[rule]\nhost = 'a.org'\n", 1, "under a line of its own"),
        ("rule = [{host = 'a.org'}]\n", 1, "under a line of its own"),
        ("rule = 3\n", 1, "under a line of its own"),
        ("\n[rules]\n", 2, "'rules' is unknown"),
        ("\nversion = 2\n", 2, "'version' is unknown"),
        ("[[rule]]\nname = 'x'\n", 1, "a rule names a host"),
        ("[[use]]\nset = 'everything'\n", 2, "web-read, packages, github"),
        ("[[use]]\n", 1, "web-read, packages, github"),
        ("[[use]]\nset = 'github'\ngroup = '..'\n", 3, "no folder"),
        ("[[use]]\nset = 'github'\n\n[[use]]\nset = 'github'\n", 5, "used already, in line 1"),
        ("[[rule]]\nhost = 'a.org'\n[rule.paths]\nx = 1\n", 3, "paths: it is a list"),
        ("[[rule]\n", 1, "not valid TOML"),
        ("x" * (FILE_BYTES + 1), 0, "at most 256 KiB"),
        ("a = " + "[" * 100_000, 0, "too deep"),
        ("port = " + "9" * 5_000, 1, "not valid TOML"),
        ("[[rule]]\nhost = 'a.org'\n" * 1_001, 0, "at most 1000 rules"),
    ],
)
def test_a_file_that_is_no_list_of_rules_is_refused(text: str, line: int, said: str) -> None:
    fault = fault_of(text)
    assert said in str(fault)
    assert fault.line == line


def test_two_rules_of_one_name_in_one_group_are_refused_and_in_two_groups_they_are_not() -> None:
    two = "[[rule]]\nname = 'x'\nhost = 'a.org'\ngroup = 'g'\n[[rule]]\nname = 'x'\nhost = 'b.org'\ngroup = '{}'\n"
    assert len(parse_file(two.format("h"), SETS).rules) == 2
    fault = fault_of(two.format("g"))
    assert (fault.line, "line 1 is called 'x' too" in str(fault)) == (6, True)


def test_a_rule_that_an_earlier_one_covers_wholly_is_refused() -> None:
    dead = "[[rule]]\nhost = '*.a.org'\nmethods = ['GET', 'POST']\n\n[[rule]]\nhost = 'b.a.org'\nmethods = ['GET']\n"
    fault = fault_of(dead)
    assert (fault.line, "never decides: the rule 'any.a.org' in line 1 comes first" in str(fault)) == (5, True)
    assert len(parse_file(dead.replace("b.a.org", "c.b.a.org"), SETS).rules) == 2


@pytest.mark.parametrize(
    ("first", "second", "covered"),
    [
        ({}, {}, True),
        ({"methods": frozenset({"GET"})}, {}, False),
        ({}, {"methods": frozenset({"GET"})}, True),
        ({"port": 8443}, {}, False),
        ({"tls": False}, {}, False),
        ({"hours": Hours(0, 60)}, {}, False),
        ({"hours": Hours(0, 60)}, {"hours": Hours(0, 60)}, True),
        ({}, {"encoded_slash": True}, False),
        ({"encoded_slash": True}, {}, True),
        ({}, {"action": Action.DENY}, False),
        ({"action": Action.DENY}, {"action": Action.DENY}, True),
        ({"action": Action.DENY}, {"encoded_slash": True}, True),
        ({"paths": ("/a/**",)}, {"paths": ("/a",)}, True),
        ({"paths": ("/a/**",)}, {"paths": ("/a/b/**", "/a/*")}, True),
        ({"paths": ("/a/**",)}, {"paths": ("/a/b", "/b")}, False),
        ({"paths": ("/*",)}, {"paths": ("/a",)}, True),
        ({"paths": ("/*",)}, {"paths": ("/**",)}, False),
        ({"paths": ("/*",)}, {"paths": ("/",)}, False),
        ({"paths": ("/a/*/**",)}, {"paths": ("/a/**",)}, False),
        ({"paths": ("/*",), "action": Action.DENY}, {"paths": ("/%20",), "action": Action.DENY}, False),
    ],
)
def test_whether_one_rule_covers_another(first: dict[str, object], second: dict[str, object], *, covered: bool) -> None:
    assert covers_rule(Rule("a", "a.org", **first), Rule("b", "a.org", **second)) is covered  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SETS)
def test_a_ready_made_set_is_in_order(name: str) -> None:
    rules = load_set(name)
    assert rules
    assert all(rule.name.startswith(name) and rule.methods and rule.action is Action.ALLOW for rule in rules)


def test_the_ready_made_sets_only_read() -> None:
    for rule in (rule for name in SETS for rule in load_set(name)):
        assert rule.methods <= {"GET", "HEAD"} or rule.paths == ("/*/*/git-upload-pack",)
        assert not rule.allow_private
    assert [(rule.host, rule.answer_bytes) for rule in load_set("web-read")] == [("*", 10_000_000)]
    assert {rule.port for rule in load_set("packages")} == {80, 443}
