"""`nanoclaw status`: what runs, and what waits."""

from __future__ import annotations

import click

from nanoclaw.admin.ask import json_option, show_answer, show_table
from nanoclaw.admin.request import Request
from nanoclaw.admin.resources.host import COLUMNS
from nanoclaw.admin.table import Table
from nanoclaw.cli.host_process import host_runs
from nanoclaw.config import load_config


@click.command("status")
@json_option
def command(as_json: bool) -> int:
    """Show whether the host runs, which model answers and what waits. Exit 1 when no host runs."""
    config = load_config()
    if not config.paths.database.exists():
        row = ("down", None, None, str(config.paths.home), None, None, None, 0, 0, 0)
        show_table(Table(COLUMNS, (row,)), config.timezone, as_json=as_json, facts=True)
        return 1
    show_answer(config, Request("host", "status"), as_json=as_json, facts=True)
    return 0 if host_runs(config.paths) else 1
