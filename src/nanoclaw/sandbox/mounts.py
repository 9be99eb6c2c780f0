"""Paths that an agent may have written: opened beneath a root without following a link, and removed whole.

`openat2` with RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV (security.md section 3): a link, `..`, an
absolute name or another file system is an OSError, never another file. Linux 5.6 or newer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from pathlib import Path

SYS_OPENAT2 = 437  # the same number on every architecture
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x01, 0x02, 0x04, 0x08
RESOLVE = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root_fd: int, relative: str, flags: int, mode: int = 0) -> int:
    """Open `relative` below the folder `root_fd` and return a descriptor; OSError when a link or `..` is on the way.

    O_NONBLOCK and O_CLOEXEC are added: a planted FIFO must not hang the host.
    """
    careful = 0 if flags & os.O_PATH else os.O_NONBLOCK | os.O_NOCTTY  # openat2 refuses them with O_PATH
    how = _OpenHow(flags | os.O_CLOEXEC | careful, mode, RESOLVE)
    path = ctypes.c_char_p(os.fsencode(relative))
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(SYS_OPENAT2, root_fd, path, ctypes.byref(how), ctypes.sizeof(how))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), relative)
    return descriptor


def read_beneath(root: Path, relative: str, limit_bytes: int) -> bytes:
    """Return a plain file an agent wrote; OSError for anything but a regular file with one name, or one too large."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        descriptor = open_beneath(root_fd, relative, os.O_RDONLY)
    finally:
        os.close(root_fd)
    with open(descriptor, "rb") as source:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EINVAL, "not a plain file of its own", relative)
        content = source.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, "larger than allowed", relative)
    return content


def remove_tree(path: Path) -> None:
    """Remove a folder and everything in it, however deep, without following a link; nothing may still write there.

    Folders are first moved up to the top, so that depth costs neither recursion nor a long path.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    prefix = f".removing-{secrets.token_hex(8)}"  # a name the box cannot have taken
    try:
        count = 0
        while folders := _remove_files(top):
            for name in folders:
                count = _lift_folders(top, name, prefix, count)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _remove_files(folder: int) -> list[str]:
    """Unlink all but folders, and return the folders' names."""
    folders: list[str] = []
    with os.scandir(folder) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in listed:
        if is_folder:
            folders.append(name)
        else:
            os.unlink(name, dir_fd=folder)
    return folders


def _lift_folders(top: int, name: str, prefix: str, count: int) -> int:
    """Empty the folder `name`: files go, folders move up to `top` under new names."""
    _open_up(top, name)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        for child in _remove_files(folder):
            count += 1
            _open_up(folder, child)
            os.rename(child, f"{prefix}-{count}", src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    return count


def _open_up(folder: int, name: str) -> None:
    """Give the owner back a folder the box had closed (to read it, and to move it: its `..` is rewritten)."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)
