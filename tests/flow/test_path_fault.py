"""What no honest runner writes: the run is ended, nothing of it is believed, the message and the host go on."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from nanoclaw.runner.mailbox import Draft
from nanoclaw.testing.scripted_box import Act, BoxTurn
from tests.flow.world import open_world


async def writes_garbage(turn: BoxTurn) -> None:
    turn.box.outbound_db.write_bytes(b"garbage" * 4096)
    turn.box.bell(b"o")
    await turn.more()


async def cuts_it_short(turn: BoxTurn) -> None:
    turn.box.outbound_db.write_bytes(b"")
    turn.box.bell(b"o")
    await turn.more()


async def changes_the_schema(turn: BoxTurn) -> None:
    with sqlite3.connect(turn.box.outbound_db) as other:
        other.execute("CREATE VIEW endless AS SELECT 1")
    other.close()
    turn.box.bell(b"o")
    await turn.more()


async def writes_no_json(turn: BoxTurn) -> None:
    turn.write([draft_of(turn, '{"text": 7}')])
    await turn.more()


async def unlinks_it(turn: BoxTurn) -> None:
    turn.box.outbound_db.unlink()
    turn.box.bell(b"o")
    await turn.more()


def draft_of(turn: BoxTurn, content: str) -> Draft:
    return Draft("chat", content, turn.rows[-1].seq)


FAULTS = [writes_garbage, cuts_it_short, changes_the_schema, writes_no_json, unlinks_it]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_ends_the_run_and_the_message_goes_on_in_a_new_one(tmp_path: Path, fault: Act) -> None:
    async with open_world(tmp_path) as world:
        chat, other = await world.chat("family"), await world.chat("work")
        world.script.then(fault)
        await chat.says("hi")
        await world.until(lambda: "why=fault" in world.log_lines.getvalue(), world.log_lines.getvalue)
        await other.says("still there?")
        await other.hears("you said: still there?")
        await world.after(5)
        await chat.hears("you said: hi")


async def test_a_box_whose_every_run_is_a_fault_is_given_up_and_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        for _ in range(3):
            world.script.then(writes_garbage)
        await chat.says("hi")
        await world.quiet()
        await world.after(5)
        await world.after(20)
        assert len(chat.heard) == 1 and "could not be trusted" in chat.heard[0]
        await chat.says("and now?")
        await world.until(lambda: len(chat.heard) == 2)
        assert chat.heard[1] == "you said: and now?"


async def test_a_box_that_holds_its_file_locked_is_a_fault_after_30_seconds_not_before(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def locks(turn: BoxTurn) -> None:
            held = sqlite3.connect(turn.box.outbound_db, isolation_level=None)
            turn.box.held.append(held)
            held.execute("BEGIN EXCLUSIVE")
            turn.box.bell(b"o")
            await turn.more()

        world.script.then(locks)
        await chat.says("hi")
        await world.quiet()
        await world.after(29)
        assert len(world.live) == 1
        world.run.alive_at = world.clock.monotonic()
        await world.after(2)
        assert len(world.live) == 0 and "why=fault" in world.log_lines.getvalue()
        await world.after(5)
        await chat.hears("you said: hi")


async def test_a_lock_that_is_let_go_costs_nothing_but_time(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        unlock = asyncio.Event()

        async def locks_a_while(turn: BoxTurn) -> None:
            held = sqlite3.connect(turn.box.outbound_db, isolation_level=None)
            held.execute("BEGIN EXCLUSIVE")
            turn.box.bell(b"o")
            await turn.wait(unlock)
            held.close()
            turn.finish("let go")

        world.script.then(locks_a_while)
        await chat.says("hi")
        await world.quiet()
        await world.after(25)
        unlock.set()
        await chat.hears("let go")
        await world.after(20)
        assert len(world.live) == 1 and len(world.boxes) == 1


async def test_words_before_the_fault_are_kept_and_named_to_the_next_attempt(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def speaks_then_breaks(turn: BoxTurn) -> None:
            turn.send("half an answer")
            await turn.wait(said)
            await writes_garbage(turn)

        said = asyncio.Event()
        world.script.then(speaks_then_breaks)
        await chat.says("hi")
        await chat.hears("half an answer")
        said.set()
        await world.until(lambda: len(world.live) == 0)
        await world.after(5)
        await chat.hears("half an answer", "you said: hi")
        assert BoxTurn(world.boxes[1], world.boxes[1].seen).chats[0][1].already_sent == ("half an answer",)


async def test_acks_for_rows_a_run_does_not_hold_change_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat(is_group=True, engage_mode="mention", ignored_message_policy="accumulate")

        async def claims_too_much(turn: BoxTurn) -> None:
            row = turn.rows[0]
            for seq, attempt in ((row.seq, row.attempt + 1), (row.seq + 200, 1), (2**40, 1)):
                turn.rows = [type(row)(seq, row.inbox_id, attempt, row.kind, True, row.content)]
                turn.write(acks="finished")
            turn.rows = [row]
            await turn.more()
            turn.finish("honest")

        world.script.then(claims_too_much)
        await chat.says("one", is_mention=True)
        await world.quiet()
        assert await world.outcomes() == [("one", "claimed", None, 1)]
        await chat.says("two", is_mention=True)
        await chat.hears("honest")
        await world.quiet()
        assert await world.outcomes() == [("one", "done", "replied", 1), ("two", "done", "replied", 1)]


async def test_rows_of_a_zombie_are_never_applied(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("hi")
        await world.quiet()
        zombie = world.run
        await world.change("UPDATE sessions SET fence = fence + 1")  # as another host that took the session over
        turn = BoxTurn(world.boxes[0], world.boxes[0].seen)
        turn.finish("braaains")
        await world.until(zombie.over.is_set)
        await world.quiet()
        assert chat.heard == [] and await world.rows("SELECT count(*) FROM outbox") == [(0,)]
        assert await world.rows("SELECT fence, run_state FROM sessions") == [(2, "running")]


async def test_an_answer_to_a_message_nobody_wrote_goes_to_the_chat_of_the_session(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def answers_nothing_known(turn: BoxTurn) -> None:
            draft = turn.draft("to whom it may concern", reply_to=4096)
            turn.write([draft])
            turn.finish("and done")

        world.script.then(answers_nothing_known)
        await chat.says("hi")
        await chat.hears("to whom it may concern", "and done")
