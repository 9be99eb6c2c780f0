"""The steps of a container's start, each of which is undone when a later one fails. All of it runs in a thread.

In: an engine, a folder of the box's own. Out: a Built, held. Never: a pid that is not seen to be the container's.
Fails: EngineError, OSError; `undo` then takes everything back.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
from contextlib import suppress
from pathlib import Path

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.cgroup import ROOT, BoxCgroup
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.docker_box import PROCESS_SECONDS, Built, bury
from nanoclaw.sandbox.runtimes.engine import Engine
from nanoclaw.sandbox.runtimes.engine_words import EngineError
from nanoclaw.sandbox.spec import SandboxSpec

BACKLOG = 128


class Making:
    """The steps of a start that must be undone when a later one fails."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._open: list[socket.socket] = []
        self._handle: int | None = None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)

    def write_files(self, files: dict[str, bytes]) -> dict[str, Path]:
        """Write a box's generated files; return where each lies."""
        placed: dict[str, Path] = {}
        for number, (target, content) in enumerate(files.items()):
            path = self._folder / str(number)
            path.write_bytes(content)
            path.chmod(0o444)
            placed[target] = path
        return placed

    def open_gate(self, ports: tuple[int, ...]) -> tuple[Path | None, list[socket.socket]]:
        """Make the folder of unix sockets that stand for the listeners."""
        if not ports:
            return None, []
        gate = self._folder / "gate"
        gate.mkdir(mode=0o755)
        descriptor = os.open(gate, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for port in ports:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                self._open.append(listener)
                listener.bind(f"/proc/self/fd/{descriptor}/{port}")  # a path may be longer than sun_path
                (gate / str(port)).chmod(0o666)
                listener.listen(BACKLOG)
                listener.setblocking(False)
        finally:
            os.close(descriptor)
        return gate, list(self._open)

    def start(self, name: str, body: dict[str, object], label: BoxLabel, listeners: list[socket.socket]) -> Built:
        """Create, attach, start; the gate inside waits."""
        container = self._engine.create(name, body)
        stream, rest = self._engine.attach(container)
        self._open.append(stream)
        self._engine.start(container)
        pid = self._engine.inspect(container).state.pid
        self._handle = open_process(pid, container)
        cgroup = None if self._handle is None else _find_cgroup(pid)
        return Built(label, container, pid, self._handle, stream, rest, listeners, self._folder, cgroup)

    def keep(self, made: list[socket.socket]) -> None:
        """Close these too when the start is undone."""
        self._open.extend(made)

    def undo(self, name: str) -> bool:
        """Take everything back; False when the engine could not be told."""
        for opened in self._open:
            opened.close()
        if self._handle is not None:
            os.close(self._handle)
        told = True
        try:
            self._engine.remove(name, PROCESS_SECONDS)
        except EngineError:
            told = False
        shutil.rmtree(self._folder, ignore_errors=True)
        return told


def take_down(engine: Engine, built: Built) -> None:
    """Take down a started container that nobody wants any more. Never fails."""
    with suppress(EngineError):
        engine.kill(built.container)
    bury(engine, built)
    for opened in (built.stream, *built.listeners):
        opened.close()
    if built.handle is not None:
        os.close(built.handle)


def open_process(pid: int, container: str) -> int | None:
    """Return a pidfd of a container's first process; None where it is no process of this machine."""
    try:
        handle = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
    with suppress(OSError):  # it ended meanwhile
        if container in Path(f"/proc/{pid}/cgroup").read_text():
            return handle
    os.close(handle)
    return None


def _find_cgroup(pid: int) -> BoxCgroup | None:
    """Return a container's cgroups as this host sees them; None where it does not."""
    folders: list[tuple[Path, int]] = []
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            top, version = (ROOT, 2) if not names else (ROOT / names, 1)
            if (top / path.lstrip("/") / "cgroup.procs").exists():
                folders.append((top / path.lstrip("/"), version))
    return BoxCgroup(tuple(folders)) if folders else None


def compare_mounts(built: Built, spec: SandboxSpec) -> None:
    """See in the held box that what was checked is what is mounted; SandboxError when it is not, or cannot be seen.

    Seen through the root of the container's processes: runc's first one, or gVisor's gofer, which opens files for it.
    """
    for mount in spec.mounts:
        if mount.descriptor is None:
            continue
        wanted = _identity(os.fstat(mount.descriptor))
        found = {seen for pid in _processes(built) if (seen := _seen_by(pid, mount.target)) is not None}
        if found != {wanted}:
            what = "something else is mounted" if found else "what is mounted cannot be seen"
            raise SandboxError(f"{mount.source} is not given to the sandbox: {what}.", mend="Try again, or bubblewrap.")


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode)


def _processes(built: Built) -> set[int]:
    """Return the pids of a container; none where they are not this machine's."""
    if built.handle is None:
        return set()
    return {built.pid, *(built.cgroup.processes() if built.cgroup is not None else ())}


def _seen_by(pid: int, target: str) -> tuple[int, int, int] | None:
    """Return what a process finds at a path; None where that is nothing, or is not for us to see."""
    try:
        descriptor = os.open(f"/proc/{pid}/root{target}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _identity(os.fstat(descriptor))
    finally:
        os.close(descriptor)
