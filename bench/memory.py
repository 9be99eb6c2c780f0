"""How much memory each part of a running NanoClaw takes, from /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Size:
    """Kilobytes. PSS shares pages among those that map them; RSS counts them for each."""

    pss_kb: int = 0
    rss_kb: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.pss_kb + other.pss_kb, self.rss_kb + other.rss_kb)


def size_of(pid: int) -> Size:
    """Return a process's size now; PSS is 0 where only root may know it (a process that is not dumpable)."""
    folder = PROC / str(pid)
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
    except PermissionError:
        lines = ["Pss: 0 kB", *(folder / "status").read_text().splitlines()]
    fields = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    return Size(int(fields["Pss"]), int(fields.get("Rss") or fields["VmRSS"]))


def descendants_of(pid: int) -> list[int]:
    """Return the process and everything it started, parents first."""
    found = [pid]
    for task in (PROC / str(pid) / "task").iterdir():
        for child in (task / "children").read_text().split():
            found += descendants_of(int(child))
    return found


def part_of(pid: int, host_pid: int) -> str:
    """Name the part of NanoClaw a process is: host, gateway, helper, bubblewrap, runner, agent or other."""
    if pid == host_pid:
        return "host"
    words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    name = (PROC / str(pid) / "comm").read_text().strip()
    first = words.split("\0", 1)[0]
    if name == "bwrap":
        return "bubblewrap"
    if first.endswith("/claude"):
        return "agent"
    if "/opt/nanoclaw" in words:
        return "runner"
    return "gateway" if "gateway" in words else "rehearsal" if "rehearsal" in words else "helper"


def measure_parts(host_pid: int) -> dict[str, Size]:
    """Return the size of each part of a host and its boxes."""
    parts: dict[str, Size] = {}
    for pid in descendants_of(host_pid):
        part = part_of(pid, host_pid)
        parts[part] = parts.get(part, Size()) + size_of(pid)
    return parts
