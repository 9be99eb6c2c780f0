"""Limits of a real assistant, named in its chat: the kernel kills the agent's own program, and its runner lives."""

from __future__ import annotations

import pytest

from tests.e2e.test_ncl import ncl
from tests.live import Chat, LiveHost

pytestmark = pytest.mark.ci  # three attempts with 5 and 20 s between

SMALL_HOGS = """for n in $(seq 60); do python3 -c "x = b'x' * 12_000_000; import time; time.sleep(60)" & done; wait"""


def test_an_agent_killed_for_memory_is_named_with_its_limit_and_the_mend(host: LiveHost) -> None:
    host.start()
    assert ncl(host, "groups", "config", "update", "main", "--memory", "512M").returncode == 0
    chat = Chat(host)
    told = chat.ask(f"run: {SMALL_HOGS}", "hungry", 150)
    assert "ran out of its memory of 512 MB" in told
    assert "ncl groups config update main --memory 1G" in told
    assert chat.ask("say: alive", "next", 60) == "alive"
