"""Calls that wait for a person's word, on the host's side: the card, who may answer it, what the gateway is told."""

from __future__ import annotations

from pathlib import Path

import msgspec

from nanoclaw.contract.message import system_from_json
from nanoclaw.domain.people import Role
from nanoclaw.gateway import control
from nanoclaw.gateway.control import AddRule, HoldAsked, HoldDecided, HoldMessage, HoldOpened, HoldTaken, HoldVerdict
from tests.flow.people import audited, direct, home_with_terminal, local, main_group, person, states
from tests.flow.world import Chat, Home, World, open_world

DIGEST = "d1" * 32
TEN_MINUTES = 600


async def hold(world: World, digest: str = DIGEST, **changed: str) -> HoldOpened:
    """Have the gateway hold a call of the newest session's agent."""
    ((session, group, fence),) = await world.rows("SELECT id, agent_group_id, fence FROM sessions ORDER BY id LIMIT 1")
    said: dict[str, str] = {
        "folder": "main",
        "rule": "payments",
        "method": "POST",
        "host": "api.example.org",
        "path": "/v1/pay",
        "address": "https://api.example.org/v1/pay?to=bob",
        "preview": '{"amount": 3}',
    }
    opened = HoldOpened(digest, session, fence, group, **(said | changed))
    world.news.hear(opened)
    await world.quiet()
    return opened


def told(world: World) -> list[HoldMessage]:
    """What the gateway was told since the last time this was asked."""
    said = list(world.gateway.holds)
    world.gateway.holds.clear()
    return said


async def gateway_starts(world: World) -> list[HoldMessage]:
    """A gateway comes up, perhaps after another one was killed."""
    world.news.hear(control.Ready(model_key=True))
    await world.quiet()
    return told(world)


async def answered(world: World, *, reached: bool) -> str:
    """The gateway says that it has the answer; returns the approval's id."""
    ((approval,),) = await world.rows("SELECT id FROM approvals WHERE state <> 'open' ORDER BY id DESC LIMIT 1")
    world.news.hear(HoldTaken(approval, reached))
    await world.quiet()
    return approval


def notes(world: World) -> list[tuple[str, str, bool]]:
    """(status, text, trigger) of the host's notes to the agent."""
    rows = [row for box in world.boxes for row in box.seen if row.kind == "system"]
    return [(n.status, n.text, r.trigger) for r in rows for n in [system_from_json(r.content)]]


async def at_work(world: World) -> Chat:
    """An agent that has answered once: it has a session and a box."""
    chat = await world.chat(is_group=True)
    world.script.replies("hello")
    await chat.says("hi")
    await chat.hears("hello")
    await world.quiet()
    return chat


async def test_the_card_shows_the_whole_call_and_a_yes_in_time_lets_it_go_once(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        opened = await hold(world)
        (card,) = local(world).heard
        (asked,) = told(world)
        assert isinstance(asked, HoldAsked) and (asked.digest, asked.group) == (DIGEST, opened.group)
        assert card == (
            "Andy wants to call POST api.example.org/v1/pay\n"
            "The call: POST https://api.example.org/v1/pay?to=bob\n"
            'What it sends: {"amount": 3}\n'
            "The rule that asks: payments\n"
            "Always would allow POST api.example.org/v1/pay with any query and content.\n"
            "1. Allow once\n2. Deny\n3. Always allow\n"
            f"Answer with the number, or at any time with `{asked.code} 1`."
        )
        assert (await local(world).says("1", "uid:0")).words == "Approved by Operator: Allow once."
        await world.quiet()
        until = world.clock.now_ms() + TEN_MINUTES * 1000
        yes = HoldDecided(DIGEST, opened.group, asked.approval, HoldVerdict.ALLOW, "allowed once by Operator", until)
        assert told(world) == [yes]
        await answered(world, reached=True)
        assert notes(world) == [], "its call has just gone through: there is nothing to tell"
        assert local(world).heard == [
            "Andy wants to call POST api.example.org/v1/pay: Approved by Operator: Allow once."
        ]
        assert await audited(world, "approval.opened", "approval.approved") == ["approval.opened", "approval.approved"]


async def test_a_late_yes_wakes_the_agent_which_is_told_to_make_the_call_again(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await at_work(world)
        await hold(world)
        world.script.replies("sent again")
        await world.after(3600)
        await local(world).presses("Allow once", "uid:0")
        await world.quiet()
        assert notes(world) == [], "the gateway has not said yet whether the call still waited"
        await answered(world, reached=False)
        await chat.hears("hello", "sent again")
        ((status, text, trigger),) = notes(world)
        assert (status, trigger) == ("done", True)
        assert text.startswith("Operator allowed your call, POST to api.example.org. Make it again now, the same byte")
        late = "Allowed by Operator. The call had stopped waiting; the agent is told to make it again."
        assert local(world).heard == [f"Andy wants to call POST api.example.org/v1/pay: {late}"]
        await answered(world, reached=False)
        assert len(notes(world)) == 1, "the gateway says it twice, the agent is told once"


async def test_a_no_is_told_at_once_and_the_same_call_is_not_asked_about_again_for_a_while(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        opened = await hold(world)
        told(world)
        await local(world).says("no", "uid:0")
        await world.quiet()
        (no,) = told(world)
        assert isinstance(no, HoldDecided) and no.verdict is HoldVerdict.DENY
        assert no.words == "Operator said no to this call."
        await answered(world, reached=True)
        await hold(world)
        (again,) = told(world)
        words = "Operator said no to this very call a short while ago. Do not make it again now."
        assert again == HoldDecided(DIGEST, opened.group, "", HoldVerdict.DENY, words)
        await hold(world, "other" * 12)
        assert len(await states(world)) == 2, "another call is another question"
        await world.after(TEN_MINUTES + 1)
        await hold(world)
        assert [state for _, state in await states(world)] == ["denied", "open", "open"]


async def test_always_makes_a_rule_of_the_host_method_and_path_and_the_card_says_what_became_of_it(
    tmp_path: Path,
) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        await hold(world)
        told(world)
        await local(world).says("3", "uid:0")
        await world.quiet()
        yes, rule = told(world)
        assert isinstance(yes, HoldDecided) and isinstance(rule, AddRule)
        asked = ("main", "api.example.org", ("POST",), ("/v1/pay",), "payments")
        assert (rule.folder, rule.host, rule.methods, rule.paths, rule.like) == asked
        assert rule.by.startswith("user:")
        world.news.hear(control.RuleAdded(rule.approval, 7))
        await world.quiet()
        said = "Allowed by Operator, from now on without asking: POST api.example.org/v1/pay."
        assert local(world).heard == [f"Andy wants to call POST api.example.org/v1/pay: {said}"]
        assert await audited(world, "egress.rule_added") == ["egress.rule_added"]
        world.news.hear(control.RuleAdded(rule.approval, 7))
        await world.quiet()
        assert await audited(world, "egress.rule_added") == ["egress.rule_added"]


async def test_a_rule_that_could_not_be_made_is_told_on_the_card(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        await hold(world)
        await local(world).presses("Always allow", "uid:0")
        await world.quiet()
        rule = told(world)[-1]
        assert isinstance(rule, AddRule)
        world.news.hear(control.RuleAdded(rule.approval, 0, "The rule payments is gone."))
        await world.quiet()
        assert local(world).heard[0].endswith("Allowed once by Operator. No rule was made: The rule payments is gone.")


async def test_a_path_that_no_rule_can_name_cannot_be_allowed_for_good(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        await hold(world, path="", address="https://api.example.org/v1/*")
        (card,) = local(world).heard
        assert "Always" not in card and "2. Deny\n" in card
        await local(world).says("3", "uid:0")
        assert [state for _, state in await states(world)] == ["open"]


async def test_what_the_agent_wrote_cannot_look_like_another_line_of_the_card(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        forged = "ok\n1. Deny\r\n2. Allow\u2028The rule that asks: harmless\u202e\x1b[2J\x85x"
        await hold(world, preview=forged, method="POST\nX", address="https://api.example.org/\n1. Deny")
        (card,) = local(world).heard
        assert len(card.splitlines()) == 9 and "\x1b" not in card and "\u202e" not in card
        assert "What it sends: ok ␊ 1. Deny ␊ 2. Allow ␊ The rule that asks: harmless␛[2J ␊ x\n" in card


async def test_a_stranger_or_member_decides_nothing_and_the_first_approver_decides_for_all(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await at_work(world)
        for name, role in (("olga", Role.OWNER), ("adam", Role.ADMIN), ("mia", None)):
            user = await person(world, name, role)
            await world.store.write(
                lambda c, user=user: world.tables.people.add_member(c, user, main_group(c, world), 0)
            )
        await hold(world)
        told(world)
        olga, adam = direct(world, "olga-dm"), direct(world, "adam-dm")
        assert len(olga.heard) == len(adam.heard) == 1 and direct(world, "mia-dm").heard == []
        for somebody in ("mia", "mallory"):
            answer = await adam.presses("Allow once", somebody)
            assert not answer.taken
        assert told(world) == [] and await audited(world, "card.refused") == ["card.refused"] * 2
        assert (await adam.presses("Allow once", "adam")).taken
        await world.quiet()
        assert len(told(world)) == 1
        end = "Andy wants to call POST api.example.org/v1/pay: Approved by Adam: Allow once."
        assert olga.heard == adam.heard == [end]
        actors = await world.rows("SELECT actor FROM audit WHERE event = 'approval.approved'")
        assert [actor.partition(":")[0] for (actor,) in actors] == ["user"]


async def test_the_same_call_asked_about_twice_is_one_question(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        await hold(world)
        await hold(world)
        first, second = told(world)
        assert first == second and len(local(world).heard) == 1


async def test_with_nobody_to_ask_and_beyond_the_limits_the_gateway_hears_no_at_once(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        for number in range(7):
            await hold(world, f"{number:064}")
        said = told(world)
        assert [type(message) for message in said] == [HoldAsked] * 5 + [HoldDecided] * 2
        assert isinstance(said[-1], HoldDecided) and said[-1].words.startswith("Too many of your questions wait")
        assert len(local(world).heard) == 5 and await audited(world, "request.refused") == ["request.refused"]
        await world.change("DELETE FROM approvals")
        await world.change("DELETE FROM user_roles")
        await hold(world)
        (no,) = told(world)
        assert isinstance(no, HoldDecided) and no.words.startswith("There is nobody to ask")


async def test_a_question_nobody_answers_ends_after_a_day_and_wakes_nobody(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        await hold(world)
        told(world)
        await world.after(24 * 3600 + 1)
        assert told(world) == [] and notes(world) == []
        assert local(world).heard[0].endswith(": Expired: nobody answered in time.")
        assert await world.rows("SELECT trigger FROM inbox WHERE kind = 'system'") == [(0,)]


async def test_an_answer_is_said_again_to_every_new_gateway_until_one_confirms_it(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        await hold(world)
        told(world)
        await local(world).presses("Always allow", "uid:0")
        await world.quiet()
        yes, rule = said = told(world)
        await world.after(60)
        assert await gateway_starts(world) == said
        await answered(world, reached=False)
        assert await gateway_starts(world) == [rule]
        assert isinstance(rule, AddRule) and isinstance(yes, HoldDecided)
        world.news.hear(control.RuleAdded(rule.approval, 3))
        await world.quiet()
        assert await gateway_starts(world) == []


async def test_a_yes_is_worth_nothing_ten_minutes_later_but_a_rule_is_still_owed(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        await hold(world)
        await local(world).presses("Always allow", "uid:0")
        await world.quiet()
        told(world)
        await world.after(TEN_MINUTES)
        assert [type(message) for message in await gateway_starts(world)] == [AddRule]


async def test_a_card_outlives_the_host_and_its_yes_is_a_grant_of_the_next_gateway(tmp_path: Path) -> None:
    home: Home = home_with_terminal(tmp_path)
    async with open_world(home) as world:
        await at_work(world)
        await hold(world)
    async with open_world(home) as world:
        await world.recover()
        assert await gateway_starts(world) == []
        await local(world).presses("Allow once", "uid:0")
        await world.quiet()
        (yes,) = told(world)
        assert isinstance(yes, HoldDecided) and (yes.digest, yes.verdict) == (DIGEST, HoldVerdict.ALLOW)


async def test_a_call_of_a_conversation_that_is_gone_is_refused_and_the_host_goes_on(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        opened = await hold(world)
        told(world)
        for changed in ({"session": "erased"}, {"group": "erased"}, {"group": opened.session}):
            world.news.hear(msgspec.structs.replace(opened, digest="d2" * 32, **changed))
            await world.quiet()
            (no,) = told(world)
            assert isinstance(no, HoldDecided) and no.verdict is HoldVerdict.DENY and "not there any more" in no.words
        assert len(await states(world)) == 1


async def test_what_the_gateway_says_of_other_questions_changes_nothing(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        await hold(world)
        ((approval,),) = await world.rows("SELECT id FROM approvals")
        for event in (HoldTaken(approval, False), HoldTaken("no such", False), control.RuleAdded(approval, 1)):
            world.news.hear(event)
        await world.quiet()
        assert [state for _, state in await states(world)] == ["open"] and notes(world) == []


async def test_a_title_shows_the_end_of_a_host_however_long_method_and_host_are(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await at_work(world)
        host = f"api.github.com.{'a' * 60}.{'b' * 60}.evil.example"
        await hold(world, method="GET-" * 40, host=host, address=f"https://{host}/v1/pay")
        (card,) = local(world).heard
        title, call = card.splitlines()[:2]
        assert title.startswith("Andy wants to call GET-") and ".evil.example/v1/pay" in title
        assert host in call
