"""kill -9 of the gateway, the runner and the CLI while they work: the answer still comes, once and in order."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Chat, LiveHost, live_home, wait_until

COMMAND_LINES = {"gateway": "gateway.main", "runner": "python3 -I -S /opt/nanoclaw", "cli": "/opt/agent/claude"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LiveHost]:
    yield from live_home(tmp_path)


def kill_part(host: LiveHost, part: str) -> None:
    """SIGKILL the innermost process of that kind (the runner's bubblewrap has its words on the command line too)."""
    pids = wait_until(lambda: host.find(COMMAND_LINES[part]), f"a {part}")
    os.kill(max(pids), signal.SIGKILL)


@pytest.mark.parametrize("part", ["gateway", "runner", "cli"])
@pytest.mark.parametrize("work", ["sleep: 2\nsay: forty-two", "run: sleep 2\nsay: forty-two"])
def test_one_answer_exactly_once_when_killed_at_work_is_the(part: str, work: str, host: LiveHost) -> None:
    host.start()
    chat = Chat(host)
    chat.ask("say: warm", "first")
    chat.say(work, "second")
    chat.wait_for("typing")
    chat.read_for(0.7)
    kill_part(host, part)
    answer = chat.settle("second", 40)
    assert chat.outcome("second") == "replied"
    assert answer.count("forty-two") == 1
    assert "\n".join(chat.texts()).count("forty-two") == 1
    assert host.process is not None
    assert host.process.poll() is None


def numbers(chat: Chat) -> list[int]:
    """Return the N of every tN that was shown, in the order shown."""
    return [int(found) for text in chat.texts() for found in re.findall(r"\bt(\d+)\b", text)]


@pytest.mark.parametrize("first", ["", "sleep: 3"])
def test_twenty_messages_within_a_second_are_answered_once_each_in_order(first: str, host: LiveHost) -> None:
    host.start()
    chat = Chat(host)
    chat.ask("say: warm", "warm")
    if first:
        chat.say(first, "slow")
        chat.read_for(0.3)
    for number in range(1, 21):
        chat.say(f"say: t{number}", f"m{number}")
    for number in range(1, 21):
        chat.settle(f"m{number}")
    assert numbers(chat) == list(range(1, 21))


def test_twenty_messages_are_answered_once_each_in_order_when_the_runner_is_killed_after_the_seventh(
    host: LiveHost,
) -> None:
    host.start()
    chat = Chat(host)
    chat.ask("say: warm", "warm")
    for number in range(1, 21):
        chat.say(f"say: t{number}", f"m{number}")
        if number == 7:
            kill_part(host, "runner")
    for number in range(1, 21):
        chat.settle(f"m{number}", 60)
    assert numbers(chat) == list(range(1, 21))


def test_two_chats_at_once_run_in_two_boxes(host: LiveHost) -> None:
    host.start()
    one, two = Chat(host, "local"), Chat(host, "garden")
    one.say("run: sleep 1; echo one > me; cat me", "a")
    two.say("run: sleep 1; echo two", "b")
    wait_until(lambda: len(host.find(COMMAND_LINES["cli"])) == 2, "two agent CLIs side by side", 10)
    assert "one" in one.settle("a")
    assert "two" in two.settle("b")
    assert all("two" not in text for text in one.texts())
