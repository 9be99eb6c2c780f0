"""`ncl` against a real host: what an operator types, and what an agent types in its box."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.live import Chat, LiveHost, wait_until


def ncl(host: LiveHost, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(host.home)}
    command = [sys.executable, "-I", "-m", "nanoclaw.admin.cli", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def table(host: LiveHost, *words: str) -> list[dict[str, Any]]:
    done = ncl(host, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_group_is_made_wired_put_away_and_erased_with_its_folder(host: LiveHost) -> None:
    host.start()
    (group,) = table(host, "groups", "create", "Zoë 🦊")
    workspace = host.home / "groups" / group["folder"]
    wait_until((workspace / "CLAUDE.local.md").exists, "its workspace")
    make = ("messaging-groups", "create", "--channel", "telegram", "--platform-id", "-1", "--name", "family")
    table(host, *make, "--is-group", "yes")
    assert ncl(host, "wirings", "create", "--chat", "family").returncode == 1  # which of the two assistants?
    (wiring,) = table(host, "wirings", "create", "--chat", "family", "--group", "zoe")
    assert [row["name"] for row in table(host, "destinations", "list", "--group", "zoe")] == ["family"]
    table(host, "groups", "delete", "zoe")
    assert workspace.exists()
    assert ncl(host, "groups", "delete", "zoe", "--purge", "--yes").returncode == 0
    assert not workspace.exists()
    assert wiring["id"] not in [row["id"] for row in table(host, "wirings", "list")]
    assert table(host, "audit", "verify")[0]["broken_at_row"] is None


def test_an_agent_reads_its_own_in_its_box_and_a_change_waits_for_the_operator(host: LiveHost) -> None:
    host.start()
    said = Chat(host).ask("run: ncl groups list --json; ncl roles list; ncl groups update --name Bea", "box")
    assert '"folder": "main"' in said and "cannot be done from a sandbox" in said and "A person is asked" in said
    (question,) = table(host, "approvals", "list")
    assert "ncl groups update" in question["text"] and table(host, "groups", "get", "main")[0]["name"] == "Andy"
    assert ncl(host, "approvals", "approve", question["code"]).returncode == 0
    assert table(host, "groups", "get", "main")[0]["name"] == "Bea"
    assert ncl(host, "approvals", "approve", question["code"]).returncode == 1
