"""How the programs of a package build are run, and how it says what came of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

SAYS = "nanoclaw-says: "  # begins the lines of stderr that are for people
TAIL_LINES = 12


class NotInstalled(Exception):
    """Something cannot be installed here; the message says why in plain words."""


def run(command: Sequence[str], failure: str, *, explain: Callable[[str], str] = lambda _: "") -> str:
    """Run a program and return what it said. Raises NotInstalled: `failure`, and what it said last or is explained."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, cwd="/"
    )
    log = done.stdout.decode(errors="replace")
    sys.stderr.write(log[-4000:])
    sys.stderr.flush()
    if done.returncode != 0:
        said = explain(log) or " ".join(line.strip() for line in log.splitlines()[-TAIL_LINES:] if line.strip())
        raise NotInstalled(f"{failure}: {said or f'exit code {done.returncode}'}")
    return log


def prepare(**variables: str) -> None:
    """Set variables for every program that is run from now on."""
    os.environ.update(variables)


def say(words: str) -> None:
    """Say something for people."""
    sys.stderr.write(f"\n{SAYS}{words}\n")
    sys.stderr.flush()
