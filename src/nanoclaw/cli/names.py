"""The names of agents, people and tasks by id, for what the gateway keeps by id alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nanoclaw.admin.ask import ask
from nanoclaw.admin.request import Request
from nanoclaw.config import Config

NAMED = MappingProxyType({"group": ("groups", "name"), "person": ("users", "name"), "task": ("tasks", "prompt")})
MOST_NAMES = 10_000
TASK = "task:"


@dataclass(frozen=True, slots=True)
class Names:
    """What people call what the gateway keeps by id: who a call is charged to, and agents."""

    payers: Mapping[str, str] = field(default_factory=dict[str, str])
    agents: Mapping[str, str] = field(default_factory=dict[str, str])


def find_names(config: Config, by: str) -> dict[str, str]:
    """Return the names of agents, people or tasks by id; none while there is no store to ask."""
    if by not in NAMED or not config.paths.database.exists():
        return {}
    noun, column = NAMED[by]
    archived = {"archived": "true"} if by == "group" else {}
    table, _ = ask(config.paths, Request(noun, "list", flags={"limit": str(MOST_NAMES), **archived}))
    if column not in table.columns:
        return {}
    prefix = TASK if by == "task" else ""
    at = table.columns.index(column)
    return {f"{prefix}{row[table.columns.index('id')]}": str(row[at]) for row in table.rows}


def load_names(config: Config) -> Names:
    """Return all of them; none while there is no store to ask."""
    return Names({**find_names(config, "task"), **find_names(config, "person")}, find_names(config, "group"))
