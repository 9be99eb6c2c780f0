"""Completion of commands, options, ids and names in bash, zsh and fish, for `ncl` and `nanoclaw`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import click
from click.shell_completion import CompletionItem, get_completion_class

from nanoclaw.admin.ask import ask
from nanoclaw.admin.request import Request
from nanoclaw.admin.verb import Value
from nanoclaw.config import load_config
from nanoclaw.errors import NanoClawError

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = {"ncl": "nanoclaw.admin.cli", "nanoclaw": "nanoclaw.cli.verbs"}
NAMED = ("folder", "code", "id")  # what a row is called on a command line, the first that it has

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def make_completion(program: str) -> click.Command:
    """Return the verb `completion` of a program."""

    @click.command(
        "completion",
        help=(
            "Print what makes SHELL complete commands, options and names.\n\n"
            f"bash: {program} completion bash > ~/.local/share/bash-completion/completions/{program}\n\n"
            f'zsh: eval "$({program} completion zsh)" in ~/.zshrc\n\n'
            f"fish: {program} completion fish > ~/.config/fish/completions/{program}.fish"
        ),
        short_help="Print what makes a shell complete commands, options and names.",
    )
    @click.argument("shell", type=click.Choice(SHELLS))
    def command(shell: str) -> int:
        group = getattr(import_module(PROGRAMS[program]), program)
        kind = get_completion_class(shell)
        if kind is not None:
            click.echo(kind(group, {}, program, f"_{program.upper()}_COMPLETE").source())
        return 0

    return command


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
