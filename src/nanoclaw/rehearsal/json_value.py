"""JSON values with their types, for requests that come from a program we do not control."""

from __future__ import annotations

import json
from typing import TypeAlias, cast

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]


def parse_json(data: bytes | str) -> Json:
    """Parse JSON text; raises ValueError when it is not JSON (RecursionError included)."""
    try:
        return cast("Json", json.loads(data))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def dump_json(value: Json) -> str:
    """Serialise compactly, in ASCII so that any byte split of it is safe."""
    return json.dumps(value, separators=(",", ":"))


def get_text(value: Json, name: str) -> str:
    """Return the text member `name` of an object, or an empty text when there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def get_list(value: Json, name: str) -> list[Json]:
    """Return the list member `name` of an object, or an empty list when there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def get_object(value: Json, name: str) -> JsonObject:
    """Return the object member `name` of an object, or an empty object when there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
