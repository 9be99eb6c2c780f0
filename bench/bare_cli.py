"""The agent CLI alone: no box, no gateway, no host; the same flags and environment as the runner gives it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from fake_model import FakeModel

from nanoclaw.contract.message import RunSettings
from nanoclaw.runner.providers.claude_command import claude_argv, claude_environment


def find_cli() -> str:
    """Return the CLI of the `claude-agent-sdk` wheel, else the one on PATH. Raises RuntimeError when there is none."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    bundled = Path(spec.origin).parent / "_bundled" / "claude" if spec and spec.origin else None
    found = str(bundled) if bundled and bundled.exists() else shutil.which("claude")
    if found is None:
        raise RuntimeError("no agent CLI. Install it: ./nanoclaw.sh doctor")
    return found


class BareCli:
    """One process in a fresh home. `started_at` is in monotonic seconds."""

    def __init__(self, folder: Path, model: FakeModel) -> None:
        home, workspace = folder / "home", folder / "workspace"
        home.mkdir(parents=True)
        workspace.mkdir()
        settings = RunSettings(
            provider="claude",
            assistant="Andy",
            timezone="UTC",
            workspace=str(workspace),
            home=str(home),
            instructions="",
            model_url=f"http://127.0.0.1:{model.port}",
            continuation=None,
            first_seq=1,
            agent_binary=find_cli(),
        )
        argv = claude_argv(settings, model.tools_port, None)
        environment = claude_environment(settings, (("PATH", "/usr/local/bin:/usr/bin:/bin"),), model.tools_port)
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            argv, cwd=workspace, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def pid(self) -> int:
        """The CLI's process."""
        return self._process.pid

    def push(self, text: str) -> None:
        """Send one user message."""
        assert self._process.stdin
        event = {"type": "user", "uuid": str(uuid.uuid4()), "session_id": "", "parent_tool_use_id": None}
        event |= {"message": {"role": "user", "content": text}}
        self._process.stdin.write(json.dumps(event).encode() + b"\n")
        self._process.stdin.flush()

    def wait_for_result(self) -> None:
        """Block until the turn has ended. Raises RuntimeError when it ended badly."""
        assert self._process.stdout
        for line in self._process.stdout:
            event = json.loads(line)
            if event["type"] == "result":
                if event.get("is_error"):
                    raise RuntimeError(f"the bare CLI failed: {event.get('result')}")
                return
        raise RuntimeError("the bare CLI ended without a result")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def measure_bare_start(folder: Path, model: FakeModel) -> float:
    """Return the seconds from the start of the process to its request at the model."""
    cli = BareCli(folder, model)
    try:
        cli.push("hello")
        call = model.wait_for_call()
        cli.wait_for_result()
        return call.received_at - cli.started_at
    finally:
        cli.close()
