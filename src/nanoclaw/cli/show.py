"""Prints what commands answer: tables for people, JSON with --json; says on stderr when no host was there to ask."""

from __future__ import annotations

import sys

import click

from nanoclaw.admin.cli import ask
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Table, format_facts, format_table, to_json
from nanoclaw.config import Config

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show_answer(config: Config, request: Request, *, as_json: bool, facts: bool = False) -> Table:
    """Ask the host, or the store when no host runs; print and return the answer. Raises NanoClawError."""
    table, live = ask(config.paths, request)
    if not live:
        say_down()
    show_table(table, config.timezone, as_json=as_json, facts=facts)
    return table


def show_table(table: Table, timezone: str, *, as_json: bool, facts: bool = False) -> None:
    """Print a table; `facts`: its one row as a line each."""
    if as_json:
        print(to_json(table))
    else:
        print(format_facts(table, timezone) if facts else format_table(table, timezone))


def say_down() -> None:
    """Say that the answer comes from the files alone."""
    print("nanoclaw: no host runs; this is what the store says", file=sys.stderr)
