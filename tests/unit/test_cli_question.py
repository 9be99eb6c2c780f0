"""`nanoclaw chat TEXT` against a real terminal channel: what is printed, and how it ends, whatever the host does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from nanoclaw.channels import base
from nanoclaw.channels.terminal_words import Accepted, Delivery, Refused, Settled, Welcome
from nanoclaw.cli.host_process import HostStarter
from nanoclaw.cli.question import Listener, Question, ask
from nanoclaw.config import Paths
from nanoclaw.errors import OperatorError
from tests.unit.terminal_house import FakeHost, House, open_house, until


class Person:
    """Who asks: what they saw on stdout and stderr."""

    def __init__(self, home: Path, text: str = "hi") -> None:
        self.question = Question("c1", text, "local")
        self.shown: list[str] = []
        self.told: list[str] = []
        self.starter = HostStarter(Paths(home, home), self.told.append, may_start=False)

    async def asks(self, timeout_seconds: float = 10.0) -> bool:
        listener = Listener(self.shown.append, self.told.append)
        return await asyncio.to_thread(ask, self.question, self.starter, timeout_seconds, listener)


def settle(house: House, *texts: str, outcome: str = "replied") -> None:
    for text in texts:
        house.host.answer(text, "M1")
    house.host.outcomes["M1"] = outcome
    house.channel.changed("local")


async def test_every_delivery_is_shown_in_order_and_the_outcome_is_known(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.host.answer("of yesterday", "M0")
        ada = Person(tmp_path)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ada.asks())
            await until(lambda: bool(house.host.heard))
            house.host.answer("somebody else's", "M9")
            settle(house, "one", "two")
        assert asking.result() and ada.question.outcome == "replied"
        assert ada.shown == ["one", "two"]
        assert "rehearsal" in ada.told[0]


async def test_a_question_goes_on_when_the_host_dies_and_comes_back(tmp_path: Path) -> None:
    kept = FakeHost()
    ada = Person(tmp_path)
    async with asyncio.TaskGroup() as group:
        async with open_house(tmp_path, kept) as house:
            asking = group.create_task(ada.asks())
            await until(lambda: bool(house.host.heard))
            house.host.answer("first half", "M1")
            house.channel.changed("local")
            await until(lambda: ada.shown == ["first half"])
        async with open_house(tmp_path, kept) as house:
            settle(house, "second half")
            await asking
    assert ada.shown == ["first half", "second half"]
    assert len(kept.heard) == 1
    assert any("went away" in line for line in ada.told)


async def test_a_refusal_ends_the_question_with_its_reason(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.host.disk_full = True
        ada = Person(tmp_path)
        assert await ada.asks()
        assert "the disk is full" in ada.question.refusal


async def test_a_question_without_answer_ends_at_its_time(tmp_path: Path) -> None:
    async with open_house(tmp_path):
        assert not await Person(tmp_path).asks(0.2)


async def test_without_a_host_that_may_be_started_it_waits_until_its_time(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert not await Person(tmp_path).asks(0.1)


def test_a_delivery_that_comes_twice_is_taken_once() -> None:
    question = Question("c1", "hi", "local")
    delivery = Delivery("D1", 7, "M1", ("M1",), "hello", False)
    words = [Welcome("Andy", False, 3), Accepted("c1", "M1"), delivery, delivery, Settled("M1", "replied")]
    assert [question.hear(word) for word in words] == [None, None, "hello", None, None]
    assert question.is_over


def test_a_card_of_the_host_is_said_once_beside_the_answers() -> None:
    question = Question("c1", "hi", "local")
    card = Delivery("D1", 7, None, (), "Andy wants to call GET a.org", True)
    others = [Delivery("D2", 8, None, (), "from the agent", False), Delivery("D3", 9, "M1", ("M1",), "a notice", True)]
    asides = [question.hear_aside(word) for word in (Accepted("c1", "M1"), card, card, *others)]
    assert asides == [None, "Andy wants to call GET a.org", None, None, None]
    question.hear(Accepted("c1", "M1"))
    assert question.hear(others[1]) == "a notice" and question.answers == ["a notice"]


def test_only_its_own_outcome_and_refusal_end_a_question() -> None:
    question = Question("c1", "hi", "local")
    for word in (Accepted("c1", "M1"), Accepted("c2", "M2"), Settled("M2", "failed"), Refused("c2", "no")):
        question.hear(word)
    assert not question.is_over


def test_a_host_that_dies_at_its_start_is_reported_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path))
    for name in ("run", "logs", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "nanoclaw.db").write_bytes(b"this is no database" * 100)
    starter = HostStarter(Paths(tmp_path, tmp_path / "run"), lambda text: None)
    with pytest.raises(OperatorError, match="is damaged"):
        starter.connect(time.monotonic() + 30)


async def test_words_for_an_answer_are_shown_and_end_the_question_well(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada = Person(tmp_path, "1")
        house.host.takes = base.Accepted("", fresh=True, words="Bob may write there now.")
        assert await ada.asks()
        assert ada.shown == ["Bob may write there now."]
        assert (ada.question.outcome, ada.question.refusal) == ("replied", "")
