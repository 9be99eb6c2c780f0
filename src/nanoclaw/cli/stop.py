"""`nanoclaw stop`: ask the host to finish, and wait until it has."""

from __future__ import annotations

import os
import signal
import sys
import time

import click

from nanoclaw.cli.host_process import PATIENCE_SECONDS, find_host_pid, host_runs
from nanoclaw.config import Paths, load_config
from nanoclaw.errors import OperatorError

LOOK_SECONDS = 0.02
STOP_SECONDS = 60.0


@click.command("stop")
def command() -> int:
    """Stop the host: agents at work are interrupted, what is unfinished goes on at the next start."""
    print("The host has stopped." if stop_host(load_config().paths) else "No host runs.")
    return 0


def stop_host(paths: Paths) -> bool:
    """Stop the host and wait until it is gone; False when none ran. Raises OperatorError when it does not go."""
    pid = find_host_pid(paths)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise OperatorError(f"the host (pid {pid}) belongs to another user. Run this as that user") from error
    began, told = time.monotonic(), False
    while host_runs(paths):
        waited = time.monotonic() - began
        if waited > STOP_SECONDS:
            raise OperatorError(f"the host (pid {pid}) does not stop. End it the hard way: kill -9 {pid}")
        if waited > PATIENCE_SECONDS and not told:
            told = True
            print("nanoclaw: waiting for the host to stop ...", file=sys.stderr)
        time.sleep(LOOK_SECONDS)
    return True
