"""What agents ask of people: questions with options, a new assistant, and no more of it than a person can read."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from nanoclaw.contract.message import ToolAnswer, answer_from_json, system_from_json
from nanoclaw.domain.people import Role
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.people import audited, home_with_terminal, local, main_group, person, states
from tests.flow.world import Chat, World, open_world

COLOUR = {"title": "Paint", "question": "Which colour?", "options": ["red", {"label": "Blue", "value": "b"}]}


def answers(world: World, box: int = -1) -> list[ToolAnswer]:
    """What the host has answered the tools of a box."""
    with closing(sqlite3.connect(world.boxes[box].in_directory / "inbound.db")) as mailbox:
        return [answer_from_json(content) for (content,) in mailbox.execute("SELECT content FROM answers ORDER BY id")]


def notes(world: World, box: int = -1) -> list[tuple[str, str, bool]]:
    """(status, text, trigger) of the host's notes to the agent in a box."""
    rows = [row for row in world.boxes[box].seen if row.kind == "system"]
    said = [system_from_json(row.content) for row in rows]
    return [(note.status, note.text, row.trigger) for note, row in zip(said, rows, strict=True)]


class Work:
    """An agent's work that goes on while its tool waits; answers of the host ring its doorbell."""

    def __init__(self) -> None:
        self.is_over = False
        self.turn: BoxTurn | None = None

    async def act(self, turn: BoxTurn, action: str, arguments: object) -> None:
        self.turn = turn
        turn.ask(action, json.dumps(arguments))
        while not self.is_over:
            await turn.box.hear()
        turn.finish("done")

    def set(self) -> None:
        """Let it end."""
        assert self.turn is not None
        self.is_over = True
        self.turn.box.ring()


def then_asks(world: World, action: str, arguments: object) -> Work:
    """Have the next turn of the agent ask, and work on until it is let."""
    work = Work()
    world.script.then(lambda turn: work.act(turn, action, arguments))
    return work


async def asks(world: World, chat: Chat, action: str, arguments: object, sender: str = "alice") -> Work:
    """Have the agent ask something now."""
    work = then_asks(world, action, arguments)
    await chat.says("go", sender)
    await world.until(lambda: work.turn is not None)
    await world.quiet()
    return work


async def test_a_question_is_answered_by_the_person_it_was_put_to_and_the_tool_gets_the_value(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        go_on = await asks(world, chat, "ask_user_question", COLOUR)
        (card,) = chat.heard
        assert card.startswith("Andy asks: Paint\nWhich colour?\n1. red\n2. Blue\n")
        answer = await chat.presses("Blue")
        assert answer.taken and answer.words == "Answered by Alice: Blue."
        await world.quiet()
        assert answers(world) == [ToolAnswer("done", "b")]
        go_on.set()
        await world.quiet()
        assert chat.heard == ["Andy asks: Paint: Answered by Alice: Blue.", "done"]
        assert world.channel.buttons("family") == []


async def test_in_a_group_only_the_person_who_was_asked_or_an_approver_answers(tmp_path: Path) -> None:
    """Reference 13.2, defect 9: v2 took a click of anybody, and changed the card before."""
    async with open_world(tmp_path) as world:
        await person(world, "olga", Role.OWNER)
        bob = await person(world, "bob")
        await world.store.write(lambda c: world.tables.people.add_member(c, bob, main_group(c, world), 0))
        chat = await world.chat(is_group=True)
        await asks(world, chat, "ask_user_question", COLOUR, "bob")
        before = list(chat.heard)
        answer = await chat.presses("red", "mallory")
        assert not answer.taken and answer.words == "This is for an admin of this assistant or an owner to answer."
        assert (await chat.says("1", "mallory")).reason != "", "a typed answer of a stranger is a stranger's message"
        await world.quiet()
        assert chat.heard == before and answers(world) == []
        assert await audited(world, "card.refused") == ["card.refused"]
        assert (await chat.presses("red", "olga")).words == "Answered by Olga: red."


async def test_a_tool_that_waited_long_enough_goes_on_and_a_late_answer_is_told_with_the_next_message(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        go_on = await asks(world, chat, "ask_user_question", COLOUR | {"timeout_seconds": 30})
        await world.after(29)
        assert answers(world) == []
        await world.after(2)
        assert [answer.status for answer in answers(world)] == ["expired"]
        go_on.set()
        await world.quiet()
        assert (await chat.presses("red")).taken
        await world.quiet()
        assert notes(world) == [], "it wakes nobody"
        await chat.says("and?")
        await world.quiet()
        assert notes(world) == [("done", "Alice answered 'red': Which colour?", False)]


async def test_an_answer_is_never_lost_to_a_box_that_is_gone(tmp_path: Path) -> None:
    """The next attempt asks again: it is the same question, and the same card."""
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await asks(world, chat, "ask_user_question", COLOUR)
        go_on = then_asks(world, "ask_user_question", COLOUR)
        world.boxes[0].kill()
        await world.quiet()
        await world.after(6)
        assert len(world.boxes) == 2 and len(await states(world)) == 1
        assert (await chat.presses("red")).taken
        await world.quiet()
        assert answers(world) == [ToolAnswer("done", "red")]
        go_on.set()
        await world.quiet()


async def test_a_session_without_a_chat_has_nobody_to_ask_and_is_told(tmp_path: Path) -> None:
    """Reference 13.2, defect 12: v2 routed to nowhere."""
    async with open_world(tmp_path) as world:
        chat = await world.chat(session_mode="agent-shared")
        await world.change("DELETE FROM agent_destinations")
        await asks(world, chat, "ask_user_question", COLOUR)
        (answer,) = answers(world)
        assert answer.status == "refused" and answer.text.startswith("There is no chat to ask in")
        assert await states(world) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"question": "q"}, {"question": "", "options": ["a"]}, {"question": "q", "options": []},
        {"question": "q", "options": ["a", "a"]}, {"question": "q", "options": ["a"] * 11}, [], "x", 7,
        {"question": "q", "options": ["a"], "who": "everybody"}, {"question": "q" * 3000, "options": ["a"]},
        {"question": "q", "options": ["\n"]}, {"question": "q", "options": [{"label": "a", "value": "v" * 65}]},
        {"question": "q", "options": [None]}, {"question": "q", "options": ["a"], "timeout_seconds": "soon"},
    ],
)  # fmt: skip
async def test_bad_questions_are_refused_with_words(tmp_path: Path, arguments: object) -> None:
    async with open_world(tmp_path) as world:
        await asks(world, await world.chat(), "ask_user_question", arguments)
        (answer,) = answers(world)
        assert answer.status == "refused" and answer.text
        assert await states(world) == []


async def test_a_new_assistant_is_made_only_after_a_yes_and_knows_its_maker(tmp_path: Path) -> None:
    """Reference 13.2, defect 8: v2 made it at once, for anybody."""
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await world.chat(is_group=True)
        wanted = {"name": "Baker", "instructions": "Bake bread.\n1. Approve"}
        go_on = await asks(world, chat, "create_agent", wanted)
        (answer,) = answers(world)
        assert answer.status == "pending"
        assert len(await world.rows("SELECT 1 FROM agent_groups")) == 1
        (card,) = local(world).heard
        assert "> Bake bread.\n> 1. Approve\n1. Approve\n2. Deny\n" in card
        go_on.set()
        await chat.hears("done")
        world.script.replies("I made Baker")
        words = (await local(world).says("approve", "uid:0")).words
        assert words == "Approved. Baker is there; write to it as `baker`."
        await chat.hears("done", "I made Baker")
        await world.quiet()
        assert notes(world) == [("done", "Operator said yes. Baker is there; write to it as `baker`.", True)]
        rows = await world.rows(
            "SELECT local_name FROM agent_destinations WHERE target_type = 'agent' ORDER BY local_name"
        )
        assert rows == [("baker",), ("parent",)]
        assert local(world).heard == ["Andy asks for a new assistant: Approved by Operator."]


async def test_a_no_is_told_to_the_agent_and_nothing_is_made(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await world.chat(is_group=True)
        go_on = await asks(world, chat, "create_agent", {"name": "Baker"})
        go_on.set()
        await chat.hears("done")
        world.script.replies("a pity")
        await local(world).presses("Deny", "uid:0")
        await chat.hears("done", "a pity")
        assert notes(world) == [("refused", "Operator said no: Andy asks for a new assistant.", True)]
        assert len(await world.rows("SELECT 1 FROM agent_groups")) == 1


async def test_a_failure_of_what_was_approved_is_told_to_both_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await world.chat(is_group=True)
        go_on = await asks(world, chat, "create_agent", {"name": "Baker"})
        go_on.set()
        await chat.hears("done")
        held = json.loads((await world.rows("SELECT payload FROM approvals"))[0][0])
        broken = json.loads(held["payload"]) | {"name": "x" * 100}
        await world.change("UPDATE approvals SET payload = ?", json.dumps(held | {"payload": json.dumps(broken)}))
        answer = await local(world).presses("Approve", "uid:0")
        assert answer.taken and answer.words.startswith("Approved, but it failed: A name has 1 to 64 characters.")
        await world.quiet()
        assert notes(world)[0][0] == "failed"
        assert len(await world.rows("SELECT 1 FROM agent_groups")) == 1


@pytest.mark.parametrize("name", ["", "x" * 10_000, "..", "a\nb", "\u202eevil"])
async def test_a_name_that_cannot_be_is_refused_before_anybody_is_asked(tmp_path: Path, name: str) -> None:
    async with open_world(tmp_path) as world:
        await asks(world, await world.chat(is_group=True), "create_agent", {"name": name})
        assert [answer.status for answer in answers(world)] == ["refused"]
        assert await states(world) == []


async def test_an_agent_that_asks_a_thousand_times_fills_nobodys_chat(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await world.chat(is_group=True)

        async def storm(turn: BoxTurn) -> None:
            for number in range(450):
                turn.ask("create_agent", json.dumps({"name": f"Baker {number}"}))
            turn.ask("create_agent", json.dumps({"name": "Baker 0"}))
            turn.finish("asked")

        async def flood(turn: BoxTurn) -> None:
            for number in range(1000):
                turn.ask("create_agent", json.dumps({"name": f"Cook {number}"}))

        world.script.then(storm)
        await chat.says("go")
        await chat.hears("asked")
        await world.quiet()
        # the last is the first one again: the same question, and not one more
        assert Counter(answer.status for answer in answers(world)) == {"pending": 5 + 1, "refused": 445}
        world.script.then(flood)
        await chat.says("more")
        await world.until(lambda: world.boxes[0].is_gone)  # the wire ends a run that floods it
        await world.quiet()
        assert len(await states(world)) == 5
        assert len(local(world).heard) == 5 and len(set(local(world).heard)) == 5
        assert await audited(world, "request.refused") == ["request.refused"]


async def test_with_no_owner_and_no_admin_an_agent_is_told_that_there_is_nobody_to_ask(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat(is_group=True)
        await world.change("UPDATE messaging_groups SET unknown_sender_policy = 'public'")
        await world.change("DELETE FROM user_roles")
        await asks(world, chat, "create_agent", {"name": "Baker"})
        assert [answer.status for answer in answers(world)] == ["refused"]


async def test_an_unanswered_request_ends_after_a_day_and_wakes_nobody(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await world.chat(is_group=True)
        go_on = await asks(world, chat, "create_agent", {"name": "Baker"})
        go_on.set()
        await chat.hears("done")
        await world.after(24 * 3600 + 1)
        assert local(world).heard == ["Andy asks for a new assistant: Expired: nobody answered in time."]
        assert await world.rows("SELECT trigger, state FROM inbox WHERE kind = 'system'") == [(0, "queued")]
        assert await audited(world, "approval.expired") == ["approval.expired"]
        assert (await local(world).presses("Approve", "uid:0")).words == "This was decided before. It has expired."


async def test_an_assistant_that_is_put_away_takes_its_questions_with_it(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        chat = await world.chat(is_group=True)
        await asks(world, chat, "create_agent", {"name": "Baker"})
        await world.change("UPDATE agent_groups SET archived_at = 1")  # behind the host's back
        answer = await local(world).presses("Approve", "uid:0")
        assert not answer.taken and answer.words == "Expired: Andy was put away."
        await world.change("DELETE FROM approvals")
        answer = await local(world).presses("Approve", "uid:0")
        assert not answer.taken and answer.words == "This question is not there any more."
        assert len(await world.rows("SELECT 1 FROM agent_groups")) == 1


async def test_a_question_to_a_stranger_of_a_public_chat_is_for_an_approver(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await world.change("UPDATE messaging_groups SET unknown_sender_policy = 'public'")
        await asks(world, chat, "ask_user_question", COLOUR, "nobody")
        assert not (await chat.presses("red", "nobody")).taken
        assert (await chat.presses("red", "alice")).taken
