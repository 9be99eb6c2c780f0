"""What every canary is made of: the question it is asked, how it says that it got through, how it calls the kernel.

The standard library alone: it runs inside a box.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import TypedDict

MOST_BYTES = 1 << 20
REFUSED = "refused"
REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)
# name: (x86_64, aarch64)
CALLS = {
    "unshare": (272, 97), "setns": (308, 268), "clone": (56, 220), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "fsopen": (430, 430), "open_tree": (428, 428), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "io_uring_setup": (425, 425), "bpf": (321, 280), "keyctl": (250, 219),
    "add_key": (248, 217), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "kexec_load": (246, 104),
    "init_module": (175, 105), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "acct": (163, 89),
    "syslog": (103, 116), "swapon": (167, 224), "sethostname": (170, 161), "quotactl": (179, 60),
}  # fmt: skip


class Question(TypedDict):
    """What the host asks; paths are the host's own but for `targets` and `readonly`, which lie in the box."""

    planted: str  # the name of files that the host made for this proof, and their content
    planted_at: list[str]
    paths: list[str]
    groups: list[str]
    sockets: list[str]
    addresses: list[str]
    port: int  # a listener of the host on its loopback
    abstract: str  # a listener of the host without a file
    namespaces: dict[str, int]
    boot: str
    separate: bool  # the box is said to have a kernel of its own
    env: list[str]
    targets: list[str]
    readonly: list[str]


class Reached(Exception):
    """A canary got through; says to what."""


def call(name: str, *arguments: int | bytes | None) -> int:
    """Make a system call; return 0 or its errno."""
    number = CALLS[name][0 if os.uname().machine == "x86_64" else 1]
    libc = ctypes.CDLL(None, use_errno=True)
    wide = [ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value) for value in arguments]
    return 0 if libc.syscall(ctypes.c_long(number), *wide) >= 0 else ctypes.get_errno()


def refuse(*calls: tuple[str, *tuple[int | bytes | None, ...]]) -> None:
    """Make system calls that must be refused before the kernel looks at what it is given; in a process of their own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, _make_refused(calls).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(pid, 0)
    if said != REFUSED:
        raise Reached(said or "its process was lost")


def _make_refused(calls: tuple[tuple[str, *tuple[int | bytes | None, ...]], ...]) -> str:
    for name, *arguments in calls:
        if (code := call(name, *arguments)) not in REFUSALS:
            return f"{name} was " + ("allowed" if code == 0 else f"reached ({errno.errorcode.get(code, code)})")
    return REFUSED


def in_child(attempt: Callable[[], int]) -> int:
    """Return what an attempt answers in a process of its own, so that what it gains is gone with it."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            code = attempt()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def read(path: str) -> bytes:
    """Return a file, up to 1 MiB; files of /proc come in pieces."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = bytearray()
    try:
        while len(found) < MOST_BYTES and (piece := os.read(descriptor, 65536)):
            found += piece
    finally:
        os.close(descriptor)
    return bytes(found)


def processes() -> list[str]:
    """Return the folders of /proc that are processes."""
    return [name for name in os.listdir("/proc") if name.isdigit()]


def mount_points() -> list[str]:
    """Return where something is mounted."""
    lines = read("/proc/self/mountinfo").decode(errors="replace").splitlines()
    return [fields[4] for fields in map(str.split, lines) if len(fields) > 4]
