"""Looks for a secret wherever a box could have it: in its processes' memory, and from inside in all it can read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
PIECE_PAGES = 128 * 1024  # looked up at once in a pagemap

# Runs in the box: every file it can read, /proc of every process it sees included; prints the names of those that hold
# the needle, which comes in two halves so that the script itself does not.
INSIDE = r"""
import os, stat, sys, time
needle = (sys.argv[1] + sys.argv[2]).encode()
files = found = 0
def look(path):
    global files, found
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        files += 1
        tail, left = b"", 64 * 1024 * 1024
        while left > 0 and (data := os.read(descriptor, 1 << 20)):
            left -= len(data)
            if needle in tail + data:
                found += 1
                print("FOUND", path)
                return
            tail = data[-len(needle):]
    except OSError:
        pass
    finally:
        os.close(descriptor)
NEVER_END = ("kmsg", "trace_pipe", "kpagecount", "kpageflags", "kpagecgroup", "mem", "pagemap", "kcore")
for root in ("/proc", "/session", "/workspace", "/home", "/etc", "/opt/nanoclaw", "/tmp", "/run", "/dev/shm", "/var"):
    for folder, folders, names in os.walk(root):
        if folder.count("/") > 1 and folder.startswith("/proc/") and "/task/" in folder:
            folders.clear()
        for name in names:
            if not (folder.startswith("/proc") and name in NEVER_END):
                look(os.path.join(folder, name))
if any(needle in (name + value).encode() for name, value in os.environ.items()):
    found += 1
    print("FOUND environment")
print("searched", "enough" if files > 300 else files, "found", found)
"""


def list_family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def holds(pid: int, needle: bytes) -> bool:
    """Whether a process's memory holds the needle: every present page of every mapping, as a core would."""
    return any(needle in piece for piece in read_memory(pid))


def read_memory(pid: int) -> Iterator[bytes]:
    """Yield what lies in the present pages of a process, neighbours together. As root; what is gone is left out."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory, open(f"/proc/{pid}/pagemap", "rb", 0) as pages:
        for first, last in list(list_mappings(pid)):
            for start, end in list_present(pages.fileno(), first // PAGE, last // PAGE):
                try:
                    yield os.pread(memory.fileno(), (end - start) * PAGE, start * PAGE)
                except OSError:
                    continue  # a device's pages, or a mapping that went meanwhile


def list_mappings(pid: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each readable mapping that has something in memory."""
    bounds = (0, 0)
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if words and "-" in words[0] and not words[0].endswith(":"):
            first, _, last = words[0].partition("-")
            bounds = (int(first, 16), int(last, 16)) if words[1].startswith("r") else (0, 0)
        elif line.startswith("Rss:") and int(words[1]) and bounds[1]:
            yield bounds


def list_present(pages: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield runs of pages in memory or swap (bits 63, 62 of an entry: pagemap.rst), at most 16 MiB each."""
    for begin in range(first, last, PIECE_PAGES):
        entries = os.pread(pages, 8 * min(PIECE_PAGES, last - begin), 8 * begin)
        if not entries.strip(b"\0"):
            continue
        start: int | None = None
        for number in range(len(entries) // 8):
            present = entries[8 * number + 7] & 0xC0
            if start is not None and (not present or begin + number - start >= 4096):
                yield start, begin + number
                start = None
            if present and start is None:
                start = begin + number
        if start is not None:
            yield start, begin + len(entries) // 8
