"""`nanoclaw audit`: what the host decided and what the gateway let through, in one list by time."""

from __future__ import annotations

import sys

import click

from nanoclaw.admin.ask import ask, json_option, say_down, show_table
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Cell, Table
from nanoclaw.cli.gateway_link import open_gateway
from nanoclaw.cli.host_process import host_runs
from nanoclaw.config import Config, load_config
from nanoclaw.gateway import admin_words

COLUMNS = ("at", "by", "event", "who", "what", "verdict", "reason")
MOST = 10_000
VERDICTS = {"refused": "deny", "allowed": "allow"}


@click.command("audit")
@click.option("--limit", "-n", type=click.IntRange(1, MOST), default=50, show_default=True, help="The newest N.")
@click.option("--verify", is_flag=True, help="Check the hash chains; exit 1 when one is broken.")
@json_option
def command(limit: int, verify: bool, as_json: bool) -> int:
    """Show what was decided: messages that the host refused, calls that the gateway let out or refused."""
    config = load_config()
    if verify:
        return _verify(config, as_json=as_json)
    if not host_runs(config.paths):
        say_down()
    rows = sorted([*_host_rows(config, limit), *_gateway_rows(config, limit)], key=lambda row: int(row[0] or 0))
    show_table(Table(COLUMNS, tuple(rows[-limit:])), config.timezone, as_json=as_json)
    return 0


def _host_rows(config: Config, limit: int) -> list[tuple[Cell, ...]]:
    if not config.paths.database.exists():
        return []
    table, _ = ask(config.paths, Request("audit", "list", flags={"limit": str(limit)}))
    return [(at, "host", event, who, what, verdict, reason) for at, event, who, what, verdict, reason in table.rows]


def _gateway_rows(config: Config, limit: int) -> list[tuple[Cell, ...]]:
    with open_gateway(config) as gateway:
        lines = gateway.ask(admin_words.AuditList(limit), list[admin_words.AuditLine])
    return [_gateway_row(line) for line in lines]


def _gateway_row(line: admin_words.AuditLine) -> tuple[Cell, ...]:
    who = line.charge or line.session or line.agent_group
    call = f"{line.method} {line.host}{line.path}".strip()
    status = f"{line.status} in {line.took_ms} ms, " if line.event == "finished" else ""
    return (
        line.at,
        "gateway",
        line.event,
        who,
        call,
        VERDICTS.get(line.event, ""),
        f"{status}{line.reason or line.rule}",
    )


def _verify(config: Config, *, as_json: bool) -> int:
    rows: list[tuple[Cell, ...]] = []
    if config.paths.database.exists():
        table, _ = ask(config.paths, Request("audit", "verify"))
        rows.append(("host", *table.rows[0]))
    with open_gateway(config) as gateway:
        chain = gateway.ask(admin_words.AuditVerify(), admin_words.Verification)
    rows.append(("gateway", chain.rows, chain.broken_at))
    show_table(Table(("chain", "rows", "broken_at_row"), tuple(rows)), config.timezone, as_json=as_json)
    broken = [str(row[0]) for row in rows if row[2] is not None]
    if broken:
        print(f"nanoclaw: the audit of {' and '.join(broken)} was changed by somebody else's hand", file=sys.stderr)
    return 1 if broken else 0
