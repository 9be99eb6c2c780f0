"""kill -9 of the host at every durable step, with the real CLI in a real box: one answer, exactly once, always."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw.testing.crashpoints import HOST_CRASH_POINTS
from tests.live import Chat, LiveHost, live_home, wait_until


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LiveHost]:
    yield from live_home(tmp_path)


def ask_through_a_crash(host: LiveHost, point: str, text: str) -> Chat:
    """Ask; when the host is gone start it again, reconnect and say the same under the same id, as `chat TEXT` does."""
    host.start(crash_at=point)
    asking = Chat(host)
    with contextlib.suppress(OSError):
        asking.say(text, "the-question")
        asking.settle("the-question", 20)
    wait_until(host.is_dead, f"the host to die at {point}", 20)
    host.start()
    again = Chat(host, after=0)
    again.ask(text, "the-question")
    return again


@pytest.mark.ci  # a host killed and started again for each point: half a minute (architecture section 12)
@pytest.mark.parametrize("point", [point for point in HOST_CRASH_POINTS if not point.startswith("end.")])
def test_one_answer_exactly_once_when_the_host_is_killed_at(point: str, host: LiveHost) -> None:
    chat = ask_through_a_crash(host, point, "say: forty-two")
    later = Chat(host, after=0)
    later.read_for(0.5)
    assert chat.outcome("the-question") == "replied"
    assert chat.texts() == ["forty-two"]
    assert later.texts() == ["forty-two"]


@pytest.mark.parametrize("point", ["end.drained", "end.settled"])
def test_a_stop_cut_short_loses_nothing_at(point: str, host: LiveHost) -> None:
    host.start(crash_at=point)
    chat = Chat(host)
    chat.ask("say: before", "one")
    host.stop()
    host.start()
    again = Chat(host, after=0)
    again.ask("say: after", "two")
    assert again.texts() == ["before", "after"]
