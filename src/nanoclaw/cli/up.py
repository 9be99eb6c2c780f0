"""`nanoclaw up`: the host, in this process or detached."""

from __future__ import annotations

import sys
import time

import click

from nanoclaw.cli.host_process import START_SECONDS, HostStarter, find_host_pid
from nanoclaw.config import load_config
from nanoclaw.host import run_host


@click.command("up")
@click.option("--detach", "-d", is_flag=True, help="Start it in the background and return when it is ready.")
def command(detach: bool) -> int:
    """Start the host and serve until Ctrl-C; the log goes to stderr (detached: to logs/host.log in the home)."""
    config = load_config()
    if not detach:
        return run_host(config)
    running = find_host_pid(config.paths)
    if running is not None:
        print(f"A host already runs (pid {running}).")
        return 0
    starter = HostStarter(config.paths, lambda text: print(f"nanoclaw: {text}", file=sys.stderr))
    sock = starter.connect(time.monotonic() + 2 * START_SECONDS)
    if sock is not None:
        sock.close()
    print(f"The host runs (pid {find_host_pid(config.paths)}).")
    return 0
