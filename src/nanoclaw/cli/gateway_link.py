"""Asks the gateway: the one of the running host, or one started for the duration of a command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from nanoclaw.children import gateway_spawner
from nanoclaw.cli.host_process import host_runs
from nanoclaw.config import Config
from nanoclaw.errors import OperatorError, SandboxError
from nanoclaw.gateway import admin_words, control
from nanoclaw.gateway.client import GatewayFds, ask_admin, open_admin_socket

STOP_SECONDS = 5.0
ANSWER_SECONDS = 10.0
LONG_SECONDS = 600.0

Result = TypeVar("Result")


class GatewayDesk:
    """Somebody who answers: `ask` it while `open_gateway` holds it open."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes] | None) -> None:
        self._path = path
        self._process = process

    def ask(self, request: admin_words.AdminRequest, kind: type[Result]) -> Result:
        """Return the gateway's answer as `kind` (admin_words.py says which). Raises OperatorError in plain words."""
        return self._ask(request, kind, ANSWER_SECONDS)

    def ask_long(self, request: admin_words.AdminRequest, kind: type[Result]) -> Result:
        """Ask what may take the gateway minutes: it goes through all it has."""
        return self._ask(request, kind, LONG_SECONDS)

    def _ask(self, request: admin_words.AdminRequest, kind: type[Result], seconds: float) -> Result:
        try:
            return ask_admin(self._path, request, kind, timeout_seconds=seconds)
        except OperatorError:
            if self._process is None or self._process.poll() is None:
                raise
            raise OperatorError(_last_words(self._process)) from None


@contextmanager
def open_gateway(config: Config) -> Generator[GatewayDesk]:
    """Yield who answers for this home's vault and ledger. Raises OperatorError."""
    if host_runs(config.paths):
        yield GatewayDesk(config.paths.gateway_socket, None)
        return
    path = config.paths.run / f"gateway-{os.getpid()}.sock"  # its own: a host that starts meanwhile keeps its own name
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, open_admin_socket(path) as admin:
        try:
            process = gateway_spawner(config)(GatewayFds(theirs, admin))
        except (OSError, SandboxError) as error:
            path.unlink(missing_ok=True)
            raise OperatorError(f"the gateway cannot be started: {error}") from error
        theirs.close()
        admin.close()
        ours.send(msgspec.json.encode(control.HostSettings(config.timezone)))  # what days and months of costs are by
        try:
            yield GatewayDesk(path, process)
        finally:
            ours.close()  # end of file on its control socket: it finishes and goes
            path.unlink(missing_ok=True)
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        _, stderr = process.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return
    except ValueError:  # its last words were read already
        return
    if process.returncode not in (0, None) and stderr:
        sys.stderr.write(stderr.decode(errors="replace"))


def _last_words(process: subprocess.Popen[bytes]) -> str:
    _, stderr = process.communicate()
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"the gateway did not start (exit {process.returncode})"
