"""`nanoclaw trace MESSAGE`: the whole way of a message, the model calls of the gateway's ledger among it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from nanoclaw.admin.ask import ask, json_option, say_down, show_table
from nanoclaw.admin.request import Request
from nanoclaw.admin.resources.messages import CLAIMED, ENDED, TRIED
from nanoclaw.admin.table import Cell, Table
from nanoclaw.cli.gateway_link import open_gateway
from nanoclaw.config import Config, load_config
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words

MOST_CALLS = 10_000  # of a session that are looked through, the newest
COLUMNS = ("at", "what", "detail")
FOR_EVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Work:
    """From when until when a session worked on the message; epoch milliseconds."""

    session: str
    begun_at: int
    ended_at: int


@click.command("trace")
@click.argument("message")
@json_option
def command(message: str, as_json: bool) -> int:
    """Show every step of MESSAGE (its id, the beginning of it, or the platform's id), from received to delivered.

    The id of an approval, or of a message that was refused, shows what was decided about it.
    """
    config = load_config()
    table, live = ask(config.paths, Request("messages", "trace", message))
    if not live:
        say_down()
    calls = _model_calls(config, decide_work(table.rows))
    rows = sorted([*calls, *table.rows], key=lambda row: int(row[0] or 0))
    if as_json:
        show_table(Table(table.columns, tuple(rows)), config.timezone, as_json=True)
    else:
        show_table(Table(COLUMNS, tuple(row[:3] for row in rows)), config.timezone, as_json=False)
    return 0


def decide_work(rows: Sequence[Sequence[Cell]]) -> list[Work]:
    """Decide from a trace's rows (at, what, detail, session, run) when each session worked on the message."""
    begun: dict[str, int] = {}
    ended: dict[str, int] = {}
    for at, what, _, session, _ in rows:
        if not isinstance(session, str) or not isinstance(at, int):
            continue
        if what in (CLAIMED, TRIED):
            begun[session] = min(at, begun.get(session, at))
        elif what in ENDED:
            ended[session] = max(at, ended.get(session, at))
        elif isinstance(what, str) and what.startswith("still "):
            ended[session] = FOR_EVER
    return [Work(session, at, ended.get(session, FOR_EVER)) for session, at in begun.items()]


def _model_calls(config: Config, works: Sequence[Work]) -> list[tuple[Cell, ...]]:
    """Return what the gateway let out or refused meanwhile; a call of a turn is of every message of that turn."""
    if not works:
        return []
    try:
        with open_gateway(config) as gateway:
            found = [(work, gateway.ask(admin_words.AuditList(MOST_CALLS, work.session), list[admin_words.AuditLine]))
                     for work in works]  # fmt: skip
    except OperatorError as error:
        print(f"nanoclaw: the gateway's part is missing: {error}", file=sys.stderr)
        return []
    return [_call(line) for work, lines in found for line in lines if work.begun_at <= line.at <= work.ended_at]


def _call(line: admin_words.AuditLine) -> tuple[Cell, ...]:
    what = f"{line.method} {line.host}{line.path}".strip()
    if line.event == "finished":
        what = f"call {line.call}, status {line.status} in {line.took_ms} ms, {line.received_bytes} bytes back"
    else:
        what = f"call {line.seq}, {what}, {line.reason or line.rule}"
    return line.at, f"call {line.event}", what, line.session, line.fence
