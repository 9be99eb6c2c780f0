"""A model key: set once, used by the gateway alone, seen by no box; the rehearsal model answers only without one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fake_model import FakeModel
from tests.live import Chat, LiveHost

KEY = "sk-ant-api03-THE-REAL-KEY-0123456789"


@pytest.fixture
def model() -> Iterator[FakeModel]:
    fake = FakeModel()
    try:
        yield fake
    finally:
        fake.close()


def vault(host: LiveHost, *words: str, value: str = "") -> str:
    """Run `nanoclaw vault ...` on a home; return its stdout."""
    command = [sys.executable, "-m", "nanoclaw.cli.main", "vault", *words]
    environment = {"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(host.home)}
    done = subprocess.run(command, env=environment, input=value, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def test_once_a_key_is_set_the_rehearsal_never_answers_and_without_it_again_it_does(
    host: LiveHost, model: FakeModel
) -> None:
    host.settings = {"model_upstream": model.url}
    host.start()
    before = Chat(host)
    assert before.words[0]["rehearsal"] is True
    assert before.ask("say: rehearsed", "one") == "rehearsed"
    assert model.requests == []
    vault(host, "set", "anthropic", value=KEY)
    with_key = Chat(host)
    assert with_key.words[0]["rehearsal"] is False
    assert with_key.ask("say: not rehearsed", "two").startswith("heard: ")
    assert {headers.get("x-api-key") for headers in model.headers} == {KEY}
    vault(host, "rm", "anthropic")
    without = Chat(host)
    assert without.words[0]["rehearsal"] is True
    assert without.ask("say: rehearsed again", "three") == "rehearsed again"


# the needle is a pattern that does not match itself: the question lies in the box too
SEARCH = (
    "grep -rl THE-RE[A]L-KEY /proc/*/environ /proc/*/cmdline /session /workspace /home /etc /opt/nanoclaw /tmp "
    "2>/dev/null; env | grep -c THE-RE[A]L; echo searched"
)


def test_the_real_key_is_nowhere_in_the_box_nor_in_the_hosts_log(host: LiveHost, model: FakeModel) -> None:
    host.settings = {"model_upstream": model.url}
    host.start()
    vault(host, "set", "anthropic", value=KEY)
    shown = Chat(host).ask(f'[[tool Bash {{"command": "{SEARCH}"}}]]', "search")
    assert '"0\\nsearched"' in shown  # no file's name before the count of the environment's lines
    assert KEY not in host.log()
    assert KEY not in vault(host, "list")
    for path in host.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert KEY.encode() not in path.read_bytes(), path
    assert all(KEY not in Path(f"/proc/{pid}/cmdline").read_text() for pid in host.descendants())
