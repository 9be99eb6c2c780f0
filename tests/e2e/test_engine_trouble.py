"""A whole host on docker whose engine dies in a turn: the turn is tried again, or the chat is told why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine import Engine, new_engine
from tests.live import Chat, LiveHost, wait_until

pytestmark = pytest.mark.ci  # an engine of its own, which it kills, and the back-off of a turn


@pytest.fixture
def fragile() -> Iterator[Engine]:
    for engine in new_engine():
        engine.docker("tag", engine.image, "nanoclaw-base")
        yield engine


def test_a_turn_outlives_the_death_of_its_engine_and_a_host_without_one_says_so(
    host: LiveHost, fragile: Engine
) -> None:
    host.settings = {"runtime": "docker", "engine_socket": str(fragile.socket)}
    host.start()
    chat = Chat(host)
    assert chat.ask("say: before", "one") == "before"
    chat.say("run: sleep 2; echo finished", "two")
    wait_until(lambda: host.find("sleep 2"), "the tool at work")
    fragile.kill()
    fragile.start()
    assert "finished" in chat.settle("two", 60)
    fragile.kill()
    chat.say("say: nobody hears", "three")
    told = chat.settle("three", 90)
    assert "container engine" in told
    assert not host.is_dead()
    fragile.start()
    assert chat.ask("say: again", "four", 60) == "again"
    host.stop()
    assert fragile.docker("ps", "-q").stdout == "", "a container outlived its host"
