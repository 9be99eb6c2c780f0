"""The gateway's process: opens vault and ledger, takes boxes and turns from the host, serves until the host is gone.

Started with: DIRECTORY CONTROL_FD ADMIN_FD ADMIN_UID [UPSTREAM] (client.gateway_command), env={}.
In: the control socket (EOF ends the process), the admin socket. Out: events on the control socket, log lines on stderr.
Writes: only below its directory. Never: reads the environment, or starts with a vault that it cannot trust (exit 2, the
reason as the last line on stderr).
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from nanoclaw.clock import SystemClock
from nanoclaw.errors import OperatorError
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.parts import Arguments, Gateway
from nanoclaw.gateway.upstream import parse_endpoint
from nanoclaw.gateway.vault import Vault
from nanoclaw.log import Log, open_log

EXIT_OPERATOR = 2
PR_SET_DUMPABLE = 4  # prctl(2): no core file, and no other process of this user reads our memory


def main(arguments: Sequence[str]) -> int:
    """Run the gateway; return its exit status: 0 when the host is gone, 2 when the operator must mend something."""
    _harden()
    try:
        return asyncio.run(_run(_parse(arguments), open_log()))
    except OperatorError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_OPERATOR


def _parse(arguments: Sequence[str]) -> Arguments:
    directory, control_fd, admin_fd, admin_uid, *upstream = arguments
    endpoint = parse_endpoint(upstream[0]) if upstream else None
    return Arguments(Path(directory), int(control_fd), int(admin_fd), int(admin_uid), endpoint)


def _harden() -> None:
    """Keep secrets in this process, allow it many connections, and let only the host end it."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which then ends us
    os.umask(0o077)


async def _run(arguments: Arguments, log: Log) -> int:
    clock = SystemClock()
    lock = _lock(arguments.directory)
    vault = Vault(arguments.directory)
    vault.load()
    ledger = Ledger(arguments.directory / "ledger.db", clock)
    ledger.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            gateway = Gateway(arguments, vault, ledger, tasks, log)
            await gateway.serve()
    finally:
        ledger.close()
        os.close(lock)
    return 0


def _lock(directory: Path) -> int:
    """Return the lock on the directory, held while the process lives; two gateways on one vault would lose writes."""
    try:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OperatorError(f"Another gateway already uses {directory}. End the host it belongs to first.") from None
    except OSError as error:
        raise OperatorError(f"The gateway's directory {directory} cannot be used: {error.strerror}.") from None
    return lock
