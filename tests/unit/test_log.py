"""The log: it never stops who writes it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from nanoclaw.log import open_log

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full; run: ./nanoclaw.sh test on Linux")
def test_a_line_on_a_full_disk_is_lost_and_its_writer_goes_on() -> None:
    stream = FULL.open("w", buffering=1)
    log = open_log("info", stream)
    for number in range(2000):
        log.info("disk.filled", number=number)
    with contextlib.suppress(OSError):
        stream.close()


def test_what_is_written_can_be_read_as_one_line() -> None:
    stream = io.StringIO()
    open_log("info", stream).bind(session="s1").warning("box.died", words="two\nlines")
    (line,) = stream.getvalue().splitlines()
    assert "event=box.died" in line and "session=s1" in line and "level=warning" in line


def test_escape_sequences_in_what_is_logged_never_reach_the_readers_terminal() -> None:
    stream = io.StringIO()
    open_log("info", stream).info("agent.said", words="\x1b]0;owned\x07\x9b2J", error="\x1b[31m")
    assert not set(stream.getvalue()) & {"\x1b", "\x07", "\x9b"}
