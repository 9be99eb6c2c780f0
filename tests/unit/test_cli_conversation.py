"""A conversation that lasts: over a host that goes and comes back nothing is lost, and nothing is shown twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nanoclaw.cli.conversation import Conversation
from nanoclaw.cli.host_process import HostStarter
from nanoclaw.config import Paths
from tests.unit.terminal_house import FakeHost, House, open_house, until


class Screen:
    """What a person sees."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.notes: list[str] = []
        self.welcomes: list[str] = []
        self.rehearsals: list[bool] = []
        self.busy: list[bool] = []

    def welcome(self, assistant: str, rehearsal: bool) -> None:
        self.welcomes.append(assistant)
        self.rehearsals.append(rehearsal)

    def delivery(self, text: str, *, notice: bool) -> None:
        self.shown.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def typing(self, active: bool) -> None:
        self.busy.append(active)


async def start(home: Path, screen: Screen, recent: int = 20) -> Conversation:
    starter = HostStarter(Paths(home, home), screen.notes.append, may_start=False)
    conversation = Conversation(starter, "local", screen, recent=recent)
    await asyncio.to_thread(conversation.open)
    return conversation


def answer(house: House, message: str, text: str, outcome: str = "replied") -> None:
    house.host.answer(text, message)
    house.host.outcomes[message] = outcome
    house.channel.changed("local")


async def settled(conversation: Conversation) -> bool:
    return await asyncio.to_thread(conversation.wait_settled, 5.0)


async def test_several_messages_are_answered_in_one_conversation(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.host.answer("of yesterday", "M0")
        screen = Screen()
        conversation = await start(tmp_path, screen)
        for text in ("one", "two"):
            conversation.say(text)
        await until(lambda: len(house.host.heard) == 2)
        await house.channel.typing("local", None, True)
        answer(house, "M1", "1")
        answer(house, "M2", "2")
        assert await settled(conversation)
        assert screen.shown == ["of yesterday", "1", "2"]
        assert [said.text for said in house.host.heard] == ["one", "two"]
        assert (screen.welcomes, screen.busy, conversation.failed) == (["Andy"], [True], 0)
        conversation.close()


async def test_a_host_that_comes_back_hears_what_was_not_answered_once(tmp_path: Path) -> None:
    kept, screen = FakeHost(), Screen()
    async with open_house(tmp_path, kept) as house:
        conversation = await start(tmp_path, screen)
        conversation.say("one")
        await until(lambda: len(kept.heard) == 1)
        house.host.answer("1", "M1")
        house.channel.changed("local")
        await until(lambda: screen.shown == ["1"])
    await until(lambda: any("The host went away." in note for note in screen.notes))
    conversation.say("two")
    async with open_house(tmp_path, kept) as house:
        await until(lambda: len(kept.heard) == 2)
        answer(house, "M1", "and the rest of 1")
        answer(house, "M2", "2")
        assert await settled(conversation)
        conversation.close()
    assert screen.shown == ["1", "and the rest of 1", "2"]
    assert [said.text for said in kept.heard] == ["one", "two"]


async def test_messages_that_fail_are_counted_and_said(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        screen = Screen()
        conversation = await start(tmp_path, screen)
        conversation.say("one")
        await until(lambda: bool(house.host.heard))
        answer(house, "M1", "I gave up.", outcome="failed")
        assert await settled(conversation)
        house.host.disk_full = True
        conversation.say("two")
        assert await settled(conversation)
        assert conversation.failed == 2
        assert any("trace M1" in note for note in screen.notes)
        assert any("the disk is full" in note for note in screen.notes)
        conversation.close()


async def test_a_conversation_hears_that_a_model_has_taken_the_stand_ins_place(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        screen = Screen()
        conversation = await start(tmp_path, screen)
        await until(lambda: screen.rehearsals == [True])
        house.channel.rehearsing(False)
        await until(lambda: screen.rehearsals == [True, False])
        conversation.close()
