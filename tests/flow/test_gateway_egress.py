"""Rules in a real gateway process: what an operator changes counts for the next call, and lasts over a kill."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nanoclaw.errors import OperatorError, Refused
from nanoclaw.gateway import admin_words, control, egress_words
from nanoclaw.gateway.egress_words import RuleWords
from tests.flow.gateway_stand import Gateway, StandIn, running, until

pytestmark = pytest.mark.ci  # a gateway process for each: ten seconds; the rules themselves are in tests/unit

BY = f"uid {os.getuid()}"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path / "gateway", StandIn()) as found:
        found.client.open_turn("s1", 1, "owner")
        yield found


async def judge(gateway: Gateway, url: str, folder: str = "main", method: str = "GET") -> egress_words.CallJudged:
    return await ask(gateway, egress_words.EgressTest(url, folder, method), egress_words.CallJudged)


async def ask(gateway: Gateway, request: Any, kind: Any) -> Any:
    return await gateway.ask(request, kind)


async def change(gateway: Gateway, request: Any) -> egress_words.RulesChange:
    return await ask(gateway, request, egress_words.RulesChange)


async def test_what_is_allowed_counts_at_once_and_is_in_the_audit(gateway: Gateway) -> None:
    assert (await judge(gateway, "https://api.example.org/v1")).verdict == "deny"
    changed = await change(gateway, egress_words.EgressAdd(RuleWords("api.example.org", group="main")))
    assert changed.generation == 1
    assert (await judge(gateway, "https://api.example.org/v1")).rule == "api.example.org"
    assert (await judge(gateway, "https://api.example.org/v1", "other")).verdict == "deny"
    rows = [row for row in await gateway.audit() if row.event == "changed"]
    assert [(row.rule, row.reason) for row in rows] == [
        ("egress.change", f"allow api.example.org as api.example.org for main, by {BY}")
    ]


async def test_the_host_learns_which_names_each_group_may_reach(gateway: Gateway) -> None:
    await until(lambda: gateway.client.rules.hosts_for("main") == ("api.anthropic.com",))
    await change(gateway, egress_words.EgressAdd(RuleWords("api.example.org", group="main")))
    await until(lambda: gateway.client.rules.hosts_for("main") == ("api.example.org", "api.anthropic.com"))
    assert gateway.client.rules.hosts_for("other") == ("api.anthropic.com",)
    assert gateway.client.outside.names_for("main") == ("api.example.org", "api.anthropic.com")
    await gateway.ask(admin_words.VaultSet("openai", "sk-proj-0123456789abcdef0123456789"), admin_words.SecretLine)
    await until(lambda: "api.openai.com" in gateway.client.rules.hosts_for("other"))


async def test_a_killed_gateway_has_the_same_rules_in_its_next_life(gateway: Gateway) -> None:
    await change(gateway, egress_words.EgressAdd(RuleWords("a.org")))
    await change(gateway, egress_words.EgressAdd(RuleWords("b.org")))
    pid = gateway.client.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: gateway.client.pid not in (None, pid) and gateway.client.ready.is_set())
    found = await ask(gateway, egress_words.EgressList("main"), egress_words.RuleList)
    assert (found.generation, [line.rule.name for line in found.rules][:3]) == (2, ["b.org", "a.org", "model"])


async def test_a_file_with_a_typo_names_its_line_and_the_old_rules_stay(gateway: Gateway) -> None:
    await change(gateway, egress_words.EgressApply("[[rule]]\nhost = 'a.org'\n"))
    with pytest.raises(OperatorError, match="line 3: 'metods' is no key of a rule"):
        await change(gateway, egress_words.EgressApply("[[rule]]\nhost = 'b.org'\nmetods = ['GET']\n"))
    assert await ask(gateway, egress_words.EgressShow(), str) == "[[rule]]\nhost = 'a.org'\n"
    assert (await judge(gateway, "a.org")).verdict == "allow"
    assert (await judge(gateway, "b.org")).verdict == "deny"


async def test_a_file_of_many_rules_fits_through_the_admin_socket(gateway: Gateway) -> None:
    text = "".join(
        f"[[rule]]\nhost = 'host{number}.example.org'\npaths = ['/a/{number}/**']\n" for number in range(999)
    )
    assert (await change(gateway, egress_words.EgressApply(text))).generation == 1
    assert (await judge(gateway, "https://host998.example.org/a/998/x")).verdict == "allow"
    await until(lambda: len(gateway.client.rules.hosts_for("main")) == 200)


async def test_every_kind_of_change_is_told_and_can_be_taken_back(gateway: Gateway) -> None:
    await change(gateway, egress_words.EgressUse("packages", "main"))
    assert (await judge(gateway, "http://deb.debian.org/debian/x")).source == "set packages"
    await change(gateway, egress_words.EgressDeny("deb.debian.org", "main"))
    assert (await judge(gateway, "http://deb.debian.org/debian/x")).verdict == "deny"
    await change(gateway, egress_words.EgressRemove("deb.debian.org-80"))
    assert (await judge(gateway, "http://deb.debian.org/debian/x")).verdict == "allow"
    assert (await change(gateway, egress_words.EgressRevert())).generation == 2
    assert (await judge(gateway, "http://deb.debian.org/debian/x")).verdict == "deny"
    log = await ask(gateway, egress_words.EgressLog(), list[egress_words.GenerationLine])
    assert [(line.generation, line.what, line.by, line.in_force) for line in log] == [
        (1, "use packages for main", BY, False),
        (2, "deny deb.debian.org for main", BY, True),
        (3, "remove deb.debian.org-80 for main", BY, False),
    ]


async def test_a_secret_that_waits_for_its_rule_is_pointed_out(gateway: Gateway) -> None:
    await gateway.ask(admin_words.VaultSet("weather", "0123456789abcdef", ("api.example.org",)), admin_words.SecretLine)
    changed = await change(gateway, egress_words.EgressAdd(RuleWords("api.example.org", methods=("GET",))))
    assert "--inject weather" in changed.notes[0]
    with pytest.raises(OperatorError, match=r"bound to api\.example\.org, not to evil\.org"):
        await change(gateway, egress_words.EgressAdd(RuleWords("evil.org", methods=("GET",), inject="weather")))
    await change(gateway, egress_words.EgressAdd(RuleWords("api.example.org", methods=("GET",), inject="weather")))
    judged = await judge(gateway, "https://api.example.org/v1")
    assert (judged.verdict, judged.inject) == ("allow", "weather")
    await gateway.ask(admin_words.VaultRemove("weather"), bool)
    assert (
        "the secret weather is not set, so the call would be refused"
        in (await judge(gateway, "https://api.example.org/v1")).reason
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://API.example.org/", "small letters"),
        ("https://*.example.org/", "write one host"),
        ("https://a.org:x/", "port in digits"),
        ("ftp://a.org/", "is no URL"),
        ("https://", "is no URL"),
    ],
)
async def test_a_url_that_is_none_is_told(gateway: Gateway, url: str, said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        await judge(gateway, url)


@pytest.mark.parametrize("url", ["https://a.org/x/../y", "https://a.org//x", "http://user@a.org/", "https://a.org/%61"])
async def test_a_call_that_is_not_written_plainly_would_be_refused(gateway: Gateway, url: str) -> None:
    await change(gateway, egress_words.EgressAdd(RuleWords("a.org")))
    assert (await judge(gateway, url)).rule == "canonical"


async def test_a_change_wakes_whoever_follows_the_audit(gateway: Gateway) -> None:
    rows = await gateway.audit()
    after = rows[-1].seq if rows else 0
    follows = asyncio.ensure_future(ask(gateway, egress_words.AuditFollow(after, 8.0), list[admin_words.AuditLine]))
    await change(gateway, egress_words.EgressAdd(RuleWords("a.org")))
    assert [row.rule for row in await follows] == ["egress.change"]
    assert await ask(gateway, egress_words.AuditFollow(10**9, 0.1), list[admin_words.AuditLine]) == []


async def test_the_rules_of_an_erased_group_are_gone_before_its_folder_is_free(gateway: Gateway) -> None:
    await change(gateway, egress_words.EgressAdd(RuleWords("a.org", group="main")))
    await gateway.client.rules.forget_group("main")
    assert (await judge(gateway, "https://a.org/")).verdict == "deny"
    await gateway.client.rules.forget_group("main")


async def test_a_group_is_not_forgotten_by_a_gateway_that_cannot_write(gateway: Gateway) -> None:
    await change(gateway, egress_words.EgressAdd(RuleWords("a.org", group="main")))
    rules = gateway.directory / "rules"
    rules.rename(gateway.directory / "elsewhere")
    rules.write_text("a file in its place")
    with pytest.raises(Refused, match="The rules of main for the internet could not be dropped"):
        await gateway.client.rules.forget_group("main")


async def test_a_persons_yes_makes_a_rule_once(gateway: Gateway) -> None:
    asked = control.AddRule("ap1", "main", "a.org", ("GET",), ("/v1/**",), "user u1")
    for _ in range(2):
        gateway.client.tell(asked)
    await until(lambda: len([event for event in gateway.events if isinstance(event, control.RuleAdded)]) == 2)
    told = [event for event in gateway.events if isinstance(event, control.RuleAdded)]
    assert [(event.approval, event.generation, event.error) for event in told] == [("ap1", 1, "")] * 2
    assert (await judge(gateway, "https://a.org/v1/x")).verdict == "allow"
    gateway.client.tell(control.AddRule("ap2", "main", "A.org", ("GET",), (), "user u1"))
    await until(lambda: any(event.error for event in gateway.events if isinstance(event, control.RuleAdded)))
