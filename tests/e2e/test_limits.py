"""Limits of real assistants with the real CLI in real boxes: memory named in the chat, a full disk, a queue."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.e2e.test_ncl import ncl
from tests.live import Chat, LiveHost, wait_until

pytestmark = pytest.mark.ci  # real boxes; one waits for three attempts with 5 and 20 s between

SMALL_HOGS = """for n in $(seq 60); do python3 -c "x = b'x' * 12_000_000; import time; time.sleep(60)" & done; wait"""


def test_an_agent_killed_for_memory_is_named_with_its_limit_and_the_mend(host: LiveHost) -> None:
    host.start()
    assert ncl(host, "groups", "config", "update", "main", "--memory", "512M").returncode == 0
    chat = Chat(host)
    told = chat.ask(f"run: {SMALL_HOGS}", "hungry", 150)
    assert "ran out of its memory of 512 MB" in told
    assert "ncl groups config update main --memory 1G" in told
    assert chat.ask("say: alive", "next", 60) == "alive"


def test_a_program_killed_for_memory_is_told_though_the_agent_answers(host: LiveHost) -> None:
    host.start()
    assert ncl(host, "groups", "config", "update", "main", "--memory", "768M").returncode == 0
    chat = Chat(host)
    answer = chat.ask("run: python3 -c \"x = b'x' * 2_000_000_000\"; echo lived", "hog", 60)
    assert "lived" in answer
    wait_until(lambda: any("a program ran out of the sandbox's memory of 768 MB" in text for text in texts(chat)), "it")


def texts(chat: Chat) -> list[str]:
    chat.read_for(0.2)
    return chat.texts()


def test_a_workspace_of_its_own_is_full_when_it_is_full_survives_the_host_and_goes_with_the_group(
    host: LiveHost,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only a root host mounts images: run as root")
    host.settings = {"workspace_images": True}
    host.start()
    assert ncl(host, "groups", "config", "update", "main", "--disk", "64M").returncode == 0
    workspace = host.home / "groups" / "main"
    try:
        chat = Chat(host)
        said = chat.ask("run: head -c 100M /dev/zero > big; ls /workspace; echo over", "full", 60)
        assert "No space left on device" in said
        assert "over" in said
        host.kill()
        assert os.path.ismount(workspace)
        host.start()
        chat = Chat(host)
        assert "big" in chat.ask("run: ls; rm big; echo kept > note", "after", 60)
        assert (workspace / "note").read_text() == "kept\n"
        assert ncl(host, "groups", "delete", "main", "--purge", "--yes").returncode == 0
        assert not workspace.exists()
        assert list((host.home / "data" / "disks").iterdir()) == []
    finally:
        subprocess.run(["umount", workspace], capture_output=True, check=False)


def test_with_one_seat_the_second_chat_waits_sees_its_place_and_is_answered(host: LiveHost) -> None:
    host.settings = {"boxes_at_once": 1}
    host.start()
    one, two = Chat(host), Chat(host, "second")
    one.say("sleep: 6\nsay: first", "a")
    wait_until(lambda: host.find("/opt/agent/claude"), "a box at work")
    two.say("say: second", "b")
    assert two.settle("b", 60) == "second"
    told, answer = two.texts()
    assert "You are number 1 in the queue" in told
    assert answer == "second"
    assert len(host.events("run.started")) == 2
