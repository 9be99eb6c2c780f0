"""kill -9 of the gateway, the runner and the CLI while they work: the answer still comes, once and in order."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw.testing.crashpoints import HOST_CRASH_POINTS
from tests.live import Chat, LiveHost, live_home, wait_until

COMMAND_LINES = {"gateway": "gateway.main", "runner": "python3 -I -S /opt/nanoclaw", "cli": "/opt/agent/claude"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LiveHost]:
    yield from live_home(tmp_path)


def kill_part(host: LiveHost, part: str) -> None:
    """SIGKILL the innermost process of that kind (the runner's bubblewrap has its words on the command line too)."""
    pids = wait_until(lambda: host.find(COMMAND_LINES[part]), f"a {part}")
    os.kill(max(pids), signal.SIGKILL)


MODEL_CALL, TOOL = "sleep: 2\nsay: forty-two", "run: sleep 2\nsay: forty-two"
SLOW = pytest.mark.ci  # the rest of the matrix: each waits for a back-off of 5 s


@pytest.mark.parametrize(
    ("part", "work"),
    [
        pytest.param("gateway", MODEL_CALL, id="gateway-model_call"),
        pytest.param("gateway", TOOL, id="gateway-tool", marks=SLOW),
        pytest.param("runner", MODEL_CALL, id="runner-model_call", marks=SLOW),
        pytest.param("runner", TOOL, id="runner-tool", marks=SLOW),
        pytest.param("cli", MODEL_CALL, id="cli-model_call", marks=SLOW),
        pytest.param("cli", TOOL, id="cli-tool", marks=SLOW),
    ],
)
def test_one_answer_exactly_once_when_killed_at_work_is_the(part: str, work: str, host: LiveHost) -> None:
    host.start()
    chat = Chat(host)
    chat.ask("say: warm", "first")
    chat.say(work, "second")
    chat.read_for(0.8)
    assert chat.messages["second"] not in chat.outcomes
    kill_part(host, part)
    answer = chat.settle("second", 40)
    assert chat.outcome("second") == "replied"
    assert answer.count("forty-two") == 1
    assert "\n".join(chat.texts()).count("forty-two") == 1
    assert len(host.events("run.ended")) == (0 if part == "gateway" else 1)
    assert host.process is not None
    assert host.process.poll() is None


WITH_A_BOX = [point for point in HOST_CRASH_POINTS if point.partition(".")[0] in ("collect", "deliver")]
BEFORE = [point for point in HOST_CRASH_POINTS if point.startswith(("receive.", "wake."))]
KILLS = [("gateway", point) for point in BEFORE + WITH_A_BOX]
KILLS += [(part, point) for part in ("runner", "cli") for point in ["wake.released", *WITH_A_BOX]]


@pytest.mark.ci  # 24 kills of a few seconds each; the default tier kills at work, above
@pytest.mark.parametrize(("part", "point"), KILLS)
def test_one_answer_exactly_once_when_a_part_is_killed_while_the_host_stands_at(
    part: str, point: str, host: LiveHost
) -> None:
    host.start(crash_at=f"{point}:1:stop")
    chat = Chat(host)
    chat.say("run: echo forty-two", "question")
    assert host.process is not None
    pid = host.process.pid
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", f"a stop at {point}")
    kill_part(host, part)
    os.kill(pid, signal.SIGCONT)
    chat.settle("question", 60)
    later = Chat(host, after=0)
    later.read_for(0.3)
    assert chat.outcome("question") == "replied"
    assert chat.texts() == ["forty-two"]
    assert later.texts() == ["forty-two"]


def numbers(chat: Chat) -> list[int]:
    """Return the N of every tN that was shown, in the order shown."""
    return [int(found) for text in chat.texts() for found in re.findall(r"\bt(\d+)\b", text)]


@pytest.mark.parametrize("first", ["", pytest.param("sleep: 3", marks=SLOW)])
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


@pytest.mark.ci  # waits for a back-off of 5 s; tests/flow/test_path_storm.py holds the order each time
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
