"""A real host of its own home, driven as a person would: started, killed, started again, talked to on its terminal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanoclaw.config import UID_FLOOR, UIDS_PER_INSTALL

PATIENCE_SECONDS = 30.0


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Return the first true value of `condition`; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")


def wall_settings() -> dict[str, str | float]:
    """What boxes of every host in these tests are built with: $NANOCLAW_TEST_RUNTIME, else what a host does itself.

    `NANOCLAW_TEST_RUNTIME=docker:runsc NANOCLAW_TEST_ENGINE=/path/engine.sock` runs the tests over containers; the
    engine needs an image called nanoclaw-base (tests/e2e/test_on_docker.py).
    """
    runtime, engine = os.environ.get("NANOCLAW_TEST_RUNTIME", ""), os.environ.get("NANOCLAW_TEST_ENGINE", "")
    return {"runtime": runtime, "engine_socket": engine} if runtime else {}


@dataclass
class LiveHost:
    """One home and the host process on it."""

    home: Path
    settings: dict[str, str | float] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    chats: list[Chat] = field(default_factory=list)
    within: tuple[str, ...] = ()  # what the host is started through, such as `unshare`

    def start(self, crash_at: str = "", env: dict[str, str] | None = None) -> LiveHost:
        """Start the host and wait until it serves its terminal (or has died, when a crash point was given)."""
        config = self.home / "config"
        config.mkdir(parents=True, exist_ok=True)
        settings = wall_settings() | self.settings
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        (config / "config.toml").write_text("\n".join(lines) + "\n")
        log = (self.home / "host.log").open("ab")
        environment = {"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(self.home), "NANOCLAW_CRASH_AT": crash_at}
        self.socket_path.unlink(missing_ok=True)
        with log:
            self.process = subprocess.Popen(
                [*self.within, sys.executable, "-m", "nanoclaw.cli.main", "up"],
                env=environment | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self.is_dead() or self._answers(), "a host", 15)
        if self.is_dead() and not crash_at:
            raise AssertionError(f"the host did not start:\n{self.log()[-2000:]}")
        return self

    @property
    def socket_path(self) -> Path:
        return self.home / "run" / "terminal.sock"

    def _answers(self) -> bool:
        try:
            Chat(self).close()
        except (OSError, AssertionError):
            return False
        finally:
            for chat in self.chats:
                chat.close()
            self.chats.clear()
        return True

    def is_dead(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill(self) -> None:
        """SIGKILL, as a power cut for the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """Stop as an operator does; return the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def log(self) -> str:
        path = self.home / "host.log"
        return path.read_text() if path.exists() else ""

    def events(self, name: str) -> list[str]:
        """Return the log lines of an event."""
        return [line for line in self.log().splitlines() if f"event={name} " in line + " "]

    def descendants(self) -> dict[int, str]:
        """Return the processes below the host: pid -> command line."""
        parents: dict[int, int] = {}
        commands: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                commands[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
        assert self.process is not None
        found: dict[int, str] = {}
        layer = {self.process.pid}
        while layer:
            layer = {pid for pid, parent in parents.items() if parent in layer}
            found |= {pid: commands[pid] for pid in layer if commands[pid]}
        return found

    def find(self, words: str) -> list[int]:
        """Return the pids below the host, or of its containers, whose command line holds `words`."""
        found = self.descendants() | (self.contained() if self.uses_containers() else {})
        return [pid for pid, command in found.items() if words in command]

    def uses_containers(self) -> bool:
        """Whether its boxes are containers of an engine."""
        return "runtime" in wall_settings() | self.settings

    def contained(self) -> dict[int, str]:
        """Return the processes that run as one of this home's uids: those of its containers are not below the host."""
        install = (self.home / "data" / "install").read_text().strip()
        first = UID_FLOOR + (int(install, 16) % 0xFFFF) * UIDS_PER_INSTALL
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and entry.stat().st_uid - first in range(1, UIDS_PER_INSTALL - 1):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found


class Chat:
    """A terminal client: says, and remembers every word it was told; shows each delivery once, as clients do."""

    def __init__(self, host: LiveHost, chat: str = "local", after: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.host = host
        host.chats.append(self)
        self.socket.connect(str(host.socket_path))
        self.socket.settimeout(PATIENCE_SECONDS)
        self._rest = b""
        self.words: list[dict[str, Any]] = []
        self.shown: dict[str, str] = {}
        self.outcomes: dict[str, str] = {}
        self.messages: dict[str, str] = {}
        self._write({"type": "hello", "chat": chat, "after": after})
        self.wait_for("welcome")

    def say(self, text: str, client_id: str) -> None:
        """Say something under an id of the client's own; the same id again is the same message."""
        self._write({"type": "say", "client_id": client_id, "text": text})

    def ask(self, text: str, client_id: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Say something and return what was said in answer, once it is settled."""
        self.say(text, client_id)
        return self.settle(client_id, seconds)

    def settle(self, client_id: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until a message is settled; return its answers, a blank line between."""
        self._read_until(lambda: self.messages.get(client_id) in self.outcomes, seconds, f"the end of {client_id}")
        message = self.messages[client_id]
        return "\n\n".join(
            word["text"] for word in self.deliveries() if message in word["answers"] or word["reply_to"] == message
        )

    def deliveries(self) -> list[dict[str, Any]]:
        """Return what was shown, in order, each id once."""
        seen: dict[str, dict[str, Any]] = {}
        for word in self.words:
            if word["type"] == "delivery":
                seen[word["id"]] = word
        return list(seen.values())

    def texts(self) -> list[str]:
        return [word["text"] for word in self.deliveries()]

    def outcome(self, client_id: str) -> str:
        return self.outcomes[self.messages[client_id]]

    def wait_for(self, kind: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Return the next word of a kind."""
        begun = len(self.words)
        self._read_until(lambda: any(w["type"] == kind for w in self.words[begun:]), seconds, kind)
        return next(w for w in self.words[begun:] if w["type"] == kind)

    def read_for(self, seconds: float) -> None:
        """Take in what comes for a while: to see that nothing more does."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._take(left)
            except TimeoutError:
                return

    def write_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()

    def _write(self, word: dict[str, Any]) -> None:
        self.socket.sendall(json.dumps(word).encode() + b"\n")

    def _read_until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"waited {seconds:.0f} s in vain for {what}; heard {self.words[-6:]}")
            try:
                self._take(left)
            except TimeoutError:
                continue

    def _take(self, seconds: float) -> None:
        self.socket.settimeout(max(seconds, 0.01))
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError(f"the host hung up; its log ends:\n{self.host.log()[-3000:]}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word = json.loads(line)
            self.words.append(word)
            if word["type"] == "accepted":
                self.messages[word["client_id"]] = word["message"]
            elif word["type"] == "settled":
                self.outcomes[word["message"]] = word["outcome"]


def live_home(base: Path) -> Iterator[LiveHost]:
    """Yield a host on a fresh home below `base`; whatever happens it is ended and gone afterwards."""
    host = LiveHost(base / "home")
    try:
        yield host
    finally:
        for chat in host.chats:
            chat.close()
        if host.process is not None and host.process.poll() is None:
            host.stop()
