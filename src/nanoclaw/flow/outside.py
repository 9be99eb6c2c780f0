"""What running boxes are told of the way out: the gateway's CA, and the names that lead to it, kept current in files.

In: what the gateway last said (`Outside`), an agent group's folder.
Out: `compose/<folder>/{ca.pem,hosts}`, mounted read-only over a box's bundle and /etc/hosts (sandbox/surroundings.py).
Writes: those two files, in place: a box that runs has the very file mounted, one renamed over it would not be seen.
Never: writes what a box may write; waits for the gateway (what it said in an earlier life holds until it says more).
Fails: OSError, which ends the start of a run; in a later change it is logged, and the next start writes again.

The names are a convenience for clients that ignore proxy variables: what is allowed is decided by the gateway alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from nanoclaw.config import Paths
from nanoclaw.gateway.client import Outside
from nanoclaw.log import Log
from nanoclaw.sandbox.spec import COMPOSED_CA, COMPOSED_HOSTS, HOSTNAME
from nanoclaw.sandbox.surroundings import hosts_text


class OutsideFiles:
    """Writes the two files of agent groups, at a start and whenever the gateway says something new."""

    def __init__(self, paths: Paths, read: Callable[[], Outside], log: Log) -> None:
        self._paths = paths
        self._read = read
        self._log = log
        self._writing = threading.Lock()  # what was read last is what is written last

    def compose(self, folder: str) -> None:
        """Write both files of one agent group, whose folder below `compose/` is there. Blocking; raises OSError."""
        compose = self._paths.compose(folder)
        with self._writing:
            outside = self._read()
            write_in_place(compose / COMPOSED_CA, outside.ca_pem.encode("ascii"))
            write_in_place(compose / COMPOSED_HOSTS, hosts_text(HOSTNAME, outside.names_for(folder)).encode("ascii"))

    def refresh(self) -> None:
        """Write the files of every agent group that ever had a box. Blocking; never raises."""
        try:
            folders = sorted(entry.name for entry in self._paths.compose_root.iterdir() if entry.is_dir())
        except OSError as error:
            self._log.error("outside.refresh_failed", error=str(error))
            return
        for folder in folders:
            try:
                self.compose(folder)
            except OSError as error:  # one that is being erased, or a full disk
                self._log.warning("outside.refresh_failed", folder=folder, error=str(error))


def write_in_place(path: Path, data: bytes) -> None:
    """Make a file hold `data`, the inode kept; nothing is written where it does already. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        if os.pread(descriptor, len(data) + 1, 0) == data:
            return
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
