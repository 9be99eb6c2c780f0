"""What an agent would like to reach: the card, who may allow it for whom, and what becomes of the rule."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nanoclaw.domain.people import Role
from nanoclaw.gateway import control
from nanoclaw.gateway.control import AddRule
from tests.flow.people import audited, direct, home_with_terminal, local, person, states
from tests.flow.test_asking_agents import answers, asks
from tests.flow.test_egress_holds import gateway_starts, notes, told
from tests.flow.world import Chat, World, open_world

WANTED = {"host": "api.example.org", "methods": ["GET"], "paths": ["/v1/**"], "reason": "To read the weather."}


async def proposed(world: World, wanted: object = WANTED) -> Chat:
    """An agent that has asked for access and ended its turn."""
    chat = await world.chat(is_group=True)
    work = await asks(world, chat, "request_access", wanted)
    work.set()
    await chat.hears("done")
    return chat


async def rule_added(world: World, approval: str, error: str = "") -> None:
    world.news.hear(control.RuleAdded(approval, 0 if error else 4, error))
    await world.quiet()


async def test_a_yes_becomes_a_rule_and_the_agent_is_told_when_it_is_in_force(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await proposed(world)
        assert [answer.status for answer in answers(world)] == ["pending"]
        (card,) = local(world).heard
        assert card.startswith(
            "Andy asks to reach api.example.org\n"
            "The calls: GET api.example.org/v1/**\n"
            "** stands for everything below.\n"
            "Why, in its words: To read the weather.\n"
            "No key is put on these calls.\n"
            "1. Allow this agent\n2. Deny\n3. Allow every agent\n"
        )
        world.script.replies("I read it")
        words = (await local(world).says("1", "uid:0")).words
        assert words == "Approved: GET api.example.org/v1/**. You are told when the rule is in force."
        await world.quiet()
        (rule,) = told(world)
        assert isinstance(rule, AddRule) and rule.by.startswith("user:")
        assert (rule.folder, rule.host, rule.methods, rule.paths) == ("main", "api.example.org", ("GET",), ("/v1/**",))
        assert notes(world) == []
        await rule_added(world, rule.approval)
        await chat.hears("done", "I read it")
        assert notes(world) == [("done", "Operator said yes. You may call GET api.example.org/v1/** now.", True)]
        (end,) = local(world).heard
        assert end.endswith(
            "Approved by Operator, and in force: GET api.example.org/v1/**. `nanoclaw egress list` shows it."
        )
        await rule_added(world, rule.approval)
        assert len(notes(world)) == 1 and await audited(world, "egress.rule_added") == ["egress.rule_added"]


async def test_a_no_is_told_and_the_same_is_not_asked_again_for_a_while(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await proposed(world)
        world.script.replies("a pity")
        await local(world).presses("Deny", "uid:0")
        await chat.hears("done", "a pity")
        assert notes(world) == [("refused", "Operator said no: Andy asks to reach api.example.org.", True)]
        assert told(world) == []
        work = await asks(world, chat, "request_access", WANTED | {"reason": "Please!"})
        assert answers(world)[-1].text == "Operator said no to this a short while ago. Do not ask again now."
        work.set()
        await world.quiet()
        assert [state for _, state in await states(world)] == ["denied"]


async def test_every_agent_may_be_allowed_by_an_owner_but_not_by_an_admin_of_one_agent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await person(world, "olga", Role.OWNER)
        await person(world, "gus", Role.ADMIN, scoped=True)
        await proposed(world)
        answer = await direct(world, "gus-dm").presses("Allow every agent", "gus")
        assert not answer.taken and answer.words.startswith("Only a global admin or an owner can allow it for every")
        assert answer.words.endswith("The question stays open.") and told(world) == []
        assert (await direct(world, "olga-dm").presses("Allow every agent", "olga")).taken
        await world.quiet()
        (rule,) = told(world)
        assert isinstance(rule, AddRule) and rule.folder == ""
        assert await gateway_starts(world) == [rule], "and that it is for all outlives a gateway"


async def test_a_rule_that_could_not_be_made_is_told_to_both(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await proposed(world)
        await local(world).presses("Allow this agent", "uid:0")
        await world.quiet()
        (rule,) = told(world)
        world.script.replies("I see")
        assert isinstance(rule, AddRule)
        await rule_added(world, rule.approval, "The disk is full.")
        await chat.hears("done", "I see")
        assert notes(world) == [("failed", "Operator said yes, but it failed: The disk is full.", True)]
        assert local(world).heard[0].endswith("Approved by Operator, but no rule was made: The disk is full.")
        assert await gateway_starts(world) == []


async def test_a_yes_outlives_host_and_gateway_until_the_rule_is_there(tmp_path: Path) -> None:
    home = home_with_terminal(tmp_path)
    async with open_world(home) as world:
        await proposed(world)
        await local(world).presses("Allow this agent", "uid:0")
        await world.quiet()
        said = told(world)
    async with open_world(home) as world:
        await world.recover()
        await world.after(7 * 24 * 3600)
        assert await gateway_starts(world) == said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"host": "*.example.org"}, "wildcards cannot be asked for"),
        ({"host": "*"}, "wildcards cannot be asked for"),
        ({"host": "https://api.example.org/x"}, "The host is a name alone"),
        ({"host": "api.example.org:8443"}, "The host is a name alone"),
        ({"host": "me@api.example.org"}, "The host is a name alone"),
        ({"host": "10.0.0.1"}, "Ask for a name, not an address"),
        ({"host": "0x7f.1"}, "Ask for a name, not an address"),
        ({"host": "2130706433"}, "Ask for a name, not an address"),
        ({"host": "[::1]"}, "Ask for a name, not an address"),
        ({"host": "fd00::1"}, "Ask for a name, not an address"),
        ({"host": "localhost"}, "a host of a private network"),
        ({"host": "printer.local"}, "a host of a private network"),
        ({"host": "metadata.google.internal"}, "a host of a private network"),
        ({"host": "a.localhost."}, "a host of a private network"),
        ({"host": "api.example.org."}, "not written plainly"),
        ({"host": "аpi.example.org"}, "not written plainly"),
        ({"host": "api.example.org\n1. Allow"}, "not written plainly"),
        ({"host": ""}, "a host of a private network"),
        ({"methods": []}, "Say which methods"),
        ({"methods": ["CONNECT"]}, "Say which methods"),
        ({"methods": ["*"]}, "Say which methods"),
        ({"paths": []}, "Say which paths"),
        ({"paths": ["/a"] + [f"/{n}" for n in range(10)]}, "Say which paths"),
        ({"paths": ["v1"]}, "A path begins with /"),
        ({"paths": ["/a?b=c"]}, "A path begins with /"),
        ({"paths": ["/a b"]}, "A path begins with /"),
        ({"paths": ["/a\\b"]}, "A path begins with /"),
        ({"paths": ["/" + "a" * 200]}, "A path begins with /"),
        ({"paths": ["/a/../b"]}, "A path is written plainly"),
        ({"paths": ["/a//b"]}, "A path is written plainly"),
        ({"paths": ["/a%2Fb"]}, "A path is written plainly"),
        ({"paths": ["/a/b*"]}, "one whole segment"),
        ({"paths": ["/**/b"]}, "one whole segment"),
        ({"reason": "  "}, "Say why"),
        ({"reason": "x" * 501}, "Say why"),
        ({"folder": ""}, "request_access needs a host"),
        ({"methods": "GET"}, "request_access needs a host"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_words_before_anybody_sees_it(
    tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await asks(world, await world.chat(is_group=True), "request_access", WANTED | changed)
        (answer,) = answers(world)
        assert answer.status == "refused" and words in answer.text
        assert await states(world) == [] and local(world).heard == []
        assert await audited(world, "request.refused") == ["request.refused"]


async def test_a_host_and_methods_in_any_case_are_taken_as_what_they_mean(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await proposed(world, WANTED | {"host": "API.Example.org", "methods": ["post", "GET", "get"]})
        assert "The calls: GET, POST api.example.org/v1/**\n" in local(world).heard[0]


async def test_an_agent_cannot_answer_its_own_question(tmp_path: Path) -> None:
    """The only way from a box to an answer would be `ncl`, whose changes are put to people."""
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await proposed(world)
        for scope in ("group", "global"):
            await world.change("UPDATE container_configs SET cli_scope = ?", scope)
            code = local(world).heard[0].rpartition("`")[0].rpartition("`")[2].split()[0]
            for verb in ("approve", "deny"):
                work = await asks(world, chat, "ncl", {"arguments": ["approvals", verb, code]})
                work.set()
                await world.quiet()
        assert Counter(answer.status for answer in answers(world)) == {"pending": 1, "refused": 4}
        assert [state for _, state in await states(world)] == ["open"] and told(world) == []
