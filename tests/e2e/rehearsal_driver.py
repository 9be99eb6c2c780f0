"""Starts a real rehearsal process and a real agent CLI that talks to it, and waits for what they say."""

from __future__ import annotations

import importlib.util
import json
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 60.0


def find_agent_cli() -> str | None:
    """Return the CLI of the `claude-agent-sdk` wheel, else the one on PATH."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    bundled = Path(spec.origin).parent / "_bundled" / "claude" if spec and spec.origin else None
    return str(bundled) if bundled and bundled.exists() else shutil.which("claude")


@contextmanager
def running_rehearsal() -> Iterator[int]:
    """Run `python -I -m nanoclaw.rehearsal FD` and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        number = str(listener.fileno())
        argv = [sys.executable, "-I", "-m", "nanoclaw.rehearsal", number]
        with subprocess.Popen(argv, env={}, pass_fds=[listener.fileno()]) as process:
            try:
                yield listener.getsockname()[1]
            finally:
                process.kill()


class AgentCli:
    """The real CLI over stream-json, with a home and a workspace of its own."""

    def __init__(self, home: Path, workspace: Path, port: int, options: Sequence[str] = ()) -> None:
        cli = find_agent_cli()
        assert cli
        for directory in (home, workspace):
            directory.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        argv = [cli, "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
        argv += ["--permission-mode", "bypassPermissions", "--strict-mcp-config", *options]
        self._process = subprocess.Popen(
            argv,
            cwd=workspace,
            env=_environment(home, port),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._events.put(json.loads(line))

    def push(self, text: str) -> None:
        """Send one user message."""
        message = {"role": "user", "content": text}
        fields = {"type": "user", "uuid": str(uuid.uuid4()), "session_id": "", "parent_tool_use_id": None}
        self._write({**fields, "message": message})

    def interrupt(self) -> None:
        """Interrupt the running turn."""
        self._write({"type": "control_request", "request_id": "stop", "request": {"subtype": "interrupt"}})

    def _write(self, event: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(event).encode() + b"\n")
        self._process.stdin.flush()

    def wait_for(self, kind: str) -> dict[str, Any]:
        """Return the next event of a type, leaving out others."""
        while (event := self._events.get(timeout=DEADLINE_SECONDS)).get("type") != kind:
            pass
        return event

    def wait_for_call(self) -> str:
        """Wait until the model calls a tool; return the tool's name."""
        while True:
            for block in self.wait_for("assistant")["message"]["content"]:
                if block["type"] == "tool_use":
                    return block["name"]

    def wait_until_saved(self, text: str, times: int = 1) -> None:
        """Wait until the CLI has written a text into its transcript; it does so a moment later than it speaks."""
        end = time.monotonic() + DEADLINE_SECONDS
        while sum(file.read_text().count(text) for file in self._home.rglob("*.jsonl")) < times:
            assert time.monotonic() < end, f"{text} did not come into the transcript"
            time.sleep(0.02)

    def wait_for_result(self) -> str:
        """Return the text of the turn's result; what went wrong when it failed."""
        return self.wait_for("result").get("result") or ""

    def ask(self, text: str) -> str:
        """Push and return the answer."""
        self.push(text)
        return self.wait_for_result()

    def kill(self) -> None:
        """End the process with SIGKILL and wait for it."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Let the process end, or end it."""
        assert self._process.stdin and self._process.stdout
        with self._process:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._reader.join()


def _environment(home: Path, port: int) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
        "ANTHROPIC_API_KEY": "sk-ant-placeholder",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
    }
