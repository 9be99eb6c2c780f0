"""Asks the host, or the store's file when no host runs; prints what comes back."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

import click

from nanoclaw.admin.client import ask_host
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Table, format_facts, format_table, to_json
from nanoclaw.config import Config, Paths

Body = TypeVar("Body", bound=Callable[..., int])


def json_option(body: Body) -> Body:
    """Give a command `--json`, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(body)


def ask(paths: Paths, request: Request) -> tuple[Table, bool]:
    """Return an answer and whether a running host gave it; without one the store's file is read."""
    table = ask_host(paths.admin_socket, request)
    if table is not None:
        return table, True
    return import_module("nanoclaw.admin.offline").ask_file(paths, request), False  # the store is slow to import


def show_answer(config: Config, request: Request, *, as_json: bool, facts: bool = False) -> Table:
    """Ask, print and return the answer; `facts`: its one row as a line each. Raises NanoClawError."""
    table, live = ask(config.paths, request)
    if not live:
        say_down()
    show_table(table, config.timezone, as_json=as_json, facts=facts)
    return table


def show_table(table: Table, timezone: str, *, as_json: bool, facts: bool = False) -> None:
    """Print a table for people, or as JSON."""
    if as_json:
        print(to_json(table))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(format_facts(table, timezone) if facts else format_table(table, timezone, width))
    if table.note:
        print(table.note, file=sys.stderr)


def say_down() -> None:
    """Say that the answer comes from the files alone."""
    print("no host runs; this is what the store says", file=sys.stderr)
