"""Agents that end without an answer, die, or would write to each other for ever: nobody waits in vain."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from nanoclaw.domain.session import RunEnd
from nanoclaw.domain.verdict import Allow, Deny
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agents import MOST_HOPS, MOST_WRITTEN, decide_letter
from nanoclaw.testing.crashpoints import HOST_CRASH_POINTS
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.swarm import agent, ends_with, introduce, live_of, notes, open_swarm, told
from tests.flow.test_agents_talk import settled
from tests.flow.world import Home, World

SILENCE = "The agent ended its work without an answer. Ask again, or ask what it did."
LIMIT = "Andy and Researcher wrote to each other without end, so a message was held back"


async def owner_heard(world: World) -> list[str]:
    """What was queued for the owner's own chat, the terminal's."""
    rows = await world.rows(
        "SELECT o.text FROM outbox o JOIN messaging_groups m ON m.id = o.messaging_group_id"
        " WHERE m.channel_type = 'terminal' ORDER BY o.id"
    )
    return [text for (text,) in rows]


async def test_a_specialist_that_ends_silently_is_told_of_and_the_asker_answers(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")
        world.runtime.script_for("andy").ends_silently()
        world.script.replies("I could not find out.")  # told by a note, which comes from no chat
        accepted = await chat.says("go")
        await chat.hears("I could not find out.")
        await world.quiet()
        assert await notes(world, "main") == [f"researcher ended without an answer: {SILENCE}"]
        assert await settled(world, accepted.message) == "replied"


async def test_a_specialist_that_dies_three_times_is_told_of_with_the_reason(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")
        for _ in range(3):
            world.runtime.script_for("andy").dies(1, "killed")
        world.script.replies("It died.")
        await chat.says("go")
        for _ in range(4):
            await world.after(30)
        await chat.hears("It died.")
        (note,) = await notes(world, "main")
        assert note.startswith("researcher ended without an answer: I gave up on this message after 3 tries")


async def test_the_model_error_of_a_specialist_reaches_the_asker_once_and_not_the_chat(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")

        async def gives_up(turn: BoxTurn) -> None:
            turn.finish("the model refused the key", notice=True)

        world.runtime.script_for("andy").then(gives_up)
        world.script.replies("No key.")
        await chat.says("go")
        await chat.hears("No key.")
        await world.quiet()
        assert await notes(world, "main") == ["researcher ended without an answer: the model refused the key"]


async def test_an_asker_that_never_says_a_word_is_told_of_in_the_chat_when_all_is_over(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")
        world.runtime.script_for("researcher").ends_silently()
        accepted = await chat.says("go")
        await chat.hears(SILENCE)
        await world.quiet()
        assert await settled(world, accepted.message) == "failed"


async def test_an_asker_that_spoke_before_it_asked_may_be_silent_in_the_end(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()

        async def says_and_asks(turn: BoxTurn) -> None:
            ends_with(turn, ("I have it filed.", None), ("file it", "researcher"))

        world.runtime.script_for("family").then(says_and_asks)
        world.runtime.script_for("researcher").ends_silently()
        accepted = await chat.says("file this")
        await chat.hears("I have it filed.")
        await world.quiet()
        assert chat.heard == ["I have it filed."] and await settled(world, accepted.message) == "replied"


async def test_a_silent_turn_between_two_answers_waits_for_the_second(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "ann", "ben") as world:
        chat = await world.chat()

        async def asks_both(turn: BoxTurn) -> None:
            ends_with(turn, ("part", "ann"), ("part", "ben"))

        world.runtime.script_for("family").then(asks_both)
        world.runtime.script_for("andy").replies("from one")
        world.runtime.script_for("andy").hangs()
        world.runtime.script_for("ann").ends_silently()
        world.runtime.script_for("ben").ends_silently()
        await chat.says("go")
        await world.quiet()
        assert chat.heard == []  # one is still at work


async def test_two_messages_of_one_turn_that_only_asked_both_wait_without_a_word(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("both", to="researcher")
        world.runtime.script_for("andy").hangs()
        await chat.says_at_once("one", "two")
        await world.quiet()
        assert [row[1:3] for row in (await world.outcomes())[:2]] == [("done", "silent"), ("done", "silent")]
        assert chat.heard == []


async def test_a_specialist_may_not_be_silent_even_when_the_words_were_only_overheard(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat(is_group=True)
        world.runtime.script_for("family").replies("they talk of the moon", to="researcher")
        world.runtime.script_for("andy").ends_silently()
        world.script.ends_silently()
        await chat.says("what a moon")
        await world.quiet()
        assert len(await notes(world, "main")) == 1 and chat.heard == []  # Andy himself may be silent here


async def test_a_nested_specialist_that_dies_is_told_of_one_by_one_up_to_the_person(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "editor") as world:
        await introduce(world, "editor", await agent(world, "researcher"))
        chat = await world.chat()
        world.runtime.script_for("family").replies("write", to="editor")
        world.runtime.script_for("andy").replies("find", to="researcher")
        for script in (world.runtime.script_for("editor"), world.script, world.script):
            script.ends_silently()  # the researcher; the editor when it hears; Andy when he hears
        accepted = await chat.says("go")
        await chat.hears(SILENCE)
        await world.quiet()
        assert await notes(world, "editor") == [f"researcher ended without an answer: {SILENCE}"]
        assert await notes(world, "main") == [f"editor ended without an answer: {SILENCE}"]
        assert await settled(world, accepted.message) == "failed"


async def test_a_specialist_that_is_put_away_in_the_middle_is_told_of_and_not_in_the_chat(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")
        world.runtime.script_for("andy").hangs()
        world.script.replies("It is gone.")
        await chat.says("go")
        await world.quiet()
        after = Aftermath()

        def put_away(connection: sqlite3.Connection) -> None:
            group = world.tables.groups.find_by_folder(connection, "researcher")
            assert group is not None
            found = world.tables.groups.get(connection, group)
            world.groups.archive(connection, found, after, world.clock.now_ms())

        await world.store.write(put_away)
        world.carrier.carry(after)
        await chat.hears("It is gone.")
        await world.quiet()
        told_of = [note for note in await notes(world, "main") if "ended without an answer" in note]
        assert len(told_of) == 1 and "put away" in told_of[0]


async def test_a_broken_attempt_is_told_what_it_already_asked_of_whom(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()

        async def asks_and_dies(turn: BoxTurn) -> None:
            turn.send("look it up", to="researcher")
            await turn.wait(asyncio.Event())

        world.runtime.script_for("family").then(asks_and_dies)
        world.runtime.script_for("andy").hangs()
        await chat.says("go")
        await world.quiet()
        world.runs.end_soon(live_of(world, "main"), RunEnd.FAULT, "broken")
        await world.quiet()
        await world.after(30)
        again = [one.already_sent for one in await told(world, "main") if one.already_sent]
        assert again == [("(to Researcher) look it up",)]


async def test_a_broken_attempt_of_a_specialist_is_told_what_it_already_answered(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()

        async def answers_and_dies(turn: BoxTurn) -> None:
            turn.send("half of it")
            await turn.wait(asyncio.Event())

        world.runtime.script_for("family").replies("look it up", to="researcher")
        world.runtime.script_for("andy").then(answers_and_dies)
        world.runtime.script_for("andy").replies("the rest")
        await chat.says("go")
        await chat.hears("you said: half of it")
        await world.quiet()
        world.runs.end_soon(live_of(world, "researcher"), RunEnd.FAULT, "broken")
        await world.quiet()
        await world.after(30)
        await chat.hears("you said: half of it", "you said: the rest")
        again = [(one.text, one.already_sent) for one in await told(world, "researcher") if one.already_sent]
        assert again == [("look it up", ("(to Andy) half of it",))]


async def test_an_answer_that_comes_when_its_row_has_ended_still_reaches_the_asker(tmp_path: Path) -> None:
    """A tool call of the next turn, or a runner's late word, may name an older row."""
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")

        async def says_it_twice(turn: BoxTurn) -> None:
            turn.finish("first")
            turn.send("and second")

        world.runtime.script_for("andy").then(says_it_twice)
        await chat.says("go")
        await world.until(lambda: " ".join(chat.heard).endswith("and second"))


async def test_an_agent_that_names_a_row_it_never_got_reaches_nobody(tmp_path: Path) -> None:
    """A hostile box answers row 998: there is no such row, so nobody is asked and nobody hears it."""
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")

        async def lies(turn: BoxTurn) -> None:
            turn.send("psst", reply_to=998)
            turn.finish("here")

        world.runtime.script_for("andy").then(lies)
        await chat.says("go")
        await chat.hears("you said: here")
        await world.quiet()
        assert [one.text for one in await told(world, "main")] == ["go", "here"]
        assert ("no_destination",) in await world.rows("SELECT reason FROM audit")


async def ping_pong(turn: BoxTurn) -> None:
    """Write to whoever spoke, and never to a person."""
    origin = turn.chats[-1][1].origin
    ends_with(turn, ("and you?", "researcher" if origin != "andy" else None))


async def test_two_agents_that_never_stop_are_stopped_by_the_hops_and_both_and_the_owner_are_told(
    tmp_path: Path,
) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        for name in ("family", "andy", "researcher"):
            for _ in range(20):
                world.runtime.script_for(name).then(ping_pong)
        world.script.ends_silently()
        await chat.says("go")
        await chat.hears(SILENCE)
        await world.quiet()
        hops = [hop for (hop,) in await world.rows("SELECT hops FROM inbox WHERE kind = 'chat' ORDER BY id")]
        assert hops == list(range(MOST_HOPS + 1))
        assert any(LIMIT in note for note in await notes(world, "researcher"))
        assert any("passed 8 agents" in note for note in await notes(world, "main"))
        (heard,) = await owner_heard(world)
        assert heard.startswith(LIMIT) and "8 agents" in heard


async def test_a_pair_may_write_thirty_messages_in_ten_minutes_and_the_owner_is_told_once(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()

        async def floods(turn: BoxTurn) -> None:
            ends_with(turn, *((f"{number}", "researcher") for number in range(50)))

        world.runtime.script_for("family").then(floods)
        world.runtime.script_for("andy").hangs()
        await chat.says("go")
        await world.quiet()
        assert len(await told(world, "researcher")) == MOST_WRITTEN
        assert len(await owner_heard(world)) == 1
        assert [note for note in await notes(world, "researcher") if LIMIT in note] != []
        assert len([note for note in await notes(world, "main") if "thirty" in note or "30 messages" in note]) == 20
        assert (await world.rows("SELECT count(*) FROM audit WHERE reason = 'pair_limit'")) == [(20,)]


async def test_the_answer_that_the_limit_holds_back_is_no_silence_for_the_asker(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()

        async def floods(turn: BoxTurn) -> None:
            ends_with(turn, *((f"{number}", "researcher") for number in range(MOST_WRITTEN)))

        world.runtime.script_for("family").then(floods)
        await chat.says("go")
        await world.until(lambda: len(chat.heard) > 0)
        await world.quiet()
        assert any("ended without an answer: the two of you wrote" in note for note in await notes(world, "main"))
        assert {state for _, state, *_ in await world.outcomes()} == {"done"}


@pytest.mark.parametrize(
    ("hops", "written", "reason"),
    [(1, 0, None), (8, 29, None), (9, 0, "hop_limit"), (1, 30, "pair_limit"), (100, 100, "hop_limit")],
)
def test_a_letter_goes_on_within_both_limits_and_not_beyond_either(hops: int, written: int, reason: str | None) -> None:
    verdict = decide_letter(hops, written)
    assert isinstance(verdict, Allow) if reason is None else isinstance(verdict, Deny) and verdict.reason == reason


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("point", [p for p in HOST_CRASH_POINTS if p.startswith(("wake", "collect", "end"))])
async def test_a_host_killed_at_any_step_of_a_delegation_loses_nothing_and_doubles_nothing(
    tmp_path: Path, point: str, count: int
) -> None:
    home = Home(tmp_path)
    async with open_swarm(home, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("look", to="researcher")
        world.runtime.script_for("andy").replies("found")
        world.runtime.script_for("researcher").replies("here it is")
        left = [count]

        def dies() -> None:
            left[0] -= 1
            if left[0] == 0:
                world._crash_at = point

        world.at[point] = dies
        await chat.says("go")
        for _ in range(3):
            await world.quiet()
            await world.after(1)
    async with open_swarm(home, "researcher") as world:
        script = world.runtime.script_for
        script("family").replies("look", to="researcher")
        script("andy").replies("found")
        script("researcher").replies("here it is")
        await world.recover()
        chat = await world.chat()
        for _ in range(4):
            await world.after(30)
        await chat.hears("here it is")
        rows = await world.rows("SELECT hops, state FROM inbox ORDER BY hops")
        assert rows == [(0, "done"), (1, "done"), (2, "done")]
