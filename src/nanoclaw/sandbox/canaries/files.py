"""Canaries that look for files: the host's, other assistants', what is mounted and how."""

from __future__ import annotations

import os
from collections.abc import Iterator

from nanoclaw.sandbox.canaries.probe import Question, Reached, mount_points

MOST_ENTRIES = 1500  # of each mount that is searched for the planted file
GATE = "/session/gate"  # where gVisor hands listeners out (runner/forward.py)
SYSTEM_TREES = ("/proc", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SYSTEM_FOLDERS = ("/dev", "/etc")  # single devices and files are mounted in them
SCRATCH = ("/", "/tmp", "/var/tmp", "/run", "/dev/shm")  # noqa: S108 - in the box


def _try_paths(paths: list[str]) -> str:
    roots = ("", "/proc/1/root", "/proc/self/cwd/../../../..")
    for path in paths:
        for root in roots:
            try:
                os.lstat(root + path)
            except OSError:
                continue
            raise Reached(f"{root}{path} is there")
    return f"{len(paths)} looked for"


def host_files(question: Question) -> str:
    """The host's home, vault, store and keys."""
    return _try_paths(question["paths"])


def other_groups(question: Question) -> str:
    """What other assistants have."""
    return _try_paths(question["groups"])


def planted_secret(question: Question) -> str:
    """A file that the host made for this proof: by its path, and by its name wherever something is mounted."""
    _try_paths(question["planted_at"])
    tops = [point for point in mount_points() if not point.startswith(("/proc", "/sys", "/usr"))]
    searched = [path for top in tops for path in _walk(top)]
    for path in searched:
        if question["planted"] in path:
            raise Reached(f"{path} is there")
    return f"{len(searched)} entries looked at"


def _walk(top: str) -> Iterator[str]:
    waiting, left = [top], MOST_ENTRIES
    while waiting and left > 0:
        folder = waiting.pop()
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names[:left]:
            path = os.path.join(folder, name)
            yield path
            if os.path.isdir(path) and not os.path.islink(path) and not os.path.ismount(path):
                waiting.append(path)
        left -= len(names)


def mounts(question: Question) -> str:
    """Nothing is mounted but what the host said."""
    known = {GATE, *SCRATCH, *SYSTEM_TREES, *SYSTEM_FOLDERS, *question["targets"]}
    for point in mount_points():
        is_system = os.path.dirname(point) in SYSTEM_FOLDERS or point.startswith(
            tuple(f"{top}/" for top in SYSTEM_TREES)
        )
        is_above = any(target.startswith(point + "/") for target in question["targets"])  # a runtime makes such folders
        if point not in known and not is_system and not is_above:
            raise Reached(f"{point} is mounted")
    return f"{len(known)} expected"


def read_only(question: Question) -> str:
    """What is mounted to be read cannot be written."""
    for path in (*question["readonly"], "/", "/usr", "/usr/bin", "/etc", "/etc/passwd"):
        folder = os.path.isdir(path)
        name = os.path.join(path, ".nanoclaw-canary") if folder else path
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if folder else 0)))
        except OSError:
            continue
        if folder:
            os.unlink(name)
        raise Reached(f"{path} can be written")
    return f"{len(question['readonly'])} mounts"


def mounted_read_only(question: Question) -> str:
    """Those mounts are read-only by themselves, not only by whose files they are."""
    for path in question["readonly"]:
        if not os.statvfs(path).f_flag & os.ST_RDONLY:
            raise Reached(f"{path} is mounted to be written")
    return f"{len(question['readonly'])} mounts"
