"""A real host in a home of its own, and a chat on its terminal socket, as any client would speak."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

START_SECONDS = 30.0
ANSWER_SECONDS = 60.0
NANOCLAW = Path(sys.executable).with_name("nanoclaw")


class BenchHost:
    """`nanoclaw up` on a folder. `ready_seconds`: from the start of the process to its first word on the socket."""

    def __init__(self, home: Path, model_port: int) -> None:
        self.home = home
        self._socket_path = home / "run" / "terminal.sock"
        (home / "config").mkdir(parents=True, exist_ok=True)
        settings = f'model_upstream = "http://127.0.0.1:{model_port}"\nidle_seconds = 5.0\n'
        (home / "config" / "config.toml").write_text(settings)
        self.environment = {"NANOCLAW_HOME": str(home), "PATH": os.environ.get("PATH", ""), "TZ": "UTC"}
        self.log = (home / "host.log").open("ab")
        began = time.monotonic()
        self._process = subprocess.Popen([NANOCLAW, "up"], env=self.environment, stdout=self.log, stderr=self.log)
        with self.chat("ready"):
            self.ready_seconds = time.monotonic() - began

    @property
    def pid(self) -> int:
        """The host's process."""
        return self._process.pid

    def set_key(self) -> None:
        """Give the vault a key, worthless to anybody but the fake model."""
        argv = [NANOCLAW, "vault", "set", "anthropic"]
        subprocess.run(argv, env=self.environment, input=b"sk-ant-api03-bench\n", check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def chat(self, name: str) -> Iterator[Chat]:
        """Connect to the terminal socket, waiting for the host where needed."""
        deadline = time.monotonic() + START_SECONDS
        with socket.socket(socket.AF_UNIX) as sock:
            while True:
                try:
                    sock.connect(str(self._socket_path))
                    break
                except OSError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise RuntimeError(f"the host did not start; see {self.home}/host.log") from None
                    time.sleep(0.002)
            yield Chat(sock, name)

    def close(self) -> None:
        """Stop the host and wait for it."""
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()
        self._process.wait()
        self.log.close()


class Chat:
    """One connection in a chat of its own name."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        sock.settimeout(ANSWER_SECONDS)
        self._socket = sock
        self._lines = sock.makefile("rb")
        self._write({"type": "hello", "chat": name, "after": 0})
        self._wait_for("welcome")

    def say(self, text: str) -> float:
        """Send a message; return when, in monotonic seconds."""
        self._accepted = ""
        at = time.monotonic()
        self._write({"type": "say", "client_id": str(uuid.uuid4()), "text": text})
        return at

    def wait_for_reply(self) -> float:
        """Wait for the reply and for the message's end; return when the reply came. Raises RuntimeError without one."""
        message, came_at = "", None
        while True:
            word = json.loads(self._lines.readline() or b"{}")
            match word.get("type"):
                case "accepted":
                    message = word["message"]
                case "delivery" if message in word["answers"]:
                    came_at = came_at or time.monotonic()
                    if word["notice"]:
                        raise RuntimeError(f"the host said: {word['text']}")
                case "settled" if word["message"] == message:
                    if came_at is None or word["outcome"] != "replied":
                        raise RuntimeError(f"the message ended {word['outcome']}")
                    return came_at
                case "refused":
                    raise RuntimeError(f"refused: {word['reason']}")
                case None:
                    raise RuntimeError("the host closed the connection")
                case _:
                    pass

    def _wait_for(self, kind: str) -> None:
        while json.loads(self._lines.readline() or b"{}").get("type") != kind:
            pass

    def _write(self, word: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(word).encode() + b"\n")
