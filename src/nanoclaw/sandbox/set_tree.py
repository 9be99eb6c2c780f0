"""A folder that a box has filled is looked through before anybody else's box gets it: it may hold anything.

In: the folder of a set of packages; nothing writes there any more. Out: plain files and folders that belong to the
host, readable by all, writable by their owner alone, and links that stay inside.
Never: follows a link; keeps a device, a socket, a FIFO, a setuid bit, or a link that leads out.
Fails: BuildFailed for what no package has: a special file, a depth or a number without end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nanoclaw.sandbox.mounts import open_beneath
from nanoclaw.sandbox.packages import BuildFailed
from nanoclaw.sandbox.surroundings import PKGS

APT = "apt"  # the part whose absolute links mean its own root
MOST_ENTRIES = 500_000
MOST_PATH_BYTES = 3_000


def look_through(root: Path, owner: int | None) -> int:
    """Make a set safe to mount; `owner` gets everything (a root host's). Return how many links were taken out."""
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    removed, seen = 0, 0
    waiting = ["."]
    try:
        while waiting:
            folder = waiting.pop()
            names, gone = _look_into(top, folder, owner, waiting)
            seen, removed = seen + names, removed + gone
            if seen > MOST_ENTRIES:
                raise BuildFailed(f"These packages have more than {MOST_ENTRIES} files.")
    finally:
        os.close(top)
    return removed


def _look_into(top: int, folder: str, owner: int | None, waiting: list[str]) -> tuple[int, int]:
    """Look at all that is in a folder; return how many entries it has, and how many links had to go."""
    here = open_beneath(top, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _own(here, owner, 0o755)
        names = os.listdir(here)
        gone = [_take(here, os.path.normpath(f"{folder}/{name}"), owner, waiting) for name in names]
        return len(names), sum(gone)
    finally:
        os.close(here)


def inside(link: str, target: str) -> str | None:
    """Return where a link at `link` (relative to the set) may point, None: it leads out.

    `..` only at the beginning: behind a name it would go up from wherever that name, itself a link, leads.
    """
    if target.startswith(f"{PKGS}/"):
        target = os.path.relpath(target.removeprefix(PKGS), f"/{os.path.dirname(link)}")
    elif target.startswith("/"):
        if link.split("/")[0] != APT:
            return None
        target = os.path.relpath(f"/{APT}/{os.path.normpath(f'/{target}').lstrip('/')}", f"/{os.path.dirname(link)}")
    words = [word for word in target.split("/") if word not in ("", ".")]
    ups = next((number for number, word in enumerate(words) if word != ".."), len(words))
    if ".." in words[ups:] or ups > link.count("/") or not words:
        return None
    return "/".join(words)


def _take(here: int, path: str, owner: int | None, waiting: list[str]) -> bool:
    """Look at one entry; return whether it was a link that had to go."""
    name = os.path.basename(path)
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        raise BuildFailed("These packages have folders in folders without end.")
    found = os.lstat(name, dir_fd=here)
    match stat.S_IFMT(found.st_mode):
        case stat.S_IFDIR:
            folder = open_beneath(here, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
            _own_by_path(folder, owner, 0o755)
            waiting.append(path)
        case stat.S_IFREG:
            file = open_beneath(here, name, os.O_PATH | os.O_NOFOLLOW)
            _own_by_path(file, owner, 0o755 if found.st_mode & 0o111 else 0o644)
        case stat.S_IFLNK:
            return _take_link(here, name, path, owner)
        case _:
            raise BuildFailed(f"These packages hold a special file: {path[-80:]}")
    return False


def _take_link(here: int, name: str, path: str, owner: int | None) -> bool:
    target = os.readlink(name, dir_fd=here)
    kept = inside(path, target)
    if kept != target:
        os.unlink(name, dir_fd=here)
        if kept is None:
            return True
        os.symlink(kept, name, dir_fd=here)
    if owner is not None:
        os.chown(name, owner, owner, dir_fd=here, follow_symlinks=False)
    return False


def _own_by_path(handle: int, owner: int | None, mode: int) -> None:
    """Set owner and mode of what an O_PATH descriptor stands for, and close it."""
    try:
        if owner is not None:
            os.chown(f"/proc/self/fd/{handle}", owner, owner)
        os.chmod(f"/proc/self/fd/{handle}", mode)
    finally:
        os.close(handle)


def _own(folder: int, owner: int | None, mode: int) -> None:
    if owner is not None:
        os.fchown(folder, owner, owner)
    os.fchmod(folder, mode)
