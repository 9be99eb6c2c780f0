"""The command line and environment of the Claude CLI. Pure.

What each option is for:
- `--setting-sources=` loads no user, project or local settings, hooks, skills or CLAUDE.md: what the agent writes into
  its workspace or home cannot break or extend it. The managed files in /etc/claude-code still load; they are ours.
- `--strict-mcp-config`: the same for MCP servers.
- `--tools`: an allowlist, so that a newer CLI brings no tool unseen (original's list: reference v2, section 4.7).
- `--include-partial-messages`: a sign of life for each piece of a long answer, else a long one looks like a hang.
"""

from __future__ import annotations

import json
import re

from nanoclaw.contract.message import RunSettings

PLACEHOLDER_KEY = "sk-ant-placeholder"  # worthless; the gateway puts the real one on
TOOLS = (
    "Bash", "Read", "Write", "Edit", "Glob", "Grep", "NotebookEdit", "WebSearch", "WebFetch",
    "Task", "TaskOutput", "TaskStop", "TodoWrite", "ToolSearch", "Skill",
)  # fmt: skip
# Interactive or self-waking: nobody sits at a terminal, and an idle box may not call the model.
NEVER = (
    "CronCreate", "CronDelete", "CronList", "ScheduleWakeup", "AskUserQuestion", "EnterPlanMode", "ExitPlanMode",
    "EnterWorktree", "ExitWorktree", "Monitor", "Workflow", "ReportFindings",
)  # fmt: skip
COMPACT_AT_TOKENS = "165000"  # the original's default
MAX_RETRIES = "4"  # about 8 s of the CLI's own back-off; then the host tries again, after 5 and after 20 s
SERVER_START_MS = "10000"  # the first turn waits this long for an MCP server that does not answer (run); 30 s else
SERVER_NAME = "nanoclaw"
SESSION = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


def claude_argv(settings: RunSettings, tools_port: int, continuation: str | None) -> list[str]:
    """Return the argument list that drives the CLI over stream-json."""
    # alwaysLoad: our few tools are in the first prompt and not behind a search
    servers: dict[str, object] = {
        server.name: {"type": "stdio", "command": server.command, "args": list(server.args), "env": server.env}
        for server in settings.mcp_servers
    }
    servers[SERVER_NAME] = {"type": "http", "url": f"http://127.0.0.1:{tools_port}/mcp", "alwaysLoad": True}
    argv = [settings.agent_binary, "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
    argv += ["--include-partial-messages", "--permission-mode", "bypassPermissions", "--setting-sources="]
    argv += ["--strict-mcp-config", "--mcp-config", json.dumps({"mcpServers": servers})]
    argv += ["--tools", ",".join(TOOLS), "--disallowedTools", ",".join(NEVER)]
    if settings.model:
        argv += ["--model", settings.model]
    if settings.effort:
        argv += ["--effort", settings.effort]
    session = known_session(continuation)
    if session is not None:
        argv += ["--resume", session]
    return argv


def known_session(continuation: str | None) -> str | None:
    """Return the session to resume; None for no id of the CLI's, for a box can write anything there, options too."""
    return continuation if continuation and SESSION.fullmatch(continuation) else None


def claude_environment(
    settings: RunSettings, passed_on: tuple[tuple[str, str], ...], tools_port: int
) -> dict[str, str]:
    """Return the CLI's whole environment; nothing else is inherited."""
    return {
        **dict(passed_on),
        "HOME": settings.home,
        "TZ": settings.timezone,
        "ANTHROPIC_BASE_URL": settings.model_url,
        "ANTHROPIC_API_KEY": PLACEHOLDER_KEY,
        "IS_SANDBOX": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # a turn ends with its result
        "CLAUDE_CODE_DISABLE_CRON": "1",
        "CLAUDE_CODE_DISABLE_BUNDLED_SKILLS": "1",  # some need what we switch off; ours are in /etc/claude-code (run)
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",  # the memory is CLAUDE.local.md, where people can read it
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": COMPACT_AT_TOKENS,
        "CLAUDE_CODE_MAX_RETRIES": MAX_RETRIES,
        "MCP_TIMEOUT": SERVER_START_MS,
        "MCP_TOOL_TIMEOUT": str(int(settings.tool_seconds * 1000)),  # a question waits for a person,
        "CLAUDE_CODE_MCP_TOOL_IDLE_TIMEOUT": str(int(settings.tool_seconds * 1000)),  # and says nothing (300 s: run)
        "NANOCLAW_TOOLS": f"127.0.0.1:{tools_port}",  # for the command `ncl`
    }
