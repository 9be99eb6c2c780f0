"""When boxes break: tried again with what was already said, given up with words, never lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nanoclaw.domain.session import RunEnd
from nanoclaw.sandbox.runtimes.base import ExitReason
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.world import World, open_world


async def dies(turn: BoxTurn) -> None:
    turn.exit(1, "Segmentation fault")


async def test_a_box_that_dies_is_tried_again_and_told_what_it_had_sent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.sends_then("looking it up", dies)
        await chat.says("hi")
        await world.until(lambda: chat.heard == ["looking it up"] and len(world.live) == 0)
        world.script.replies("here it is")
        await world.after(5)
        await chat.hears("looking it up", "here it is")
        ((row, told),) = BoxTurn(world.boxes[1], world.boxes[1].seen).chats
        assert (row.seq, row.attempt, told.already_sent) == (2, 2, ("looking it up",))
        assert [box.label.fence for box in world.boxes] == [1, 2]


async def test_the_first_back_off_is_5_seconds_the_second_20_then_dead_and_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        for _ in range(3):
            world.script.then(dies)
        accepted = await chat.says("hi")
        await world.quiet()
        await world.after(4.9)
        assert len(world.boxes) == 1
        await world.after(0.1)
        assert len(world.boxes) == 2
        await world.after(19.9)
        assert len(world.boxes) == 2 and chat.heard == []
        await world.after(0.1)
        assert len(world.boxes) == 3
        await chat.hears(
            "I gave up on this message after 3 tries: the sandbox ended unexpectedly. (Segmentation fault)"
        )
        await world.quiet()
        assert await world.outcomes() == [("hi", "dead", "failed", 3)]
        settled = await world.store.read(lambda c: world.tables.inbox.list_settled(c, [accepted.message]))
        assert settled == [(accepted.message, "failed")]
        await world.after(60)
        assert len(world.boxes) == 3


async def test_a_runner_that_says_it_failed_is_tried_again(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.fails("the model answers 529")
        await chat.says("hi")
        await world.quiet()
        assert "why=agent_failed" in world.log_lines.getvalue()
        await world.after(5)
        await chat.hears("you said: hi")


async def test_a_message_after_one_that_kills_its_box_waits_and_is_answered(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def dies_of_poison(turn: BoxTurn) -> None:
            if "poison" in turn.texts:
                turn.exit(139, "Segmentation fault")
            turn.finish("fine: " + " / ".join(turn.texts))

        for _ in range(9):
            world.script.then(dies_of_poison)
        await chat.says_at_once("poison", "after one", "after two")
        await world.quiet()
        assert chat.heard == []
        for seconds in (5, 20):
            await world.after(seconds)
        await world.after(1)
        assert len(chat.heard) == 2 and "gave up" in chat.heard[0] and chat.heard[1] == "fine: after one / after two"
        assert [(text, outcome) for text, _, outcome, _ in await world.outcomes()] == [
            ("poison", "failed"),
            ("after one", "replied"),
            ("after two", "replied"),
        ]


async def test_a_new_message_during_a_back_off_does_not_end_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.then(dies)
        await chat.says("one")
        await world.quiet()
        await chat.says("two")
        await world.after(4)
        assert len(world.boxes) == 1
        await world.after(1)
        await world.quiet()
        assert chat.heard == ["you said: one", "you said: two"]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (ExitReason.MEMORY, "ran out of its memory of 2 GB. Ask for less at once, or give it more"),
        (ExitReason.DISK, "over the limit of its workspace"),
    ],
)
async def test_a_box_over_its_limits_is_named_in_the_chat(tmp_path: Path, reason: ExitReason, words: str) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        for _ in range(3):
            world.script.dies(137, reason=reason)
        await chat.says("hi")
        await world.quiet()
        await world.after(5)
        await world.after(20)
        assert len(chat.heard) == 1 and words in chat.heard[0]


# -- boxes that cannot start or show no life --------------------------------------------------------------------


async def test_a_box_that_cannot_start_is_tried_again_and_then_told_with_its_mend(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.runtime.refuse(3, "bubblewrap is gone.", mend="Install it: apt-get install bubblewrap")
        await chat.says("hi")
        await world.quiet()
        await world.after(5)
        await world.after(20)
        assert len(chat.heard) == 1
        assert "could not be started" in chat.heard[0] and "apt-get install bubblewrap" in chat.heard[0]
        assert await world.outcomes() == [("hi", "dead", "failed", 3)]
        await chat.says("again")
        await world.until(lambda: len(chat.heard) == 2)
        assert chat.heard[1] == "you said: again"


async def test_a_start_that_fails_once_costs_a_back_off_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.gateway.refuse_next_listen(OSError("too many open files"))
        await chat.says("hi")
        await world.quiet()
        assert len(world.live) == 0 and [box.is_quiet for box in world.boxes] == [True]
        assert list(tmp_path.glob("sessions/*/*/runs/*")) == []
        assert world.gateway.open == set()
        await world.after(5)
        await chat.hears("you said: hi")


async def test_a_run_folder_that_is_in_the_way_costs_an_attempt_not_the_host(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        (folder,) = tmp_path.glob("sessions/*/*/runs/1")
        await end_idle(world)
        folder.with_name("2").mkdir()
        await chat.says("two")
        await world.quiet()
        await world.after(5)
        await chat.hears("you said: one", "you said: two")


async def test_a_box_without_a_sign_of_life_is_ended_after_60_seconds(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("hi")
        await world.quiet()
        await world.after(59)
        world.boxes[0].bell(b"h")
        await world.quiet()
        await world.after(59)
        assert len(world.live) == 1
        await world.after(2)
        assert len(world.live) == 0 and "why=lease" in world.log_lines.getvalue()
        await world.after(5)
        await chat.hears("you said: hi")


async def test_an_inbound_file_that_cannot_be_written_ends_the_run_not_the_host(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        await world.quiet()
        (inbound,) = tmp_path.glob("sessions/*/*/runs/1/in/inbound.db")
        inbound.write_bytes(b"a disk that lies" * 1000)
        await chat.says("two")
        await world.quiet()
        await world.after(5)
        await chat.hears("you said: one", "you said: two")


async def test_a_provider_session_is_handed_to_the_next_run(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def remembers(turn: BoxTurn) -> None:
            turn.write(continuation="conversation-7")
            turn.finish("ok")

        world.script.then(remembers)
        await chat.says("one")
        await chat.hears("ok")
        await end_idle(world)
        await chat.says("two")
        await chat.hears("ok", "you said: two")
        assert await world.rows("SELECT continuation FROM sessions") == [("conversation-7",)]
        with sqlite3.connect(world.boxes[1].in_directory / "inbound.db") as inbound:
            assert '"conversation-7"' in inbound.execute("SELECT settings FROM run").fetchone()[0]
        inbound.close()


async def test_message_numbers_go_on_over_runs_and_are_never_used_twice(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        for number in range(3):
            await chat.says(f"m{number}")
            await world.until(lambda number=number: len(chat.heard) == number + 1)
            await end_idle(world)
        seqs = [seq for (seq,) in await world.rows("SELECT seq FROM inbox UNION ALL SELECT seq FROM outbox")]
        assert len(set(seqs)) == len(seqs) == 6
        runs = await world.rows("SELECT run, seq FROM outbox ORDER BY id")
        assert [run for run, _ in runs] == [1, 2, 3] and runs == sorted(runs)


async def end_idle(world: World) -> None:
    await world.quiet()
    await world.runs.stop(world.run, RunEnd.IDLE, 1.0)
    await world.quiet()
