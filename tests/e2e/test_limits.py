"""Limits of a real assistant, named in its chat: too little memory for the agent's own program."""

from __future__ import annotations

import pytest

from tests.live import Chat, LiveHost

pytestmark = pytest.mark.ci  # three attempts with 5 and 20 s between


def test_an_agent_that_runs_out_of_memory_is_told_with_its_limit_and_the_mend(host: LiveHost) -> None:
    host.start()
    host.run("ncl", "groups", "config", "update", "main", "--memory", "128M")
    chat = Chat(host)
    told = chat.ask("run: tail -c 300M /dev/zero | tail\nsay: whole", "hungry", 120)
    print(told)
    assert "ran out of its memory of 128 MB" in told
    assert "ncl groups config update main --memory 256M" in told
