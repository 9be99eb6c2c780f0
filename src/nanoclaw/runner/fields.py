"""Typed access to parsed JSON whose shape is not ours: a missing or wrong-typed field reads as empty."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object."""

    values: dict[str, object]

    def text(self, key: str) -> str:
        """The string at `key`, else empty."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int | None:
        """The integer at `key`, else None."""
        value = self.values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def flag(self, key: str) -> bool:
        """Whether `key` is true."""
        return self.values.get(key) is True

    def child(self, key: str) -> Fields:
        """The object at `key`, else an empty one."""
        value = self.values.get(key)
        return Fields(cast("dict[str, object]", value)) if isinstance(value, dict) else Fields({})

    def children(self, key: str) -> list[Fields]:
        """The objects in the list at `key`."""
        value = self.values.get(key)
        items = cast("list[object]", value) if isinstance(value, list) else []
        return [Fields(cast("dict[str, object]", item)) for item in items if isinstance(item, dict)]

    def texts(self, key: str) -> tuple[str, ...]:
        """The strings in the list at `key`."""
        value = self.values.get(key)
        items = cast("list[object]", value) if isinstance(value, list) else []
        return tuple(item for item in items if isinstance(item, str))


def parse_object(data: bytes | str) -> Fields | None:
    """Parse one JSON object; None when it is anything else."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return Fields(cast("dict[str, object]", value)) if isinstance(value, dict) else None
