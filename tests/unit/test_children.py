"""The rehearsal model as the host's child: whatever it does, and wherever it fails, the host goes on."""

from __future__ import annotations

import asyncio
import io
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nanoclaw.children import Rehearsal, SpawnRehearsal
from nanoclaw.config import Config, Paths, Settings
from nanoclaw.log import open_log
from tests.flow.gateway_stand import until

TALKS = "import sys; sys.stderr.write(('x' * 99 + chr(10)) * 3000); sys.exit(7)"
WAITS = "import time; time.sleep(60)"


async def test_a_model_that_says_much_on_stderr_does_not_hang(tmp_path: Path) -> None:
    lines = io.StringIO()
    async with served(tmp_path, lines, lambda config, listener: child(TALKS)):
        await until(lambda: "event=rehearsal.died" in lines.getvalue())
    assert "code=7" in lines.getvalue() and lines.getvalue().count("event=rehearsal.logged") >= 3000


async def test_a_model_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    tries: list[int] = []

    def spawn(config: Config, listener: socket.socket) -> subprocess.Popen[bytes]:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no more processes")
        return child(WAITS)

    async with served(tmp_path, io.StringIO(), spawn) as rehearsal:
        await until(lambda: rehearsal.active)
    assert len(tries) == 2 and not rehearsal.active


def child(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", program], stderr=subprocess.PIPE)


@asynccontextmanager
async def served(home: Path, lines: io.StringIO, spawn: SpawnRehearsal) -> AsyncIterator[Rehearsal]:
    config = Config(Paths(home, home / "run"), Settings(), "0badcafe", "UTC", "alice", 1000)
    rehearsal, stop = Rehearsal(config, open_log("info", lines), spawn), asyncio.Event()
    rehearsal.model_key(False)
    async with asyncio.TaskGroup() as group:
        group.create_task(rehearsal.run(stop))
        yield rehearsal
        stop.set()
