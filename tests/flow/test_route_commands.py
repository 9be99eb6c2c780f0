"""Commands: the exact first word, who may give it, what it does; and that whoever may not is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw.contract.message import chat_from_json, system_from_json
from nanoclaw.domain.people import Role, Standing
from nanoclaw.domain.session import RunEnd
from nanoclaw.domain.verdict import Allow, Deny
from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy, SessionMode, UnknownSenderPolicy
from nanoclaw.flow.commands import CommandName, decide_command, parse_command
from nanoclaw.flow.live import LiveRun
from nanoclaw.store.chats import ALWAYS, WiringRules
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.cast import MENTION, Cast
from tests.flow.world import Home, World, open_world

NAMES = ["Andy", "Andy Smith", "\U0001f339"]
OVERHEARS = WiringRules(engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
IDLE = "There is nothing to stop. Andy is idle."
STOPPED = "Stopped, as Alice asked."


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("/stop", "/stop", "/stop"),
        ("  /STOP  ", "/stop", "/stop"),
        ("/clear now please", "/clear", "/clear now please"),
        ("/Compact keep  the  recipes", "/compact", "/compact keep  the  recipes"),
        ("/cost\nmore", "/cost", "/cost more"),
        ("@andy /stop", "/stop", "/stop"),
        ("@Andy Smith   /stop", "/stop", "/stop"),
        ("@\U0001f339 /files a", "/files", "/files a"),
    ],
)
def test_a_command_is_an_exact_first_word_after_the_agents_name(text: str, name: str, rest: str) -> None:
    command = parse_command(text, NAMES)
    assert command is not None and (command.name, command.text) == (name, rest)


@pytest.mark.parametrize(
    "text",
    ["/clearx", "/clear.", "/clear/", "//clear", "clear", "please /clear", "@bob /clear", "@andy/clear", "/", "",
     "/ stop", "/stop\0", "/st\u00f6p", "/login", "/config x", "@andy", "@andy please /clear", "/clear\u200b"],
)  # fmt: skip
def test_everything_else_that_begins_with_a_slash_is_ordinary_text(text: str) -> None:
    assert parse_command(text, NAMES) is None


@pytest.mark.parametrize("name", list(CommandName))
def test_each_command_is_for_whom_it_is_for_cell_by_cell(name: CommandName) -> None:
    for_all = name in ("/stop", "/status", "/help")
    for standing in Standing:
        verdict = decide_command(name, standing, "Andy")
        may = standing in ("owner", "admin", "group-admin") or (for_all and standing == "member")
        assert isinstance(verdict, Allow if may else Deny), standing
        if isinstance(verdict, Deny):
            right = "command_needs_member" if standing == "stranger" else "command_needs_admin"
            assert verdict.reason == right and name in verdict.words and "Andy" in verdict.words


async def settled(world: World, message: str) -> list[tuple[str, str]]:
    await world.quiet()
    return await world.store.read(lambda connection: world.tables.inbox.list_settled(connection, [message]))


async def audit_of(world: World) -> list[tuple[str, ...]]:
    return await world.rows("SELECT actor, subject, reason FROM audit")


async def test_a_member_who_clears_is_told_which_right_is_missing_and_the_others_still_get_theirs(
    tmp_path: Path,
) -> None:
    """Defect 1, and the trace of section 13.6: no answer came, and the rest of the fan-out was skipped."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS), ("Bob", ALWAYS))
        user = await cast.person("mum", member="Andy")
        bob = await cast.agent("Bob")
        await world.store.write(lambda c: world.tables.people.grant(c, user, Role.ADMIN, 0, agent_group=bob))
        accepted = await chat.says("/clear", sender="mum")
        await world.until(lambda: len(chat.heard) == 2)
        assert sorted(chat.heard) == [
            "/clear is for admins of Andy, and you are not one. /help says more.",
            "Bob begins a new conversation. Its memory and files are as they were.",
        ]
        assert await settled(world, accepted.message) == [(accepted.message, "refused")]
        assert await audit_of(world) == [("scripted:mum", accepted.message, "command_needs_admin")]
        assert await cast.refusals() == [("mum", "command_needs_admin", 1)]
        assert world.boxes == []


@pytest.mark.parametrize("text", ["/clearx", "/clear.", "/clearly", "/CLEAR!"])
async def test_what_only_begins_like_a_command_clears_nothing(tmp_path: Path, text: str) -> None:
    """Defect 2: a prefix was enough, so that people without the right could clear."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS))
        await cast.person("mum", member="Andy")
        await chat.says(text, sender="mum")
        await chat.hears(f"you said: {text}")
        told = chat_from_json(world.boxes[0].seen[0].content)
        assert not told.command and await world.rows("SELECT count(*) FROM sessions WHERE closed_at IS NOT NULL") == [
            (0,)
        ]


async def test_a_stranger_in_a_public_chat_commands_nothing_and_is_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("square", ("Andy", ALWAYS), policy=UnknownSenderPolicy.PUBLIC)
        world.script.hangs()
        await chat.says("work", sender="mallory")
        await world.quiet()
        await chat.says("/stop", sender="mallory")
        await chat.hears("/stop is for people whom Andy knows.")
        assert len(world.live) == 1


async def test_a_stranger_in_a_strict_chat_is_refused_by_the_gate_and_leaves_no_row(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS))
        assert (await chat.says("/status", sender="mallory")).reason == "unknown_sender_strict"
        await world.quiet()
        assert await cast.given() == [] and chat.heard == []


async def test_stop_ends_the_running_turn_and_the_conversation_survives(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS))

        async def works(turn: BoxTurn) -> None:
            turn.write(continuation="conversation-1")
            turn.send("on it")
            await turn.more()

        world.script.then(works)
        work = await chat.says("dig the whole garden")
        await chat.hears("on it")
        stop = await chat.says("/stop")
        await chat.hears("on it", STOPPED)
        await world.quiet()
        assert len(world.live) == 0 and await world.outcomes() == [
            ("dig the whole garden", "done", "failed", 1),
            ("/stop", "done", "replied", 0),
        ]
        assert await settled(world, work.message) == [(work.message, "failed")]
        assert await settled(world, stop.message) == [(stop.message, "replied")]
        await world.after(60)
        assert chat.heard == ["on it", STOPPED] and len(world.boxes) == 1  # it is not tried again
        await chat.says("what did you do?")
        await chat.hears("on it", STOPPED, "you said: what did you do?")
        assert await world.rows("SELECT continuation, fence FROM sessions") == [("conversation-1", 2)]


async def test_stop_is_answered_for_every_message_it_ended_by_one_line_for_each_chat(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        shared = WiringRules(engage=EngageMode.PATTERN, pattern=".", session_mode=SessionMode.AGENT_SHARED)
        family, work = await cast.chat("family", ("Andy", shared)), await cast.chat("work", ("Andy", shared))
        world.script.hangs()
        messages = [await family.says("one"), await work.says("two"), await work.says("three")]
        await world.until(lambda: world.run.claimed == 3 if len(world.live) else False)
        await family.says("@andy /stop")
        await family.hears(STOPPED)
        await work.hears(STOPPED)
        for message in messages:
            assert await settled(world, message.message) == [(message.message, "failed")]
        (sent,) = await world.store.read(lambda c: world.tables.outbox.sent_for_message(c, messages[0].message))
        assert sent.text == STOPPED and sent.notice


async def test_stop_leaves_what_waits_behind_it_and_that_goes_on_at_once(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS))
        world.script.hangs()
        await chat.says_at_once(*(f"t{number}" for number in range(101)))
        await world.until(lambda: world.run.claimed == 100 if len(world.live) else False)
        await chat.says("/stop")
        await world.until(lambda: sorted(chat.heard) == sorted([STOPPED, "you said: t100"]))


async def test_stop_with_nothing_to_stop_says_so_and_starts_no_box(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("family", ("Andy", ALWAYS))
        accepted = await chat.says("/stop")
        await chat.hears(IDLE)
        assert await settled(world, accepted.message) == [(accepted.message, "replied")] and world.boxes == []


async def test_a_stop_that_comes_while_the_box_is_being_started_ends_it_all_the_same(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("family", ("Andy", ALWAYS))
        ends = [RunEnd.STOPPED_BY_PERSON]

        def end() -> None:
            ((session,),) = sessions
            if ends:
                world.runs.end_now(session, ends.pop())

        await chat.says("/status")
        await chat.hears("Andy is idle.")
        sessions = await world.rows("SELECT id FROM sessions")
        world.at["wake.claimed"] = end
        world.script.hangs()
        await chat.says("work")
        await chat.hears("Andy is idle.", "you said: work")
        assert len(world.boxes) == 2
        assert await world.rows("SELECT attempt, failures FROM inbox WHERE attempt > 0") == [(2, 0)]


async def test_a_host_that_dies_right_after_a_stop_takes_the_turn_up_no_more(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await Cast(world).chat("family", ("Andy", ALWAYS))
        world.script.hangs()
        await chat.says("dig")
        await world.quiet()
        world.channel.connect(world.receiver(lambda after: None))  # it dies before anything is carried out
        await chat.says("/stop")
    async with open_world(home) as world:
        await world.recover()
        await world.after(60)
        assert chat.heard == [STOPPED] and world.boxes == []
        assert [outcome for _, _, outcome, _ in await world.outcomes()] == ["failed", "replied"]


async def test_an_agent_that_was_asked_by_another_and_stopped_does_not_leave_it_waiting(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        lab, desk = await cast.chat("lab", ("Andy", ALWAYS)), await cast.chat("desk", ("Bob", ALWAYS))
        await desk.says("ask andy")
        await desk.hears("you said: ask andy")
        world.script.hangs()
        await lab.says("hi")
        await world.quiet()
        ((bob,),) = await world.rows("SELECT id FROM sessions WHERE agent_group_id = ?", cast.agents["Bob"])
        await world.change("UPDATE inbox SET return_session_id = ? WHERE state = 'claimed'", bob)
        await lab.says("/stop")
        await lab.hears(STOPPED)
        await world.until(lambda: any(row.kind == "system" for box in world.boxes for row in box.seen))
        (note,) = [row for box in world.boxes for row in box.seen if row.kind == "system"]
        assert system_from_json(note.content).text == "andy ended without an answer: stopped, as Alice asked"


async def test_status_says_who_works_since_when_and_what_waits(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS))
        await cast.person("mum", member="Andy")
        await chat.says("/status", sender="mum")
        world.script.hangs()
        await chat.says("dig")
        await world.quiet()
        world.clock.advance(40)
        await chat.says("/status", sender="mum")
        await chat.hears("Andy is idle.", "Andy has worked on 1 message for 40 s.")
        assert len(world.boxes) == 1 and len(world.boxes[0].seen) == 1


async def test_help_names_every_command(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("family", ("Andy", ALWAYS))
        await chat.says("/help")
        await world.until(lambda: len(chat.heard) == 1)
        assert all(name in chat.heard[0] for name in CommandName)


async def test_clear_begins_a_new_conversation_and_keeps_memory_and_files(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("family", ("Andy", ALWAYS))

        async def remembers(turn: BoxTurn) -> None:
            turn.write(continuation="conversation-1")
            turn.finish("noted")

        world.script.then(remembers)
        await chat.says("remember the roses")
        await chat.hears("noted")
        await world.quiet()
        workspace = tmp_path / "groups" / "agent-0"
        (workspace / "roses.txt").write_text("dry")
        await chat.says("/clear")
        cleared = "Andy begins a new conversation. Its memory and files are as they were."
        await chat.hears("noted", cleared)
        await world.quiet()
        assert len(world.live) == 0  # the idle box of the old conversation is gone
        await chat.says("what do you remember?")
        await chat.hears("noted", cleared, "you said: what do you remember?")
        assert await world.rows("SELECT continuation, closed_at IS NULL FROM sessions ORDER BY id") == [
            ("conversation-1", 0),
            (None, 1),
        ]
        assert (workspace / "roses.txt").read_text() == "dry"


async def test_clear_stops_a_running_turn_and_what_waits_goes_to_the_new_conversation(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("family", ("Andy", ALWAYS))
        world.script.hangs()
        await chat.says_at_once(*(f"t{number}" for number in range(102)))
        await world.until(lambda: world.run.claimed == 100 if len(world.live) else False)
        await chat.says("/clear")
        words = f"{STOPPED} Andy begins a new conversation. Its memory and files are as they were."
        await world.until(lambda: sorted(chat.heard) == sorted([words, "you said: t100 / t101"]))
        assert {box.label.session for box in world.boxes} == {
            row for (row,) in await world.rows("SELECT id FROM sessions")
        }
        await world.quiet()
        assert await world.rows("SELECT count(*) FROM inbox WHERE outcome IS NULL") == [(0,)]


async def test_what_was_overheard_before_a_clear_is_not_told_to_the_new_conversation(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("garden", ("Andy", OVERHEARS))
        await chat.says("chatter")
        await chat.says("@andy /clear")
        await chat.says("@andy hi")
        await world.until(lambda: "you said: @andy hi" in chat.heard)
        assert [chat_in.text for _, chat_in in BoxTurn(world.boxes[0], world.boxes[0].seen).chats] == ["@andy hi"]


@pytest.mark.parametrize("text", ["/compact keep the recipes", "/context", "/cost", "/files"])
async def test_a_command_of_the_agents_driver_reaches_it_raw_and_marked(tmp_path: Path, text: str) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("family", ("Andy", ALWAYS))
        await chat.says(f"@andy {text}")
        await chat.hears(f"you said: {text}")
        (row,) = world.boxes[0].seen
        told = chat_from_json(row.content)
        assert (told.text, told.command, row.trigger) == (text, True, True)
        assert (told.sender, told.sender_id, told.origin) == ("Alice", "alice", "family")


async def test_a_command_is_nobodys_context_and_only_the_engaged_react(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", MENTION), ("Bob", OVERHEARS), ("Cy", MENTION))
        await chat.says("@andy /status", is_mention=True)
        await chat.hears("Andy is idle.")
        refused = await chat.says("/status")
        assert refused.reason == "no_agent_engaged"
        assert await cast.who("@andy /status") == ["Andy"] and await cast.who("/status") == []


async def test_a_stop_by_a_person_is_no_failure_of_the_message_nor_of_the_agent(tmp_path: Path) -> None:
    """Rows that the box got after the stop was written wait for the next run, and nothing is held against them."""
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("family", ("Andy", ALWAYS))
        world.script.hangs()
        await chat.says("dig")
        await world.quiet()
        run: LiveRun = world.run
        world.runs.end_now(run.session, RunEnd.STOPPED_BY_PERSON)
        await chat.hears("you said: dig")
        assert await world.rows("SELECT attempt, failures FROM inbox") == [(2, 0)]
        assert await world.rows("SELECT not_before FROM sessions") == [(0,)]
