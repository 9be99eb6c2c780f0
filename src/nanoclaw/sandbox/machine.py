"""How much memory this machine has, all together and free."""

from __future__ import annotations

from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def read_free_memory_mb(meminfo: Path = MEMINFO) -> int | None:
    """Return MemAvailable in MiB; None where the kernel does not say."""
    return _read("MemAvailable:", meminfo)


def read_total_memory_mb(meminfo: Path = MEMINFO) -> int | None:
    """Return MemTotal in MiB; None where the kernel does not say."""
    return _read("MemTotal:", meminfo)


def _read(name: str, meminfo: Path) -> int | None:
    try:
        text = meminfo.read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) // 1024
    return None
