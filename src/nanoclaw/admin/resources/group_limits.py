"""The limits of an assistant's sandboxes: what `ncl groups config` reads and shows of them."""

from __future__ import annotations

import msgspec

from nanoclaw.admin.call import Call
from nanoclaw.domain.group import BoxLimits
from nanoclaw.domain.limits import RANGES, Limits, decide_limits, parse_limit, show_size
from nanoclaw.errors import Refused

DEFAULT = "default"


def names_limits(call: Call) -> bool:
    """Whether a call changes a limit."""
    return any(call.has(name) for name in RANGES)


def change_limits(call: Call, present: BoxLimits) -> BoxLimits:
    """Return the limits that a call asks for; those it does not name stay. Raises Refused with the range."""
    wanted: dict[str, int | float | None] = {}
    for name, allowed in RANGES.items():
        text = call.find(name)
        if text is None:
            continue
        try:
            wanted[allowed.field] = None if text == DEFAULT else parse_limit(name, text)
        except ValueError as error:
            raise Refused(f"--{name}: {error}, or `default`.") from None
    return msgspec.structs.replace(present, **wanted)


def show_limits(own: BoxLimits) -> dict[str, str]:
    """Return the limits as `ncl groups config get` shows them; what is every box's own says so."""
    limits = decide_limits(Limits(), own)
    shown = {
        "memory": show_size(limits.memory_bytes),
        "pids": str(limits.processes),
        "cpus": f"{limits.cpu_cores:g}",
        "disk": show_size(limits.disk_bytes),
        "open_files": str(limits.open_files),
        "tmp": show_size(limits.tmp_bytes),
        "turn_minutes": str(own.turn_minutes or "as `turn_seconds` in config.toml says, else 60"),
    }
    return {name: text + _mark(own, name) for name, text in shown.items()}


def _mark(own: BoxLimits, name: str) -> str:
    allowed = RANGES[name.replace("_", "-")]
    return " (default)" if getattr(own, allowed.field) is None else ""
