"""What one box may use: the limits every box has, what a group may have instead, and how people write sizes.

Pure. The ranges keep a slip (`--memory 4` for 4 GB, `--disk 5T` on a small machine) from becoming a limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nanoclaw.domain.group import BoxLimits

MIB = 1024 * 1024
GIB = 1024 * MIB
MB_IN = {"M": 1, "G": 1024, "T": 1024 * 1024}
SIZE = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,2}))?\s?([MGT])(?:i?B)?", re.IGNORECASE)
DECIMAL = re.compile(r"[0-9]{1,4}(\.[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one box may use. `disk_bytes` counts workspace, home and outbox together (sandbox/watchdog.py)."""

    memory_bytes: int = 2 * GIB
    processes: int = 512
    open_files: int = 4096
    file_bytes: int = 2 * GIB
    tmp_bytes: int = 256 * MIB
    cpu_cores: float = 2.0
    disk_bytes: int = 5 * GIB
    turn_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Range:
    """What one limit may be: from `least` to `most`, in the unit of its field of BoxLimits."""

    field: str
    least: float
    most: float
    is_size: bool = False
    is_whole: bool = True

    @property
    def words(self) -> str:
        """The range in words: `from 128 MB to 1 TB`."""
        return f"from {self._show(self.least)} to {self._show(self.most)}"

    def _show(self, value: float) -> str:
        return show_size(int(value) * MIB) if self.is_size else f"{value:.10g}"


RANGES = {
    "memory": Range("memory_mb", 256, 1024 * 1024, is_size=True),
    "pids": Range("processes", 32, 32_768),
    "cpus": Range("cpus", 0.1, 512, is_whole=False),
    "disk": Range("disk_mb", 64, 16 * 1024 * 1024, is_size=True),
    "open-files": Range("open_files", 256, 1_048_576),
    "tmp": Range("tmp_mb", 16, 1024 * 1024, is_size=True),
    "turn-minutes": Range("turn_minutes", 1, 1440),
}  # by the name of the option


def decide_limits(defaults: Limits, own: BoxLimits) -> Limits:
    """Return a group's limits: what it has of its own, else the default.

    One file may be as large as it is by default, and in a larger workspace two fifths of that.
    """
    disk = _mb(own.disk_mb, defaults.disk_bytes)
    return Limits(
        memory_bytes=_mb(own.memory_mb, defaults.memory_bytes),
        processes=own.processes or defaults.processes,
        open_files=own.open_files or defaults.open_files,
        file_bytes=max(min(defaults.file_bytes, disk), disk * 2 // 5),
        tmp_bytes=_mb(own.tmp_mb, defaults.tmp_bytes),
        cpu_cores=own.cpus or defaults.cpu_cores,
        disk_bytes=disk,
        turn_seconds=own.turn_minutes * 60.0 if own.turn_minutes else defaults.turn_seconds,
    )


def parse_limit(name: str, text: str) -> int | float:
    """Read what a person writes for a limit, in the unit of its field. Raises ValueError with what is wrong."""
    allowed = RANGES[name]
    value = _parse_size(text) if allowed.is_size else _parse_number(text, is_whole=allowed.is_whole)
    if value is None:
        kind = "a size, e.g. 512M, 4G or 1.5G" if allowed.is_size else _kind(is_whole=allowed.is_whole)
        raise ValueError(f"{text!r} is not {kind}; it may be {allowed.words}")
    if not allowed.least <= value <= allowed.most:
        raise ValueError(f"{text} is out of range; it may be {allowed.words}")
    return value


def _kind(*, is_whole: bool) -> str:
    return "a whole number" if is_whole else "a number, e.g. 2 or 1.5"


def _parse_size(text: str) -> int | None:
    """Return whole MB; None for what is no size, or not a whole number of them."""
    found = SIZE.fullmatch(text)
    if found is None:
        return None
    hundredths = (int(found[1]) * 100 + int((found[2] or "0").ljust(2, "0"))) * MB_IN[found[3].upper()]
    return hundredths // 100 if hundredths % 100 == 0 else None


def _parse_number(text: str, *, is_whole: bool) -> int | float | None:
    if is_whole:
        return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
    return float(text) if DECIMAL.fullmatch(text) else None


def show_size(count: int) -> str:
    """Return a size for people: `2 GB`, `1.5 GB`, `256 MB`; rounded to a tenth."""
    for name, unit in (("TB", 1024 * GIB), ("GB", GIB)):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{-(-count // MIB)} MB"


def show_used(used: int, limit: int) -> str:
    """Return `5.2 of 5.0 GB`: both in the unit of the limit, so that they can be compared."""
    unit, name = (GIB, "GB") if limit >= GIB else (MIB, "MB")
    return f"{used / unit:.1f} of {limit / unit:.1f} {name}"


def describe_memory(limits: Limits, folder: str, who: str = "the agent") -> str:
    """Say that who ran in a box ran out of its memory, and what mends it."""
    more = _as_option(2 * limits.memory_bytes)
    mend = f"Ask for less at once, or give it more: `ncl groups config update {folder} --memory {more}`."
    whose = "its" if who == "the agent" else "the sandbox's"
    return f"{who} ran out of {whose} memory of {show_size(limits.memory_bytes)}. {mend}"


def describe_disk(used: int, limits: Limits, folder: str) -> str:
    """Say how full the disk of a box is, and what mends it."""
    more = _as_option(2 * limits.disk_bytes)
    mend = f"Delete some, or give it more: `ncl groups config update {folder} --disk {more}`."
    return f"the agent's files take {show_used(used, limits.disk_bytes)}. {mend}"


def _as_option(size: int) -> str:
    return f"{size // GIB}G" if size % GIB == 0 else f"{size // MIB}M"


def _mb(own: int | None, default: int) -> int:
    return own * MIB if own else default
