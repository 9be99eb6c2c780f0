"""The rulebook: order, changes, generations on disk, and what a crash or a broken file leaves in force."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nanoclaw.errors import NanoClawError
from nanoclaw.gateway import control
from nanoclaw.gateway.egress_words import RuleWords
from nanoclaw.gateway.policy import DEFAULT_RULES, TELEMETRY, Action, Allow, Deny, Moment, Rule, decide
from nanoclaw.gateway.rule_file import Use
from nanoclaw.gateway.rules import Changed, Rulebook
from nanoclaw.gateway.target import Authority, Form, Target, parse_target
from tests.unit.rule_stand import BY, Noon, allow, call, done, names, opened


def test_a_new_home_has_the_built_in_rules_alone(tmp_path: Path) -> None:
    book = opened(tmp_path)
    assert (book.generation, book.fault) == (0, "")
    assert [rule.name for rule in book.rules_for("main") if rule.name != TELEMETRY] == ["model"]
    assert not (tmp_path / "rules").exists()


def test_a_model_rule_is_there_while_its_secret_is(tmp_path: Path) -> None:
    secrets: dict[str, tuple[str, ...]] = {}
    book = opened(tmp_path, secrets)
    assert "openai" not in [rule.name for rule in book.rules_for("main")]
    secrets["openai"] = ("api.openai.com",)
    assert "openai" in [rule.name for rule in book.rules_for("main")]
    assert "api.openai.com" in book.exact_hosts("main")
    del secrets["openai"]
    assert "openai" not in [rule.name for rule in book.rules_for("main")]


def test_a_change_makes_the_next_generation_and_is_there_after_a_restart(tmp_path: Path) -> None:
    book = opened(tmp_path)
    assert done(book.add_words(allow("a.org"), BY)) == Changed(1)
    assert done(book.add_words(allow("b.org", group="main"), BY)).generation == 2
    for seen in (book, opened(tmp_path)):
        assert seen.generation == 2
        assert names(seen, "main") == ["b.org", "a.org"]
        assert names(seen, "other") == ["a.org"]
    assert [(line.generation, line.by, line.what, line.in_force) for line in book.list_generations()] == [
        (1, BY, "allow a.org as a.org", False),
        (2, BY, "allow b.org as b.org for main", True),
    ]


def test_a_groups_rules_come_first_then_everybodys_then_built_in_ones_then_sets(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.use_set(Use("web-read"), BY))
    done(book.use_set(Use("packages", "main"), BY))
    done(book.add_words(allow("a.org", name="every"), BY))
    done(book.add_words(allow("a.org", name="own", group="main"), BY))
    order = [found.rule.name for found in book.sourced_for("main")]
    assert order[:3] == ["own", "every", "model"]
    assert order.index(TELEMETRY) < order.index("packages.pypi") < order.index("web-read")
    assert [found.source for found in book.sourced_for("main")][-1] == "set web-read"


def test_a_set_for_every_host_opens_neither_telemetry_nor_the_gateway_itself(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.use_set(Use("web-read"), BY))
    rules = book.rules_for("main")
    assert isinstance(decide(call("example.org"), rules), Allow)
    denied = decide(call("statsig.anthropic.com", "/v1/rgstr"), rules)
    assert isinstance(denied, Deny)
    assert denied.rule == TELEMETRY
    assert isinstance(decide(parse_target("GET", "/x", "127.0.0.1:3128"), rules), Deny)
    assert isinstance(decide(Target(Form.CONNECT, "GET", "gateway", "/"), rules), Deny)
    assert isinstance(decide(call("localhost"), rules), Deny)


def test_a_sets_secret_is_put_on_where_it_is_set_and_bound(tmp_path: Path) -> None:
    secrets: dict[str, tuple[str, ...]] = {}
    book = opened(tmp_path, secrets)
    done(book.use_set(Use("github"), BY))
    assert {rule.inject for rule in book.rules_for("main") if rule.name.startswith("github")} == {""}
    secrets["github"] = ("github.com", "api.github.com")
    injected = {rule.host for rule in book.rules_for("main") if rule.inject == "github"}
    assert injected == {"github.com", "api.github.com"}


def test_the_github_set_reads_and_never_pushes(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.use_set(Use("github"), BY))
    rules = book.rules_for("main")
    assert isinstance(decide(call("github.com", "/a/b.git/info/refs?service=git-upload-pack"), rules), Allow)
    assert isinstance(decide(call("github.com", "/a/b.git/git-upload-pack", "POST"), rules), Allow)
    assert isinstance(decide(call("github.com", "/a/b.git/git-receive-pack", "POST"), rules), Deny)
    assert isinstance(decide(call("api.github.com", "/user/repos", "POST"), rules), Deny)


def test_the_last_word_wins_and_what_it_covers_goes(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.add_words(allow("a.org", methods=("GET",)), BY))
    done(book.add_words(allow("*"), BY))
    changed = done(book.add_words(RuleWords("a.org", action="deny"), BY))
    assert changed.notes == ("It takes the place of the rule 'a.org'.",)
    assert isinstance(decide(call("a.org"), book.rules_for("main")), Deny)
    assert isinstance(decide(call("b.org"), book.rules_for("main")), Allow)
    assert names(book) == ["a.org", "every-host"]


def test_what_is_said_of_one_host_is_not_undone_by_what_is_said_of_many(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.add_words(RuleWords("evil.org", action="deny"), BY))
    done(book.add_words(allow("*"), BY))
    done(book.add_words(allow("*.good.org"), BY))
    assert names(book) == ["evil.org", "any.good.org", "every-host"]
    assert isinstance(decide(call("evil.org"), book.rules_for("main")), Deny)


def test_a_second_rule_of_a_host_gets_a_free_name(tmp_path: Path) -> None:
    book = opened(tmp_path)
    for method in ("GET", "POST", "PUT"):
        done(book.add_words(allow("a.org", methods=(method,)), BY))
    assert sorted(names(book)) == ["a.org", "a.org-2", "a.org-3"]


def test_deny_closes_a_host_at_every_door_that_a_rule_opens(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.use_set(Use("packages"), BY))
    done(book.add_words(allow("deb.debian.org", port=8443), BY))
    done(book.deny("deb.debian.org", "", BY))
    rules = book.rules_for("main")
    assert isinstance(decide(call("deb.debian.org"), rules), Deny)
    assert isinstance(decide(parse_target("GET", "http://deb.debian.org/x", ""), rules), Deny)
    assert isinstance(
        decide(parse_target("GET", "/", "deb.debian.org:8443", Authority("deb.debian.org", 8443)), rules), Deny
    )
    assert isinstance(decide(call("pypi.org"), rules), Allow)


def test_deny_of_a_rule_by_name_keeps_what_it_is_about(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.add_words(allow("a.org", name="weather", paths=("/v1/**",), rate="1/day"), BY))
    done(book.deny("weather", "", BY))
    assert [(r.name, r.action, r.paths, r.rate) for r in book.rules_for("")][:1] == [
        ("weather", Action.DENY, ("/v1/**",), None)
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda book: book.deny("https://a.org", "", BY), "write the host alone, 'a.org'"),
        (lambda book: book.remove("nothing", None, BY), "There is no rule 'nothing'"),
        (lambda book: book.remove("a.org", None, BY), "more than once: for every agent, main"),
        (lambda book: book.revert(9, BY), "no generation 9"),
        (lambda book: book.apply("[[rule]]\nhost = 'a.org'\nmetods = ['GET']\n", BY), "line 3: 'metods' is no key"),
        (lambda book: book.apply("[[rule]]\n[[rule]]\n", BY), "line 1: a rule names a host"),
        (lambda book: book.add_words(allow("a.org", inject="key"), BY), "methods: list them"),
        (lambda book: book.add_words(allow("a.org", inject="k", methods=("GET",)), BY), "bound to b.org, not to a.org"),
        (lambda book: book.use_set(Use("github"), BY), "in force already"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(
    tmp_path: Path, change: Callable[[Rulebook], Coroutine[Any, Any, Changed]], said: str
) -> None:
    book = opened(tmp_path, {"k": ("b.org",)})
    done(book.apply("[[use]]\nset='github'\n[[rule]]\nhost='a.org'\n[[rule]]\nhost='a.org'\ngroup='main'\n", BY))
    before = (book.generation, book.text(), book.rules_for("main"))
    with pytest.raises(NanoClawError) as caught:
        done(change(book))
    assert said in str(caught.value)
    assert (book.generation, book.text(), book.rules_for("main")) == before
    assert opened(tmp_path).text() == before[1]


def test_what_a_person_wrote_around_the_rules_is_kept(tmp_path: Path) -> None:
    book = opened(tmp_path)
    text = "# our rules\n\n# the weather\n[[rule]]\nhost = 'a.org' # a comment\n"
    done(book.apply(text, BY))
    done(book.add_words(allow("b.org"), BY))
    assert (
        book.text()
        == '# our rules\n\n[[rule]]\nhost = "b.org"\nname = "b.org"\naction = "allow"\n\n' + text.partition("\n\n")[2]
    )
    done(book.remove("b.org", None, BY))
    assert book.text() == text
    done(book.remove("a.org", None, BY))
    assert book.text() == "# our rules\n\n"


def test_a_yes_is_carried_out_once_however_often_it_comes(tmp_path: Path) -> None:
    rule = Rule("a.org", "a.org", group="main")
    book = opened(tmp_path)
    assert [done(book.add(rule, "u1", "ap1")), done(book.add(rule, "u1", "ap1"))] == [1, 1]
    done(book.remove("a.org", None, BY))
    again = opened(tmp_path)
    assert done(again.add(rule, "u1", "ap1")) == 1
    assert names(again, "main") == []
    assert done(again.add(rule, "u1", "ap2")) == 3


def test_a_group_that_is_erased_leaves_no_rule_to_the_next_of_its_folder(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.apply("[[use]]\nset='github'\ngroup='main'\n[[rule]]\nhost='a.org'\ngroup='main'\n", BY))
    done(book.add_words(allow("b.org"), BY))
    assert done(book.forget_group("main", "the host")).generation == 3
    assert names(book, "main") == ["b.org"]
    assert done(book.forget_group("main", "the host")).generation == 3


def test_hours_are_judged_in_the_operators_time_zone(tmp_path: Path) -> None:
    book = opened(tmp_path)
    assert book.moment() == Moment(0, 12 * 60 + 30)
    book.set_timezone("Asia/Tokyo")
    assert book.moment() == Moment(0, 21 * 60 + 30)
    book.set_timezone("Mars/Olympus")
    assert book.moment() == Moment(0, 12 * 60 + 30)


def test_the_host_is_told_the_names_of_each_group_in_packets_that_fit(tmp_path: Path) -> None:
    book = opened(tmp_path)
    label = "x" * 60
    rules = "".join(
        f"[[rule]]\nhost='h{n}.{label}.{label}.{label}.{label}.org'\nname='r{n}'\ngroup='g{n % 40}'\n"
        for n in range(400)
    )
    done(book.apply(rules + "[[rule]]\nhost='*.a.org'\n[[rule]]\nhost='b.org'\nport=8443\n", BY))
    told = list(book.host_messages())
    assert [message.part for message in told] == list(range(len(told)))
    assert all(len(msgspec.json.encode(message)) < control.PACKET_BYTES for message in told)
    together: dict[str, list[str]] = {}
    for message in told:
        together |= message.hosts
    assert together[""] == ["api.anthropic.com"]
    assert len(together) == 41
    assert all(set(found) == set(book.exact_hosts(folder)) for folder, found in together.items())


def test_a_change_is_in_the_audit_before_it_is_in_force_and_told_after(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    async def note(verb: str, what: str) -> None:
        seen.append((f"{verb}: {what}", book.generation))

    book = Rulebook(tmp_path, Noon(), note=note, changed=lambda: seen.append(("told", book.generation)))
    done(book.add_words(allow("a.org"), BY))
    done(book.revert(None, BY))
    assert seen == [
        ("egress.change: allow a.org as a.org, by uid 0", 0),
        ("told", 1),
        ("egress.revert: generation 0 in place of 1, by uid 0", 1),
        ("told", 0),
    ]


def test_built_in_rules_hold_no_secret_for_a_host_of_telemetry() -> None:
    assert all(not rule.inject for rule in DEFAULT_RULES if rule.name == TELEMETRY)
