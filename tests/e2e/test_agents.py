"""Several agents by the real CLI in real sandboxes against the rehearsal model: separate, and at work together."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from nanoclaw.clock import SystemClock
from nanoclaw.ids import UlidSource
from nanoclaw.store.db import open_connection
from nanoclaw.store.defaults import CHANNEL, FOLDER
from nanoclaw.store.tables import build_tables
from tests.live import Chat, LiveHost, live_home, wait_until

SPECIALISTS = ("ann", "ben", "cyd")


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHost]:
    """A running host with Andy and three specialists; each has a chat of its own on the terminal, by its name."""
    for host in live_home(tmp_path_factory.mktemp("swarm")):
        host.start().stop()
        with closing(open_connection(host.home / "data" / "nanoclaw.db")) as connection:
            connection.execute("BEGIN")
            populate(connection)
            connection.execute("COMMIT")
        yield host.start()


def populate(connection: sqlite3.Connection) -> None:
    tables, now = build_tables(UlidSource(SystemClock())), int(time.time() * 1000)
    main = tables.groups.find_by_folder(connection, FOLDER)
    assert main is not None
    for name in SPECIALISTS:
        group = tables.groups.add(connection, name.title(), name, now, instructions=f"You know about {name} things.")
        tables.chats.wire(connection, tables.chats.add(connection, CHANNEL, name, now, is_group=False), group, now)
        tables.chats.add_destination(connection, main, name, ("agent", group), now)
        tables.chats.add_destination(connection, group, "andy", ("agent", main), now)


def test_two_agents_have_memories_files_and_histories_that_the_other_cannot_read(swarm: LiveHost) -> None:
    ann, ben = Chat(swarm, "ann"), Chat(swarm, "ben")
    ann.ask("remember: the password is zanzibar-77\nwrite secret.txt: zanzibar-77", "a1")
    ben.ask("remember: the password is trout", "b1")
    assert "trout" in ben.ask("run: cat /workspace/CLAUDE.local.md", "b2")
    places = "/workspace /home /session /etc /tmp /run /opt/nanoclaw /var"
    probe = f"grep -rl 'zanz[i]bar-77' {places} 2>/dev/null; ls -R / 2>/dev/null | grep -c ret.txt"
    assert ben.ask(f"run: {probe}; true", "b3") == "0"
    assert "zanzibar-77" not in ben.ask("history", "b4")
    assert "zanzibar-77" in ann.ask("read secret.txt", "a2") and "trout" not in ann.ask("history", "a3")


def test_a_swarm_of_three_answers_one_question_and_each_sees_only_its_own_workspace(swarm: LiveHost) -> None:
    chat = Chat(swarm)
    lines = [f"to {name}: run: cat /workspace/CLAUDE.local.md | tail -1; ls /workspace" for name in SPECIALISTS]
    for name in SPECIALISTS:
        Chat(swarm, name).ask(f"remember: I am {name}\nwrite {name}.txt: mine", f"{name} first")
    shown = chat.ask("\n".join([*lines, "collect"]), "swarm", 60)
    blocks = {name: shown.partition(f"{name}: ")[2].split("\n\n")[0] for name in SPECIALISTS}
    for name in SPECIALISTS:
        assert f"I am {name}" in shown and f"{name}.txt" in blocks[name]
    assert shown.index("ann: ") < shown.index("ben: ") < shown.index("cyd: ")
    assert len(chat.texts()) == 1 and chat.outcome("swarm") == "replied"
    with closing(sqlite3.connect(f"file:{swarm.home}/data/nanoclaw.db?mode=ro", uri=True)) as store:
        rows = store.execute(
            "SELECT g.folder, i.routed_by, i.hops, i.outcome FROM inbox i JOIN sessions s ON s.id = i.session_id"
            " JOIN agent_groups g ON g.id = s.agent_group_id WHERE i.inbound_id = ? ORDER BY i.id",
            (chat.messages["swarm"],),
        ).fetchall()
    assert sorted(row[0] for row in rows) == ["ann", "ben", "cyd", "main", "main", "main", "main"]
    assert {row[2] for row in rows} == {0, 1, 2}


@pytest.mark.ci  # eight calls of a tool one after the other
def test_a_link_out_of_the_workspace_sends_no_file_of_the_machine_or_of_another_agent(swarm: LiveHost) -> None:
    ann, ben = Chat(swarm, "ann"), Chat(swarm, "ben")
    ben.ask("write kept.txt: only for ben", "ben first")
    targets = (
        "/etc/shadow",
        f"{swarm.home}/gateway/vault.json",
        f"{swarm.home}/groups/ben/kept.txt",
        "/proc/1/environ",
    )
    links = "; ".join(f"ln -s {target} link-{number}" for number, target in enumerate(targets))
    made = "mkfifo pipe; ln -s /dev/zero zero; touch \"$(printf 'two\\nlines')\""
    ann.ask(f"run: cd /workspace; {links}; {made}; true", "links")
    names = (*(f"link-{number}" for number in range(3)), "pipe", "zero", "two\nlines", "x" * 4000)
    for number, path in enumerate(names):
        asked = json.dumps({"path": path, "to": "andy"})
        said = ann.ask(f"tool: mcp__nanoclaw__send_file {asked}", f"send {number}")
        assert "Not sent" in said and len(said) < 1000, f"{path[:20]}: {said[:300]}"
    ann.ask('tool: mcp__nanoclaw__send_file {"path":"link-3","to":"andy"}', "own environment")
    kept = [path.read_bytes() for path in swarm.home.glob("sessions/*/*/attachments/*/*") if path.is_file()]
    assert not any(b"root:" in text or b"only for ben" in text or b"NANOCLAW_HOME" in text for text in kept)


def test_a_file_goes_from_one_box_to_the_other_and_is_read_there(swarm: LiveHost) -> None:
    send = json.dumps({"path": "report.txt", "to": "cyd", "text": "run: cat /session/in/inbox/*/report.txt"})
    shown = Chat(swarm).ask(f"write report.txt: forty-two\ntool: send_file {send}", "file", 60)
    assert "Sent as report.txt" in shown and "cyd: forty-two" in shown


def test_a_specialist_that_cannot_answer_is_told_of_in_the_chat(swarm: LiveHost) -> None:
    shown = Chat(swarm).ask("to ann: fail: 400", "fails", 60)
    assert "ann ended without an answer" in shown and "400" in shown


def test_the_ncl_of_a_box_reaches_the_host_and_says_what_it_answers(swarm: LiveHost) -> None:
    shown = Chat(swarm).ask("run: command -v ncl; ncl groups list; echo code $?", "ncl")
    assert "/opt/nanoclaw/bin/ncl" in shown and "does not answer" not in shown


def test_stop_ends_a_turn_within_a_second_tools_and_asked_agents_included(swarm: LiveHost) -> None:
    chat = Chat(swarm)
    chat.say("to ann: run: sleep 4711", "stop-1")
    wait_until(lambda: swarm.find("sleep 4711"), "the tool of the agent that was asked")
    chat.say("run: sleep 4712", "stop-2")
    wait_until(lambda: swarm.find("sleep 4712"), "the tool of the agent itself")
    began = time.monotonic()
    assert chat.ask("/stop", "stop-3").startswith("Stopped, as ")
    wait_until(lambda: not swarm.find("sleep 471"), "the end of the tools")
    took = time.monotonic() - began
    assert took < 1.0, took
    assert chat.ask("say: still here", "stop-4") == "still here"
    assert not swarm.find("sleep 471")
