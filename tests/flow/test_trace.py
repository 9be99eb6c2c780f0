"""`nanoclaw trace`: when a session worked on a message, so that its model calls are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoclaw.admin.resources.messages import COLUMNS, trace
from nanoclaw.cli.trace import FOR_EVER, Work, decide_work
from nanoclaw.errors import Refused
from nanoclaw.store.audit import Entry
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.swarm import open_swarm
from tests.flow.world import World, open_world


async def traced(world: World, text: str) -> list[tuple[object, ...]]:
    table = await world.store.read(lambda c: trace(c, world.tables, text))
    assert table.columns == COLUMNS and [row[0] for row in table.rows] == sorted(row[0] or 0 for row in table.rows)
    return [tuple(row) for row in table.rows]


async def test_the_whole_way_of_a_message_is_shown_in_order_and_never_its_text(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.replies("a secret answer")
        accepted = await chat.says("a secret question", platform_id="telegram-42")
        await chat.hears("a secret answer")
        await world.quiet()
        rows = await traced(world, accepted.message)
        whats = [row[1] for row in rows]
        assert whats == ["received", "routed", "admitted", "queued", "claimed", "done", "delivery", "delivery sent",
                         "outcome"]  # fmt: skip
        details = {str(row[1]): str(row[2]) for row in rows}
        assert "chat family, from Alice (alice)" in details["received"]
        assert "to Andy" in details["routed"] and "pattern" in details["routed"] and "admin" in details["admitted"]
        assert "attempt 1" in details["claimed"] and details["outcome"] == "replied"
        assert "secret" not in str(rows)
        assert await traced(world, accepted.message[:20].lower()) == rows == await traced(world, "telegram-42")


async def test_what_agents_wrote_to_each_other_for_a_message_is_part_of_its_way(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        chat = await world.chat()
        world.script.replies("look", to="bob")
        world.script.replies("found")
        world.script.replies("here it is")
        accepted = await chat.says("ask bob")
        await chat.hears("here it is")
        await world.quiet()
        rows = await traced(world, accepted.message)
        routed = [str(row[2]) for row in rows if row[1] == "routed"]
        assert [line.split(",")[0] for line in routed] == ["to Andy", "to Bob", "to Andy"]
        assert "because: agent" in routed[1] and "because: agent-answer" in routed[2]
        assert len(decide_work(rows)) == 2, "two sessions worked on it"  # type: ignore[arg-type]


async def test_a_message_that_is_still_worked_on_and_one_tried_again_say_so(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.dies()
        world.script.hangs()
        accepted = await chat.says("hi")
        await world.quiet()
        assert "still queued" in [row[1] for row in await traced(world, accepted.message)]
        await world.after(6)
        rows = await traced(world, accepted.message)
        assert {"tried before", "still claimed"} <= {str(row[1]) for row in rows}
        (work,) = decide_work(rows)  # type: ignore[arg-type]
        assert work.ended_at == FOR_EVER and work.begun_at == rows[0][0]


async def test_what_the_agent_asked_people_for_meanwhile_is_part_of_the_way(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def asks(turn: BoxTurn) -> None:
            turn.ask(
                "ask_user_question", json.dumps({"title": "Tea?", "question": "secret tea?", "options": ["a", "b"]})
            )
            turn.finish("asked")

        world.script.then(asks)
        accepted = await chat.says("hi")
        await world.until(lambda: "asked" in chat.heard)
        await world.quiet()
        rows = await traced(world, accepted.message)
        (asked,) = [row for row in rows if row[1] == "asked"]
        assert str(asked[2]).startswith("question, id ") and "tea" not in str(rows).lower()


async def test_a_refused_message_is_explained_by_what_the_audit_says_of_its_id(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        entry = Entry(5, "approval.opened", "scripted:eve", "01QQQQQQQQQQQQ", "ask", "unknown_sender")
        await world.store.write(lambda c: world.tables.audit.append(c, entry))
        assert await traced(world, "01QQQQQQ") == [
            (5, "approval.opened", "ask, scripted:eve, unknown_sender", None, None)
        ]


@pytest.mark.parametrize("text", ["", "01", "ZZZZZZZZ", "%%%%%%%%", "../../etc", "🤖" * 9, "x" * 10_000, "a\0bcdefg"])
async def test_an_id_of_nothing_is_refused_in_words(tmp_path: Path, text: str) -> None:
    async with open_world(tmp_path) as world:
        with pytest.raises(Refused) as caught:
            await traced(world, text)
        assert len(caught.value.reason) < 300


async def test_an_id_that_could_be_two_messages_is_refused_with_both(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        family, garden = await world.chat("family"), await world.chat("garden")
        for chat in (family, garden):
            await chat.says("hi", platform_id="the-same-9")
        await world.quiet()
        with pytest.raises(Refused, match="More than one"):
            await traced(world, "the-same-9")


def test_a_session_worked_from_its_claim_until_its_row_ended_and_from_the_queue_when_it_was_tried_before() -> None:
    rows = [
        (1, "received", "", None, None),
        (2, "queued", "", "A", None),
        (2, "tried before", "", "B", None),
        (5, "claimed", "", "A", 1),
        (6, "claimed", "", "B", 3),
        (9, "done", "", "A", 1),
        (7, "still claimed", "", "B", 3),
        (9, "delivery", "", "A", 1),
    ]
    assert decide_work(rows) == [Work("B", 2, FOR_EVER), Work("A", 5, 9)]
