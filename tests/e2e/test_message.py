"""One message all the way, by the real CLI in a real sandbox against the rehearsal model: what a user is promised."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.live import Chat, LiveHost, wait_until, wall_settings


def test_the_agent_works_as_nobody_in_a_root_of_its_own(shared_host: LiveHost) -> None:
    look = "run: id -u; id -un; hostname; printf '%s\\n' /*; cat /proc/1/environ; ls ~root /home 2>&1"
    shown = Chat(shared_host).ask(look, "who")
    lines = shown.splitlines()
    assert lines.count("agent") >= 2  # the user and the machine
    assert "0" not in lines
    assert {"/workspace", "/session", "/proc"} <= set(lines)
    assert not {"/root", "/work", "/boot", "/srv", "/media"} & set(lines) or wall_settings()  # an image has its own
    assert "/work" not in lines
    assert "NANOCLAW" not in shown
    assert str(shared_host.home) not in shown


@pytest.mark.skipif(
    bool(wall_settings()), reason="a container is not below its host: tests/contract/test_docker_boxes.py"
)
def test_every_process_of_a_box_is_without_rights_seen_from_outside(shared_host: LiveHost) -> None:
    chat = Chat(shared_host)
    chat.say("run: sleep 1.5; echo done", "hold")
    runners = wait_until(lambda: shared_host.find("/opt/agent/claude"), "an agent CLI")
    inner = [pid for pid in shared_host.descendants() if _pid_namespace(pid) == _pid_namespace(runners[0])]
    chat.settle("hold")
    assert len(inner) >= 3  # bubblewrap's pid 1, the runner, the CLI
    for pid in inner:
        status = _status(pid)
        if status is None:
            continue  # it ended meanwhile: the tool's own shell
        assert "0" not in status["Uid"].split()
        assert int(status["CapEff"], 16) == 0
        assert status["Seccomp"] == "2"
        assert status["NoNewPrivs"] == "1"


def test_the_kernels_settings_cannot_be_opened_for_writing(shared_host: LiveHost) -> None:
    probe = 'python3 -c \'open("/proc/sys/kernel/core_pattern", "r+")\''
    shown = Chat(shared_host).ask(f"run: {probe} 2>&1 | tail -1", "core")
    assert any(words in shown for words in ("Permission denied", "Read-only", "No such file"))  # gVisor has none


def test_nothing_outside_is_reached_and_every_try_is_in_the_audit(shared_host: LiveHost) -> None:
    tries = "run: curl -sS --max-time 5 https://example.org; curl -sS --max-time 5 http://169.254.169.254/; echo end"
    shown = Chat(shared_host).ask(tries, "out")
    assert "403" in shown
    assert "No rule" in shown
    with sqlite3.connect(f"file:{shared_host.home}/gateway/ledger.db?mode=ro", uri=True) as ledger:
        refused = {row[0] for row in ledger.execute("SELECT host FROM audit WHERE event = 'refused'")}
    assert {"example.org", "169.254.169.254"} <= refused


def test_a_direct_connection_has_no_way_out(shared_host: LiveHost) -> None:
    code = 'import socket; socket.create_connection(("1.1.1.1", 53), 3)'
    shown = Chat(shared_host).ask(f"run: python3 -c '{code}' 2>&1 | tail -1", "raw").lower()
    assert "unreachable" in shown or "no route to host" in shown  # in gVisor's words


def test_memory_and_conversation_outlive_a_killed_host(host: LiveHost) -> None:
    host.start()
    chat = Chat(host)
    chat.ask("remember: the cat is called Tom", "one")
    host.kill()
    host.start()
    chat = Chat(host)
    assert "Tom" in chat.ask("recall", "two")
    assert "remember: the cat is called Tom" in chat.ask("history", "three")
    assert len(_provider_sessions(host)) == 1


def test_the_conversation_goes_on_in_a_second_box(host: LiveHost) -> None:
    host.settings = {"idle_seconds": 0.2}
    host.start()
    chat = Chat(host)
    chat.ask("say: first words", "one")
    wait_until(lambda: host.events("run.ended"), "the idle box to be ended")
    assert "say: first words" in chat.ask("history", "two")
    assert len(host.events("run.started")) == 2


def test_a_message_while_the_box_starts_is_answered_too(host: LiveHost) -> None:
    host.start()
    chat = Chat(host)
    chat.say("say: one", "one")
    chat.wait_for("accepted")
    chat.say("say: two", "two")
    chat.settle("one")
    chat.settle("two")
    assert "\n".join(chat.texts()).split() == ["one", "two"]
    assert len(host.events("run.started")) == 1


def test_two_clients_of_one_chat_both_hear_the_answer_once(shared_host: LiveHost) -> None:
    asking, watching = Chat(shared_host, "tea"), Chat(shared_host, "tea")
    asking.ask("say: kettle", "tea")
    watching.wait_for("delivery") if not watching.texts() else None
    assert asking.texts() == ["kettle"]
    assert watching.texts() == ["kettle"]


def test_the_send_message_tool_speaks_before_the_turn_ends(shared_host: LiveHost) -> None:
    chat = Chat(shared_host, "tool")
    words = json.dumps({"text": "on my way"})
    chat.say(f"tool: mcp__nanoclaw__send_message {words}\nsleep: 1\nsay: arrived", "go")
    first = chat.wait_for("delivery")
    assert first["text"] == "on my way"
    assert "go" in chat.messages
    assert chat.messages["go"] not in chat.outcomes
    assert "arrived" in chat.settle("go")


def _pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _status(pid: int) -> dict[str, str] | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _provider_sessions(host: LiveHost) -> list[Path]:
    return list(host.home.glob("sessions/*/*/home/.claude/projects/*/*.jsonl"))
