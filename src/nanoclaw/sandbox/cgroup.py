"""Memory, process and CPU limits of a box by cgroups, where the host may write them: as root, or in a part given to it.

One folder per install, one below it per box: `<hierarchy>/nanoclaw-<install>/<session>-<fence>`, so that what belongs
to this install is known by its own folder. Version 1: below the host's own cgroup. Version 2: a cgroup with processes
cannot give controllers to those below it, so root goes below the root of the mount, and a normal user's host below
the nearest of the host's ancestors that is its own, holds no process and has controllers to give: under systemd
`user@UID.service`, or a service with `Delegate=yes` whose host was started in a cgroup below it. To move a process from
one place to another its mover must also own the nearest cgroup above both, so an ancestor is looked for and no other.
Where nothing is writable there is no cgroup: the runner bounds processes inside the box with RLIMIT_NPROC, and the
host's watch memory (memory_watch.py).
Fails: SandboxError only when a limit that could be set is refused; a missing hierarchy is not an error.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.base import BoxUsage
from nanoclaw.sandbox.spec import Limits

CPU_PERIOD_US = 100_000
CONTROLLERS = ("memory", "pids", "cpu")
ROOT = Path("/sys/fs/cgroup")
KILL_SECONDS = 2.0
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted place for limits: `folder` is where an install's folder goes."""

    folder: Path
    version: int
    controllers: tuple[str, ...]


def find_hierarchies(root: Path = ROOT, membership: Path = Path("/proc/self/cgroup")) -> tuple[Hierarchy, ...]:
    """Return where limits can be written; empty when nowhere."""
    with suppress(OSError):
        unified = (root / "cgroup.controllers").read_text().split()
        usable = tuple(name for name in CONTROLLERS if name in unified)
        if usable and os.access(root, os.W_OK) and os.access(root / "cgroup.subtree_control", os.W_OK):
            return (Hierarchy(root, 2, usable),)
    own = _own_folders(membership)
    delegated = _find_delegated(root if (root / "cgroup.controllers").exists() else root / "unified", own.get("", ""))
    if delegated is not None:
        return (delegated,)
    found: list[Hierarchy] = []
    for controller in CONTROLLERS:
        mounted = root / controller
        below = mounted / own.get(controller, "").strip("/")
        folder = below if below.is_dir() else mounted
        if (mounted / "cgroup.procs").exists() and os.access(folder, os.W_OK):
            found.append(Hierarchy(folder, 1, (controller,)))
    return tuple(found)


def _find_delegated(mount: Path, own: str) -> Hierarchy | None:
    """Return the nearest ancestor of the host's own version 2 cgroup that it may divide; None: there is none."""
    for folder in [mount / own.strip("/"), *(mount / own.strip("/")).parents]:
        if folder == mount or mount not in folder.parents:
            return None
        with suppress(OSError):
            usable = tuple(name for name in CONTROLLERS if name in (folder / "cgroup.controllers").read_text().split())
            is_empty = not (folder / "cgroup.procs").read_text().strip()
            files = (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control")
            if "memory" in usable and is_empty and all(os.access(file, os.W_OK) for file in files):
                return Hierarchy(folder, 2, usable)
    return None


def _own_folders(membership: Path) -> dict[str, str]:
    """Return this process's cgroup in each version 1 hierarchy."""
    own: dict[str, str] = {}
    with suppress(OSError):
        for line in membership.read_text().splitlines():
            _, names, path = line.split(":", 2)
            own.update((name, path) for name in names.split(","))
    return own


class BoxCgroup:
    """One box's folders in every hierarchy."""

    def __init__(self, folders: tuple[tuple[Path, int], ...]) -> None:
        self._folders = folders

    @property
    def procs_files(self) -> tuple[str, ...]:
        """Where the launcher writes itself in before it becomes the box."""
        return tuple(str(folder / "cgroup.procs") for folder, _ in self._folders)

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders."""
        return tuple(str(folder) for folder, _ in self._folders)

    def out_of_memory_kills(self) -> int:
        """Return how many of its processes the kernel killed for the memory limit."""
        for folder, version in self._folders:
            with suppress(OSError):
                text = (folder / ("memory.events" if version == 2 else "memory.oom_control")).read_text()
                counts = dict(line.split(" ", 1) for line in text.splitlines())
                return int(counts.get("oom_kill", "0"))
        return 0

    def measure(self) -> BoxUsage:
        """Return what its processes take now; None for what no cgroup here counts."""
        memory = self._read("memory.current", "memory.usage_in_bytes")
        processes = self._read("pids.current", "pids.current")
        nanoseconds = self._read("", "cpuacct.usage")
        cpu_seconds = self._read_cpu_stat() if nanoseconds is None else nanoseconds / 1e9
        return BoxUsage(memory, processes, cpu_seconds, self.out_of_memory_kills() if self._folders else None)

    def _read(self, unified: str, legacy: str) -> int | None:
        for folder, version in self._folders:
            with suppress(OSError, ValueError):
                return int((folder / (unified if version == 2 else legacy)).read_text())
        return None

    def _read_cpu_stat(self) -> float | None:
        for folder, _ in self._folders:
            with suppress(OSError, ValueError, StopIteration):
                lines = (folder / "cpu.stat").read_text().splitlines()
                return int(next(line.split()[1] for line in lines if line.startswith("usage_usec "))) / 1e6
        return None

    def processes(self) -> set[int]:
        """Return the pids of its processes."""
        found: set[int] = set()
        for folder, _ in self._folders:
            with suppress(OSError):
                found.update(map(int, (folder / "cgroup.procs").read_text().split()))
        return found

    def kill(self) -> bool:
        """Kill every process in it; whether there was one."""
        killed = False
        for folder, _ in self._folders:
            with suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                    killed = True
        return killed

    def remove(self) -> bool:
        """Remove the folders; False when the kernel still counts a process in one (try again in a moment)."""
        gone = True
        for folder, _ in self._folders:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                gone = False
            with suppress(OSError):
                folder.parent.rmdir()  # the install's own, once its last box is over
        return gone


def create_cgroup(hierarchies: tuple[Hierarchy, ...], install: str, name: str, limits: Limits) -> BoxCgroup:
    """Make a box's cgroup with its limits in place. Blocks about 1 ms."""
    if not (NAME.fullmatch(install) and NAME.fullmatch(name)):
        raise SandboxError(f"{install!r}/{name!r} cannot name a cgroup")
    folders: list[tuple[Path, int]] = []
    try:
        for hierarchy in hierarchies:
            folder = _make_folder(hierarchy, f"nanoclaw-{install}", name)
            folders.append((folder, hierarchy.version))
            _set_limits(folder, hierarchy, limits)
    except OSError as error:
        BoxCgroup(tuple(folders)).remove()
        raise SandboxError(f"The sandbox's limits could not be set: {error}") from None
    return BoxCgroup(tuple(folders))


def _make_folder(hierarchy: Hierarchy, install: str, name: str) -> Path:
    parent = hierarchy.folder / install
    parent.mkdir(exist_ok=True)
    if hierarchy.version == 2:
        _enable(hierarchy.folder, hierarchy.controllers)
        _enable(parent, hierarchy.controllers)
    folder = parent / name
    folder.mkdir(exist_ok=True)
    return folder


def _set_limits(folder: Path, hierarchy: Hierarchy, limits: Limits) -> None:
    for file, value, is_needed in _settings(hierarchy, limits):
        if is_needed or (folder / file).exists():
            (folder / file).write_text(value)


def remove_orphans(hierarchies: tuple[Hierarchy, ...], install: str, live: set[str]) -> int:
    """Kill what is left in cgroups of this install's boxes that are not `live`, and remove them; return how many boxes.

    Blocks up to 2 s per box.
    """
    ended: set[str] = set()
    for hierarchy in hierarchies:
        parent = hierarchy.folder / f"nanoclaw-{install}"
        for folder in [path for path in _subfolders(parent) if path.name not in live]:
            if _kill_all(folder):
                ended.add(folder.name)
    return len(ended)


def _subfolders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _kill_all(folder: Path) -> bool:
    """Kill every process in a cgroup until it can be removed; whether there was one."""
    cgroup, killed = BoxCgroup(((folder, 0),)), False
    deadline = time.monotonic() + KILL_SECONDS
    while not cgroup.remove():
        if time.monotonic() > deadline:
            raise SandboxError(f"{folder} still holds processes of an earlier host.", mend="Restart the machine.")
        killed = cgroup.kill() or killed
        time.sleep(0.01)  # a cgroup's last process leaves it a moment after its end
    return killed


def _enable(folder: Path, controllers: tuple[str, ...]) -> None:
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def _settings(hierarchy: Hierarchy, limits: Limits) -> list[tuple[str, str, bool]]:
    """Return (file, value, needed) in the order they must be written; swap accounting may be off in the kernel."""
    memory, quota = str(limits.memory_bytes), str(int(limits.cpu_cores * CPU_PERIOD_US))
    if hierarchy.version == 2:
        known = {
            "memory": [("memory.max", memory, True), ("memory.swap.max", "0", False)],
            "pids": [("pids.max", str(limits.processes), True)],
            "cpu": [("cpu.max", f"{quota} {CPU_PERIOD_US}", True)],
        }
    else:
        known = {
            "memory": [("memory.limit_in_bytes", memory, True), ("memory.memsw.limit_in_bytes", memory, False)],
            "pids": [("pids.max", str(limits.processes), True)],
            "cpu": [("cpu.cfs_period_us", str(CPU_PERIOD_US), True), ("cpu.cfs_quota_us", quota, True)],
        }
    return [setting for controller in hierarchy.controllers for setting in known[controller]]
