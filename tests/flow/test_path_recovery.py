"""Start-up after a kill, from every state a run can be in and at every durable step: nothing lost, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw.channels.base import Incoming
from nanoclaw.domain.session import RunState
from nanoclaw.testing.crashpoints import HOST_CRASH_POINTS
from nanoclaw.testing.scripted_box import BoxTurn, ScriptedBox
from tests.flow.world import Home, World, open_world

ONCE_PER_MESSAGE = [point for point in HOST_CRASH_POINTS if not point.startswith("end.")]
HANDED_OVER = {"deliver.handed_over"}  # the platform has it, the store does not know: it may come twice, and is marked


@pytest.mark.parametrize("point", ONCE_PER_MESSAGE)
async def test_a_host_killed_at_any_durable_step_answers_after_its_start(tmp_path: Path, point: str) -> None:
    home = Home(tmp_path)
    async with open_world(home, crash_at=point) as world:
        chat = await world.chat()
        message = chat.message("hi", platform_id="p1")
        await world.channel.receive(message)
        await world.until(lambda: world.dead)
    async with open_world(home) as world:
        await world.recover()
        await world.channel.receive(message)  # the platform repeats what was not acknowledged
        await world.until(lambda: bool(chat.heard))
        await world.quiet()
        await world.after(1)
        assert [(text, state, outcome) for text, state, outcome, _ in await world.outcomes()] == [
            ("hi", "done", "replied")
        ]
        assert await world.rows("SELECT DISTINCT state FROM outbox") == [("sent",)]
    if point in HANDED_OVER:
        assert chat.heard == ["you said: hi", "(This may be a repeat: I was stopped while sending it.)\n\nyou said: hi"]
    else:
        assert [text.rpartition("\n")[2] for text in chat.heard] == ["you said: hi"]


@pytest.mark.parametrize("point", ["end.drained", "end.settled", "wake.claimed", "wake.projected", "collect.applied"])
async def test_a_host_killed_while_a_broken_run_ends_tries_the_message_again(tmp_path: Path, point: str) -> None:
    home = Home(tmp_path)
    async with open_world(home, crash_at=point) as world:
        chat = await world.chat()
        world.script.dies()
        await chat.says("hi")
        await world.until(lambda: world.dead)
    async with open_world(home) as world:
        await world.recover()
        await world.quiet()
        await world.after(5)
        await chat.hears("you said: hi")
        assert len(list(tmp_path.glob("sessions/*/*/runs/*"))) == 1


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.OVER])
async def test_a_run_of_any_state_is_ended_and_its_rows_go_on(tmp_path: Path, state: RunState) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("hi")
        await world.quiet()
        await world.change("UPDATE sessions SET run_state = ?", state)
    async with open_world(home) as world:
        await world.recover()
        await chat.hears("you said: hi")
        await world.quiet()
        assert [(box.label.fence, row.attempt) for box in world.boxes for row in box.seen] == [(2, 2)]
        assert [path.name for path in tmp_path.glob("sessions/*/*/runs/*")] == ["2"]


async def test_words_left_unread_in_a_dead_runs_mailbox_are_delivered_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.runtime.muted = True
        world.script.replies("whispered")
        await chat.says("hi")
        await world.quiet()
    assert chat.heard == []
    async with open_world(home) as world:
        await world.recover()
        await world.quiet()
        await world.after(1)
        assert chat.heard == ["whispered"] and world.boxes == []
        assert await world.outcomes() == [("hi", "done", "replied", 1)]


async def test_half_an_answer_left_unread_is_delivered_and_named_to_the_next_attempt(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()

        async def half(turn: BoxTurn) -> None:
            turn.send("so far so good")
            await turn.more()

        world.runtime.muted = True
        world.script.then(half)
        await chat.says("hi")
        await world.quiet()
    async with open_world(home) as world:
        await world.recover()
        await chat.hears("so far so good", "you said: hi")
        assert BoxTurn(world.boxes[0], world.boxes[0].seen).chats[0][1].already_sent == ("so far so good",)


async def test_a_transaction_cut_off_in_the_middle_is_rolled_back_in_a_box_of_its_own(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.runtime.muted = True
        world.script.replies("whispered")
        await chat.says("hi")
        await world.quiet()
        leave_hot_journal(world.boxes[0])
    async with open_world(home) as world:
        await world.recover()
        await world.quiet()
        await world.after(1)
        assert chat.heard == ["whispered"], world.log_lines.getvalue()
        assert [box.spec.command[-1] for box in world.boxes] == ["--recover"]


async def test_a_mailbox_that_cannot_be_rolled_back_costs_its_words_not_the_message(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.runtime.muted = True
        world.script.replies("whispered")
        await chat.says("hi")
        await world.quiet()
        leave_hot_journal(world.boxes[0])
    async with open_world(home) as world:
        world.runtime.refuse(1, "no room for another box")
        await world.recover()
        await world.quiet()
        await world.after(5)
        await chat.hears("you said: hi")


async def test_garbage_left_by_a_dead_run_is_not_applied_and_the_message_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("hi")
        await world.quiet()
        world.boxes[0].outbound_db.write_bytes(b"\x00" * 5000)
    async with open_world(home) as world:
        await world.recover()
        await world.after(5)
        await chat.hears("you said: hi")


async def test_folders_of_runs_that_are_over_are_removed_and_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        await chat.says("hi")
        await chat.hears("you said: hi")
        await world.quiet()
        (run,) = tmp_path.glob("sessions/*/*/runs/1")
        (run.parent / "7" / "out").mkdir(parents=True)
        (run.parent / "7" / "out" / "link").symlink_to(tmp_path / "data")
        (run.parent.parent / "home" / "kept").write_text("mine")
    async with open_world(home) as world:
        await world.recover()
        await world.quiet()
        assert list(run.parent.iterdir()) == []
        assert (run.parent.parent / "home" / "kept").read_text() == "mine" and (tmp_path / "data").is_dir()


async def test_a_clock_set_back_over_a_restart_changes_no_order(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for number in range(3):
        async with open_world(home) as world:
            await world.recover()
            chat = await world.chat()
            await chat.says(f"m{number}")
            await chat.hears(*(f"you said: m{earlier}" for earlier in range(number + 1)))
            home.clock.set_back(3600)
    async with open_world(home) as world:
        sent = await world.rows("SELECT text FROM outbox ORDER BY id")
        assert [text for (text,) in sent] == [f"you said: m{number}" for number in range(3)]


async def test_a_session_goes_on_after_many_kills_with_every_message_answered_in_order(tmp_path: Path) -> None:
    home = Home(tmp_path)
    texts = [f"t{number}" for number in range(12)]
    said: list[Incoming] = []
    for life, point in enumerate(("wake.projected", "collect.read", "deliver.sending", "deliver.sent")):
        async with open_world(home, crash_at=point) as world:
            chat = await world.chat()
            said += [chat.message(text) for text in texts[3 * life : 3 * life + 3]]
            await world.recover()
            await world.channel.receive(*said)  # the platform repeats what was not acknowledged
            await world.until(lambda: world.dead)
    async with open_world(home) as world:
        await world.recover()
        await world.channel.receive(*said)
        await all_done(world, len(texts))
    heard = [text.rpartition("\n")[2].removeprefix("you said: ") for text in chat.heard]
    assert [part for text in heard for part in text.split(" / ")] == texts


async def all_done(world: World, count: int) -> None:
    for _ in range(40):
        await world.after(1)
        if [state for _, state, *_ in await world.outcomes()] == ["done"] * count:
            return
    raise AssertionError(await world.outcomes())


def leave_hot_journal(box: ScriptedBox) -> None:
    """As a runner killed before its commit leaves it: pages changed, their old content in the journal."""
    journal = box.outbound_db.with_name("outbound.db-journal")
    writer = box.outbound._connection  # the runner's own, in the middle of a transaction
    writer.execute("PRAGMA cache_size = 1")
    writer.execute("BEGIN IMMEDIATE")
    for number in range(64):
        writer.execute("INSERT INTO state VALUES (?, ?)", (f"k{number}", "v" * 2000))
    database, hot = box.outbound_db.read_bytes(), journal.read_bytes()
    writer.execute("ROLLBACK")
    box.outbound_db.write_bytes(database)
    journal.write_bytes(hot)
