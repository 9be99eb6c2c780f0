"""What an agent adds to itself, with the real Claude CLI: skills it reads, an MCP server whose tool it calls."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nanoclaw.contract.message import BoxServer
from tests.e2e.test_claude_provider import CAN_UNSHARE, Bench, bench
from tests.e2e.test_ncl import ncl, table
from tests.live import Chat, LiveHost

__all__ = ["bench"]
SERVER = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answers = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                       "serverInfo": {"name": "loud", "version": "1"}},
        "tools/list": {"tools": [{"name": "shout", "description": "Says it louder.", "inputSchema": {
            "type": "object", "properties": {"text": {"type": "string"}}}}]},
    }
    result = answers.get(asked["method"], {})
    if asked["method"] == "tools/call":
        text = asked["params"]["arguments"]["text"].upper() + " " + os.environ.get("UNITS", "")
        result = {"content": [{"type": "text", "text": text}]}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
OVERLAY = "mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc"
MANAGED = f'mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w && {OVERLAY} && cp -r "$0" /etc/claude-code && exec "$@"'


@pytest.mark.ci  # a whole host, three boxes and the real CLI
def test_an_agent_gets_an_mcp_server_after_a_yes_and_calls_its_tool(host: LiveHost) -> None:
    host.start()
    workspace = host.home / "groups" / "main"
    assert Chat(host).ask("say: hi", "hi") == "hi"  # the workspace is there
    (workspace / "server.py").write_text(SERVER)
    os.chown(workspace / "server.py", workspace.stat().st_uid, workspace.stat().st_gid)
    wanted = {"name": "loud", "command": "python3", "args": ["/workspace/server.py"], "env": {"UNITS": "metric"}}
    asked = json.dumps({**wanted, "reason": "To shout.", "instructions": "Shout seldom."})
    assert "A person is asked" in Chat(host).ask(f"tool: mcp__nanoclaw__add_mcp_server {asked}", "add")
    (question,) = table(host, "approvals", "list")
    assert "What runs: python3 /workspace/server.py" in question["text"]
    assert ncl(host, "approvals", "approve", question["code"]).returncode == 0
    assert "HELLO metric" in Chat(host).ask('tool: mcp__loud__shout {"text":"hello"}', "call")
    composed = (host.home / "compose" / "main" / "CLAUDE.md").read_text()
    assert "- MCP server `loud`: Shout seldom." in composed
    said = Chat(host).ask(
        "run: ls -ld /etc/claude-code/.claude/skills/wiki; touch /etc/claude-code/.claude/skills/x", "ls"
    )
    assert "drwxr-xr-x" in said and "Read-only file system" in said


@pytest.mark.skipif(
    not CAN_UNSHARE, reason="needs a mount namespace of its own; run as root: ./nanoclaw.sh test tests/e2e"
)
def test_the_cli_offers_the_skills_of_the_managed_place_and_no_others(bench: Bench) -> None:
    managed = bench.directory / "managed"
    for place, name in ((managed, "ours"), (bench.workspace, "theirs"), (bench.home, "alien")):
        skill = place / ".claude" / "skills" / name
        skill.mkdir(parents=True)
        (skill / "SKILL.md").write_text(
            f'---\nname: {name}\ndescription: "How: {name} does it."\n---\n\nBody of {name}.\n'
        )
    prefix = ("unshare", "-m", "--propagation", "private", "sh", "-c", MANAGED, str(managed))
    runner = bench.run('[[tool Skill {"skill":"ours"}]]', prefix=prefix)
    runner.wait_until(lambda: runner.mailbox.acks("finished") == [2])
    carried = bench.model.prompts()
    assert "ours: How: ours does it." in carried and "Body of ours." in carried
    assert "theirs does it" not in carried and "alien does it" not in carried
    assert "dataviz" not in carried and "update-config" not in carried, "the CLI's own are switched off"


@pytest.mark.ci  # a server that hangs is waited for ten seconds
def test_servers_that_die_or_hang_stop_no_turn_and_are_named_in_the_chat_once(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    servers = (
        BoxServer("good", "python3", (str(tmp_path / "server.py"),), {"UNITS": "metric"}),
        BoxServer("dies", "false", (), {}),
        BoxServer("gone", "/no/such/program", (), {}),
        BoxServer("hangs", "sleep", ("1000",), {}),
    )
    runner = bench.run('[[tool mcp__good__shout {"text":"hi"}]]', mcp_servers=servers)
    runner.wait_until(lambda: runner.mailbox.acks("finished") == [2])
    runner.say("[[text again]]")
    runner.wait_until(lambda: runner.mailbox.acks("finished") == [2, 4])
    notice, answer, _ = runner.mailbox.said()
    assert notice.notice and "HI metric" in answer.text
    _, _, log = runner.end()
    for name in ("dies", "gone", "hangs"):
        assert name in notice.text and name in log
    assert "good" not in notice.text
