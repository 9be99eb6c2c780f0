"""`nanoclaw up`: the host, in this process or detached."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from nanoclaw.cli.host_process import START_SECONDS, HostStarter, find_host_pid
from nanoclaw.cli.vault_lock import unlock
from nanoclaw.config import load_config, read_secret_file
from nanoclaw.host import run_host


@click.command("up")
@click.option("--detach", "-d", is_flag=True, help="Start it in the background and return when it is ready.")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="Open the vault with what this file says.")
def command(detach: bool, passphrase_file: Path | None) -> int:
    """Start the host and serve until Ctrl-C; the log goes to stderr (detached: to logs/host.log in the home)."""
    config = load_config()
    if passphrase_file is not None:
        read_secret_file(passphrase_file)  # said now, not by a host in the background
        config = replace(config, passphrase_file=passphrase_file)
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
    if config.passphrase_file is not None:
        unlock(config, config.passphrase_file)
    print(f"The host runs (pid {find_host_pid(config.paths)}).")
    return 0
