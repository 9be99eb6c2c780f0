"""What a probe is: a name, a sentence of what it tries, and what it says of the wall around it.

A probe runs in a process of its own inside the box and knows nothing of the runtime; `facts` is what was planted on
the host for it to find (tests/wall/plants.py). Standard library alone: the box's interpreter has nothing else.
`kernel`: it asks for something of the kernel it runs on; where that kernel is the box's own (gVisor), a success reaches
no further than the box, and the table says `contained`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Facts = dict[str, Any]
HELD, BROKEN, CONTAINED, ERROR = "held", "broken", "contained", "error"


@dataclass(frozen=True)
class Seen:
    """What a probe says: the verdict, and what it saw."""

    verdict: str
    what: str


@dataclass(frozen=True)
class Probe:
    """One attempt."""

    name: str
    tries: str
    run: Callable[[Facts], Seen]
    kernel: bool = False


def held(what: object = "") -> Seen:
    return Seen(HELD, str(what)[:200])


def broken(what: object) -> Seen:
    return Seen(BROKEN, str(what)[:200])


def contained(what: object) -> Seen:
    return Seen(CONTAINED, str(what)[:200])


def probe(tries: str, *, kernel: bool = False) -> Callable[[Callable[[Facts], Seen]], Probe]:
    """Make a probe of a function; its name is the function's, with blanks."""
    return lambda run: Probe(run.__name__.replace("_", " ").strip(), tries, run, kernel)


def probes_of(module: object) -> list[Probe]:
    """Return the probes of a module in their order, those of its tables too."""
    found: list[Probe] = []
    for value in vars(module).values():
        if isinstance(value, Probe):
            found.append(value)
        elif isinstance(value, tuple):
            found += [entry for entry in value if isinstance(entry, Probe)]
    return found


def all_of(findings: Iterable[object]) -> Seen:
    """Return broken with everything that was found, held when nothing was."""
    found = [str(finding) for finding in findings if finding]
    return broken("; ".join(found)) if found else held()


def read_some(path: str, size: int = 4096) -> bytes | None:
    """Return the first bytes of a file, or names of a folder; None when it cannot be read."""
    try:
        if os.path.isdir(path):
            return "\n".join(os.listdir(path)).encode()
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    content = b""
    try:
        while len(content) < size and (more := os.read(descriptor, size - len(content))):  # a page at a time from /proc
            content += more
    except OSError:
        return content or None
    finally:
        os.close(descriptor)
    return content


def opens(path: str, flags: int) -> bool:
    """Whether a path can be opened so; nothing is read or written."""
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def creates(folder: str) -> bool:
    """Whether a file can be made in a folder; it is removed again."""
    path = os.path.join(folder, "nanoclaw-wall-probe")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return False
    os.unlink(path)
    return True


def visible_processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(numbers: tuple[int, int], *arguments: object) -> tuple[int, int]:
    """Make a system call by its number (x86_64, aarch64); return its result and errno."""
    number = numbers[0] if platform.machine() == "x86_64" else numbers[1]
    if number < 0:
        return -1, errno.ENOSYS
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = library().syscall(ctypes.c_long(number), *words)
    return result, ctypes.get_errno() if result < 0 else 0


def gains_nothing() -> bool:
    """Whether no program it starts can have more rights than it (no_new_privs)."""
    return library().prctl(39, 0, 0, 0, 0) == 1


REFUSALS = (errno.EPERM, errno.ENOSYS)


def refused(numbers: tuple[int, int], *arguments: object) -> Seen:
    """Held when the call is not made at all; any other answer means that the kernel looked at its arguments."""
    result, error = call(numbers, *arguments)
    if result < 0 and error in REFUSALS:
        return held(errno.errorcode[error])
    return broken(f"the call was made: {result if result >= 0 else errno.errorcode.get(error, error)}")
