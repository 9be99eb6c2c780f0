"""Completion of commands, options, ids and names in bash, zsh and fish, for `ncl` and `nanoclaw`."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem, get_completion_class

from nanoclaw.admin.ask import ask
from nanoclaw.admin.request import Request
from nanoclaw.admin.verb import Value
from nanoclaw.config import load_config
from nanoclaw.errors import NanoClawError

SHELLS = ("bash", "zsh", "fish")
SHORT = "Print what makes a shell complete commands, options and names."
NAMED = ("folder", "code", "id")  # what a row is called on a command line, the first that it has

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def print_script(group: click.Group, program: str, shell: str) -> int:
    """Print what a shell is to read, once or at each start, to complete a program's words."""
    kind = get_completion_class(shell)
    if kind is not None:
        print(kind(group, {}, program, f"_{program.upper()}_COMPLETE").source())
    return 0


def completion_of(value: Value) -> Complete | None:
    """Return what completes a value that names one of a noun."""
    if not value.refers:
        return None

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        try:
            table, _ = ask(load_config().paths, Request(value.refers, "list"))
        except NanoClawError:  # nothing to offer; the command itself will say why
            return []
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        named = [(next(str(row[name]) for name in NAMED if row.get(name)), row) for row in rows]
        return [
            CompletionItem(name, help=str(row.get("name") or row.get("agent") or row.get("title") or ""))
            for name, row in named
            if name.casefold().startswith(begun.casefold())
        ]

    return complete
