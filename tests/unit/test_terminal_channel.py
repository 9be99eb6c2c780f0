"""The terminal channel over a real unix socket, with a feed that a test fills."""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nanoclaw.channels.base import Accepted
from tests.unit.terminal_house import Line, open_house


async def test_a_message_is_accepted_answered_and_settled_in_this_order(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada = await house.connects()
        await ada.sends({"type": "hello", "chat": "local", "after": None})
        assert await ada.hears() == {"type": "welcome", "assistant": "Andy", "rehearsal": True, "cursor": 0}
        assert await ada.says("hi") == {"type": "accepted", "client_id": "c1", "message": "M1"}
        house.host.answer("hello", "M1")
        house.host.outcomes["M1"] = "replied"
        house.channel.changed("local")
        assert await ada.hears() == {
            "type": "delivery", "id": "D1", "order": 1, "reply_to": "M1", "answers": ["M1"], "text": "hello",
            "notice": False,
        }  # fmt: skip
        assert await ada.hears() == {"type": "settled", "message": "M1", "outcome": "replied"}
        heard = house.host.heard[0]
        assert (heard.platform_id, heard.chat_id, heard.sender_name, heard.text) == ("c1", "local", "Ada", "hi")


async def test_a_message_said_again_after_a_reconnect_is_accepted_once_and_answered_again(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada = await house.connects(hello={"after": None})
        await ada.says("hi", "same")
        ada.writer.close()
        house.host.answer("hello", "M1")
        house.host.outcomes["M1"] = "replied"
        again = await house.connects(hello={"after": 1})
        assert (await again.says("hi", "same"))["message"] == "M1"
        assert (await again.hears())["text"] == "hello"
        assert (await again.hears())["type"] == "settled"
        assert len(house.host.heard) == 1


async def test_what_was_sent_before_a_message_was_known_to_be_answered_is_shown_again_when_it_settles(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path) as house:
        house.host.answer("before anybody asked", "M1", "M2")
        ada, script = await house.connects(hello={"recent": 0}), await house.connects(hello={"recent": 0})
        await ada.says("long work", "a")
        await script.says("and this", "b")
        house.host.answer("at it", "M1")  # said in the turn that M2 is folded into, and not yet known to answer it
        house.channel.changed("local")
        assert (await script.hears())["answers"] == ["M1"]
        chat, sent = house.host.sent[-1]
        house.host.sent[-1] = (chat, replace(sent, answers=("M1", "M2")))
        house.host.outcomes |= {"M1": "replied", "M2": "replied"}
        house.channel.changed("local")
        again = await script.hears()
        assert (again["id"], again["answers"]) == (sent.id, ["M1", "M2"])
        assert await script.hears() == {"type": "settled", "message": "M2", "outcome": "replied"}


async def test_a_client_that_was_away_gets_what_it_missed_and_nothing_twice(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        for number in range(1, 6):
            house.host.answer(f"t{number}", "M0")
        ada = await house.connects(hello={"after": 3})
        assert [(await ada.hears())["text"] for _ in range(2)] == ["t4", "t5"]
        house.host.answer("t6", "M0")
        house.channel.changed("local")
        assert (await ada.hears())["text"] == "t6"


async def test_a_new_client_sees_the_last_twenty_deliveries(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        for number in range(1, 31):
            house.host.answer(f"t{number}")
        ada = await house.connects(hello={"after": None})
        assert [(await ada.hears())["text"] for _ in range(20)] == [f"t{number}" for number in range(11, 31)]
        script = await house.connects(hello={"after": None, "recent": 0})
        house.host.answer("t31")
        house.channel.changed("local")
        assert (await script.hears())["text"] == "t31"


async def test_two_clients_of_a_chat_hear_the_same_and_another_chat_hears_nothing(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada, bob = await house.connects(hello={}), await house.connects(hello={})
        other = await house.connects(hello={"chat": "work"})
        await ada.says("hi")
        house.host.answer("hello", "M1")
        house.host.answer("for work", chat="work")
        house.channel.changed("local")
        house.channel.changed("work")
        assert (await ada.hears())["text"] == "hello"
        assert (await bob.hears())["text"] == "hello"
        assert (await other.hears())["text"] == "for work"


async def test_the_typing_sign_and_the_end_of_a_rehearsal_reach_the_clients_of_the_chat(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada = await house.connects(hello={})
        await house.channel.typing("local", None, True)
        assert await ada.hears() == {"type": "typing", "active": True}
        house.channel.rehearsing(True)  # as it was: nothing is said
        house.channel.rehearsing(False)
        assert await ada.hears() == {"type": "welcome", "assistant": "Andy", "rehearsal": False, "cursor": 0}


async def test_bad_lines_are_refused_with_a_reason_and_the_connection_stays(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada = await house.connects()
        bad: list[tuple[Line | bytes, str, str]] = [
            ({"type": "say", "client_id": "a", "text": " \n"}, "a", "empty"),
            ({"type": "say", "client_id": "b", "text": "x" * (1 << 20)}, "b", "too long: 1024 KiB"),
            ({"type": "say", "client_id": "c", "text": "a\0b"}, "c", "NUL"),
            (b'{"type":"say","client_id":"d","text":"\xff"}\n', "d", "not valid UTF-8"),
            ({"type": "say", "client_id": "", "text": "x"}, "", "client_id"),
            ({"type": "say", "client_id": "f\n", "text": "x"}, "", "client_id"),
            ({"type": "dance", "client_id": "g"}, "g", "not a line"),
            ({"type": "hello", "chat": "a\nb"}, "", "chat's name"),
            ({"type": "hello", "after": -1}, "", "counts from 0"),
            (b"hello?\n", "", "not a line"),
            (b"[" * 100_000 + b"\n", "", "not a line"),
            (b"\n", "", "not a line"),
        ]
        for line, client_id, reason in bad:
            await ada.sends(line)
            answer = await ada.hears()
            assert (answer["type"], answer["client_id"]) == ("refused", client_id), reason
            assert reason in answer["reason"]
        assert (await ada.says("still here"))["type"] == "accepted"
        assert [incoming.text for incoming in house.host.heard] == ["still here"]


async def test_a_line_without_end_closes_its_connection_with_a_reason_and_no_other(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada, bob = await house.connects(), await house.connects()
        with suppress(ConnectionError):
            await ada.sends(b"x" * (3 << 20))
        assert "longer than 2 MiB" in (await ada.hears())["reason"]
        assert (await bob.says("hi"))["type"] == "accepted"


async def test_a_message_that_the_store_does_not_take_is_refused_not_accepted(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.host.disk_full = True
        ada = await house.connects()
        refused = await ada.says("hi")
        assert refused["type"] == "refused" and "the disk is full" in refused["reason"]
        house.host.disk_full = False
        assert (await ada.says("hi"))["type"] == "accepted"


async def test_the_socket_is_for_its_owner_alone_and_goes_when_the_channel_stops(tmp_path: Path) -> None:
    (tmp_path / "terminal.sock").write_text("left behind")
    async with open_house(tmp_path) as house:
        assert stat.S_IMODE(house.socket.stat().st_mode) == 0o600
        ada = await house.connects(hello={})
        house.clients.clear()
    assert (await ada.hears())["type"] == "closed"
    ada.writer.close()
    assert not house.socket.exists()


async def test_twenty_messages_at_once_are_accepted_in_order(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada = await house.connects()
        await ada.sends(*({"type": "say", "client_id": f"c{n}", "text": f"t{n}"} for n in range(20)))
        assert [(await ada.hears())["client_id"] for _ in range(20)] == [f"c{n}" for n in range(20)]
        assert [incoming.text for incoming in house.host.heard] == [f"t{n}" for n in range(20)]


async def test_an_answer_to_a_question_of_the_host_is_told_and_a_refused_message_is_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ada = await house.connects(hello={})
        house.host.takes = Accepted("", fresh=True, words="Bob may write there now.")
        assert await ada.says("1") == {"type": "told", "client_id": "c1", "words": "Bob may write there now."}
        house.host.takes = Accepted("", fresh=True, refused="You may not.", reason="strict")
        assert await ada.says("hi", "c2") == {"type": "refused", "client_id": "c2", "reason": "You may not."}
        house.host.takes = None
        assert (await ada.says("hi", "c3"))["type"] == "accepted"
