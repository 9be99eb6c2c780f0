"""The host as the command line sees it: whether one runs, starting one, waiting until it answers.

The lock in the home is the truth about "runs"; the terminal socket says when it is ready.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nanoclaw.channels.plain_text import neutralise
from nanoclaw.config import Paths
from nanoclaw.errors import NanoClawError, OperatorError

LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 1.0  # after this a person is told what is being waited for
START_SECONDS = 60.0
LOG_BYTES = 10 * 1024 * 1024  # a host.log beyond this becomes host.log.1 at the next start
TAIL_LINES = 8
EXIT_OPERATOR = 2
SAID = "nanoclaw: "  # how the host's last line begins when the operator can mend what stopped it
COMMAND = ("-I", "-m", "nanoclaw.cli.main", "up")

Tell = Callable[[str], None]


class HostDied(NanoClawError):
    """The host ended while it was being started; the message holds the last lines of its log."""


def host_runs(paths: Paths) -> bool:
    """Return whether a host holds the lock of this home."""
    try:
        descriptor = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find_host_pid(paths: Paths) -> int | None:
    """Return the pid of the running host, None when none runs. Raises OperatorError when it did not leave its pid."""
    if not host_runs(paths):
        return None
    try:
        return int(paths.lock.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise OperatorError(f"a host runs, but {paths.lock} does not say which. Try again in a moment") from error


def connect(path: Path) -> socket.socket | None:
    """Return a connection to a unix socket, None when nobody listens. Raises OperatorError when it is not ours."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path))
    except PermissionError as error:
        sock.close()
        raise OperatorError(f"{path} belongs to another user. Run this as the user who runs the host") from error
    except OSError:
        sock.close()
        return None
    return sock


class HostStarter:
    """Connects to the host's terminal, and starts a host when none runs (unless `may_start` is False)."""

    def __init__(self, paths: Paths, tell: Tell, *, may_start: bool = True) -> None:
        self._paths = paths
        self._tell = tell
        self._may_start = may_start
        self._child: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    def connect(self, deadline: float) -> socket.socket | None:
        """Return a connection, None when `deadline` (monotonic seconds) passed. Raises HostDied, OperatorError."""
        told = False
        began = time.monotonic()
        until = min(deadline, began + START_SECONDS)
        while (sock := connect(self._paths.terminal_socket)) is None:
            self._look_after_host()
            now = time.monotonic()
            if now >= until:
                return self._too_slow(deadline)
            if not told and now - began >= PATIENCE_SECONDS:
                told = True
                self._tell("waiting for the host ..." if self._child is None else "starting the host ...")
            time.sleep(LOOK_SECONDS)
        self._child = None
        return sock

    def host_answers(self) -> bool:
        """Return whether somebody listens on the terminal socket."""
        sock = connect(self._paths.terminal_socket)
        if sock is not None:
            sock.close()
        return sock is not None

    def _look_after_host(self) -> None:
        """Start a host when none runs; raise HostDied when ours ended and no other has taken its place."""
        if self._child is not None:
            if self._child.poll() is None:
                return
            code, self._child = self._child.returncode, None
            if host_runs(self._paths):  # somebody else's was quicker
                return
            raise self._explain(code)
        if self._may_start and not host_runs(self._paths):
            self._child, self._log_from = start_host(self._paths)

    def _explain(self, code: int) -> NanoClawError:
        """Return why a host did not start: its own words when the operator can mend it, else the end of its log."""
        said = [line for line in self._lines() if line.startswith(SAID)]
        if code == EXIT_OPERATOR and said:
            return OperatorError(said[-1].removeprefix(SAID))
        return HostDied(f"the host did not start (exit {code}).{self._tail()}")

    def _too_slow(self, deadline: float) -> None:
        if time.monotonic() < deadline:
            why = "the host does not answer" if host_runs(self._paths) else "no host runs"
            raise HostDied(f"{why} ({self._paths.terminal_socket}).{self._tail()}")

    def _lines(self) -> list[str]:
        return read_tail(self._paths.logs / "host.log", self._log_from)

    def _tail(self) -> str:
        shown = "\n".join(f"  {line}" for line in self._lines())
        return f" The end of its log:\n{shown}" if shown else " Its log is empty; `./nanoclaw.sh up` shows more."


def start_host(paths: Paths) -> tuple[subprocess.Popen[bytes], int]:
    """Start a host of its own session; return it and where in the log its lines begin."""
    path = paths.logs / "host.log"
    try:
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *COMMAND],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
            return process, log.tell()
    except OSError as error:
        raise OperatorError(f"cannot write {path}: {error.strerror}. Make it writable, or free some space") from error


def read_tail(path: Path, after: int) -> list[str]:
    """Return the last lines of a log beyond byte `after`, safe to show."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(after, size - 16384))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return [neutralise(line) for line in text.splitlines() if line.strip()][-TAIL_LINES:]
