"""`nanoclaw logs`: the host's log."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path

import click

from nanoclaw.channels.plain_text import neutralise
from nanoclaw.config import load_config

LOOK_SECONDS = 0.2


@click.command("logs")
@click.option("--lines", "-n", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The last N lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on printing what is added.")
def command(lines: int, follow: bool) -> int:
    """Show the log of a detached host (a host in the foreground logs to its own terminal)."""
    path = load_config().paths.logs / "host.log"
    if not path.exists():
        print(f"nanoclaw: there is no {path} yet; no host was started in the background", file=sys.stderr)
        return 1
    after = _show_last(path, lines)
    while follow:
        time.sleep(LOOK_SECONDS)
        after = _show_from(path, after)
    return 0


def _show_last(path: Path, lines: int) -> int:
    with path.open("rb") as log:
        for line in deque(log, maxlen=lines):
            _show(line)
        return log.tell()


def _show_from(path: Path, after: int) -> int:
    with path.open("rb") as log:
        if path.stat().st_size < after:  # a new file took its place
            after = 0
        log.seek(after)
        for line in log:
            _show(line)
        return log.tell()


def _show(line: bytes) -> None:
    print(neutralise(line.decode(errors="replace").rstrip("\n")), flush=True)
