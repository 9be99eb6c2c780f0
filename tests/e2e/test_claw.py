"""`claw` and `trace` from a shell: a real host, real sandboxes, the real CLI against the rehearsal model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from nanoclaw.clock import SystemClock
from nanoclaw.ids import UlidSource
from nanoclaw.store.db import open_connection
from nanoclaw.store.tables import build_tables
from tests.live import LiveHost, live_home

PROGRAM = "import sys; from nanoclaw.cli.{module} import {main} as main; sys.exit(main({arguments}))"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHost]:
    """A running host with a second agent, researcher."""
    for host in live_home(tmp_path_factory.mktemp("claw")):
        host.start().stop()
        with closing(open_connection(host.home / "data" / "nanoclaw.db")) as connection:
            tables = build_tables(UlidSource(SystemClock()))
            tables.groups.add(connection, "Researcher 🔬", "researcher", int(time.time() * 1000))
        yield host.start()


def run(home: LiveHost, code: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(home.home)},
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def claw(home: LiveHost, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return run(home, PROGRAM.format(module="claw", main="main", arguments=""), *arguments, stdin=stdin)


def nanoclaw(home: LiveHost, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(home, PROGRAM.format(module="verbs", main="run", arguments="sys.argv[1:]"), *arguments)


def session_of(ended: subprocess.CompletedProcess[str]) -> str:
    found = re.search(r"^session: (\w{26})$", ended.stderr, re.MULTILINE)
    assert found, ended.stderr
    return found[1]


def test_the_answer_is_all_of_stdout_and_the_session_is_on_stderr(home: LiveHost) -> None:
    ended = claw(home, "run: echo $((6*7))")
    assert (ended.returncode, ended.stdout) == (0, "42\n")
    assert session_of(ended)


def test_each_call_is_a_conversation_of_its_own_and_a_session_is_gone_on_with(home: LiveHost) -> None:
    first = claw(home, "the word is zanzibar")
    second = claw(home, "history")
    assert "zanzibar" not in second.stdout and session_of(first) != session_of(second)
    again = claw(home, "-s", session_of(first).lower(), "history")
    assert "zanzibar" in again.stdout and session_of(again) == session_of(first)


@pytest.mark.ci  # seconds each for the real CLI; tests/unit/test_cli_claw.py holds the choosing each time
def test_another_agent_is_asked_by_a_part_of_its_name_and_has_a_workspace_of_its_own(home: LiveHost) -> None:
    assert claw(home, "-g", "search", "write mine.txt: hello").returncode == 0
    assert "mine.txt" in claw(home, "-g", "Researcher", "run: ls /workspace").stdout
    assert "mine.txt" not in claw(home, "run: ls /workspace").stdout
    assert (home.home / "groups" / "researcher" / "mine.txt").exists()
    listed = claw(home, "--list-groups")
    assert listed.returncode == 0 and "researcher" in listed.stdout and "main" in listed.stdout
    refused = claw(home, "-g", "nobody", "hi")
    assert refused.returncode == 2 and "researcher" in refused.stderr and refused.stdout == ""


@pytest.mark.ci  # seconds each for the real CLI; tests/unit/test_cli_claw.py holds the joining each time
def test_what_is_piped_in_is_put_behind_the_words(home: LiveHost) -> None:
    assert claw(home, "-p", "run: echo one", stdin="run: echo two\n").stdout.split() == ["one", "two"]
    assert claw(home, stdin="run: echo three").stdout == "three\n"


@pytest.mark.ci  # waits for a time to run out
def test_no_answer_in_time_exits_with_3_and_says_where_to_look(home: LiveHost) -> None:
    ended = claw(home, "--timeout", "2", "run: sleep 8")
    assert ended.returncode == 3 and "trace" in ended.stderr and ended.stdout == ""


def test_verbose_says_what_happens_and_no_secret(home: LiveHost) -> None:
    ended = claw(home, "-v", "my password is hunter2-secret")
    assert ended.returncode == 0 and "asks Andy (main)" in ended.stderr and "replied" in ended.stderr
    assert "hunter2" not in ended.stderr


def test_a_trace_shows_the_model_calls_between_the_claim_and_the_answer_also_without_a_host(home: LiveHost) -> None:
    asked = nanoclaw(home, "chat", "--json", "run: echo traced")
    message = json.loads(asked.stdout)["message"]

    def traced() -> list[dict[str, object]]:
        ended = nanoclaw(home, "trace", "--json", message)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    rows = traced()
    whats = [row["what"] for row in rows]
    assert whats[:2] == ["received", "routed"] and whats[-1] == "outcome"
    assert whats.index("claimed") < whats.index("call allowed") < whats.index("call finished") < whats.index("done")
    assert whats.count("call allowed") >= 2, "one that asks for the tool, one with its result"
    assert {row["session"] for row in rows if row["what"] == "call allowed"} == {
        row["session"] for row in rows if row["what"] == "claimed"
    }
    assert "echo traced" not in json.dumps(rows)
    table = nanoclaw(home, "trace", message).stdout
    assert "delivery sent" in table and table.splitlines()[0].split() == ["at", "what", "detail"]
    home.stop()
    try:
        assert [row["what"] for row in traced()] == whats
    finally:
        home.start()
