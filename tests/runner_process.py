"""A real runner process over a real mailbox, outside a box: what the host does, in a few lines, for tests."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nanoclaw.contract.mailbox import mailbox_schema
from nanoclaw.contract.message import ChatIn, RunSettings, ToolAnswer, to_json

SENT_AT = 1_700_000_000_000  # Nov 14, 2023, 10:13 PM UTC
DEADLINE_SECONDS = 20.0

SETTINGS = RunSettings(
    provider="echo",
    assistant="Andy",
    timezone="UTC",
    workspace="/",
    home="/",
    instructions="/etc/claude-code/CLAUDE.md",
    model_url="http://127.0.0.1:1",
    continuation=None,
    first_seq=1,
    process_limit=1_000_000,
)


@dataclass(frozen=True, slots=True)
class Said:
    """One chat row of outbound.db."""

    seq: int
    turn: str
    reply_to: int | None
    text: str
    to: str | None
    notice: bool
    files: list[str]


class Mailbox:
    """Both files of a mailbox, made and read as the host does."""

    def __init__(self, directory: Path, settings: RunSettings, fence: int = 7) -> None:
        self.inside, self.outside = directory / "in", directory / "out"
        self.settings = settings
        self.name = secrets.token_hex(8)  # inbox ids are unique: the CLI drops a message whose uuid it has seen
        self.inside.mkdir(parents=True)
        self.outside.mkdir()
        self._seq = 0
        with sqlite3.connect(self.inside / "inbound.db") as connection:
            connection.executescript(mailbox_schema("inbound.db"))
            connection.execute("INSERT INTO run VALUES (?, 'session', ?)", (fence, to_json(settings)))
            connection.execute("INSERT INTO destinations VALUES ('local', 'chat', 'Terminal')")
            connection.execute("INSERT INTO destinations VALUES ('family', 'chat', 'The family')")
        connection.close()
        connection = sqlite3.connect(self.outside / "outbound.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=PERSIST")
        connection.executescript(mailbox_schema("outbound.db"))
        connection.close()

    def put(self, text: str, *, trigger: bool = True, attempt: int = 1, already_sent: tuple[str, ...] = ()) -> int:
        """Project one chat message; returns its seq."""
        chat = ChatIn(text, "Ann", "u1", "local", SENT_AT, already_sent=already_sent)
        return self.put_raw("chat", to_json(chat), trigger=trigger, attempt=attempt)

    def put_command(self, text: str) -> int:
        """Project a message that the host found to be a command of the provider's own."""
        return self.put_raw("chat", to_json(ChatIn(text, "Ann", "u1", "local", SENT_AT, command=True)))

    def answer(self, seq: int, status: str, text: str) -> None:
        """Answer the request `seq`."""
        with sqlite3.connect(self.inside / "inbound.db") as connection:
            connection.execute("INSERT INTO answers VALUES (?, ?)", (str(seq), to_json(ToolAnswer(status, text))))
        connection.close()

    def put_raw(self, kind: str, content: str, *, trigger: bool = True, attempt: int = 1) -> int:
        """Project one row as it is."""
        self._seq += 2
        row = (self._seq, f"{self.name}-{self._seq}", attempt, kind, int(trigger), content)
        connection = sqlite3.connect(self.inside / "inbound.db")
        with connection:
            connection.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.close()
        return self._seq

    def read(self, statement: str) -> list[tuple]:
        """Rows of outbound.db. A reader that may not write sees a writer's fresh journal as hot: it looks again."""
        for _ in range(100):
            connection = sqlite3.connect(f"file:{self.outside / 'outbound.db'}?mode=ro", uri=True)
            try:
                return connection.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                if "readonly" not in str(error):
                    raise
            finally:
                connection.close()
            time.sleep(0.002)
        raise AssertionError("outbound.db has a hot journal")

    def said(self) -> list[Said]:
        """The chat rows, in order."""
        rows = self.read("SELECT seq, turn, reply_to, content FROM messages WHERE kind = 'chat' ORDER BY seq")
        return [
            Said(seq, turn, reply_to, **{"files": [], **json.loads(content)}) for seq, turn, reply_to, content in rows
        ]

    def texts(self) -> list[str]:
        """The texts of the chat rows."""
        return [said.text for said in self.said()]

    def acks(self, state: str) -> list[int]:
        """Seqs with an ack of this state."""
        return [row[0] for row in self.read(f"SELECT seq FROM acks WHERE state = '{state}' ORDER BY rowid")]

    def state(self) -> dict[str, str]:
        """The state table."""
        return dict(self.read("SELECT key, value FROM state"))


class RunnerProcess:
    """The runner, started as it is in a box but with the places of a test."""

    def __init__(self, mailbox: Mailbox, argv: list[str] | None = None, prefix: tuple[str, ...] = ()) -> None:
        self.mailbox = mailbox
        places = ["--in", str(mailbox.inside), "--out", str(mailbox.outside)]
        self.process = subprocess.Popen(
            argv or [*prefix, sys.executable, "-m", "nanoclaw.runner", *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
        )

    def ring(self) -> None:
        """Say that the mailbox has news."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def say(self, text: str, **how: object) -> int:
        """Put a message and ring."""
        seq = self.mailbox.put(text, **how)  # type: ignore[arg-type]
        self.ring()
        return seq

    def wait_until(self, condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
        """Wait for a condition, fail with what the runner wrote to stderr."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.process.terminate()
                raise AssertionError(f"did not happen in {seconds} s; said {self.mailbox.said()}; {self.end()}")
            time.sleep(0.005)

    def wait_texts(self, *texts: str) -> None:
        """Wait for exactly these replies."""
        self.wait_until(lambda: len(self.mailbox.said()) >= len(texts))
        assert self.mailbox.texts() == list(texts)

    def end(self) -> tuple[int, bytes, str]:
        """Close stdin and wait: exit code, doorbell bytes, stderr."""
        out, err = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, out, err.decode()


def settings(**changes: object) -> RunSettings:
    """The test's settings with changes."""
    return replace(SETTINGS, **changes)  # type: ignore[arg-type]
