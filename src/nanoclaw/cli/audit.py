"""`nanoclaw audit`: what the host decided and the gateway let through; both chains shown, checked, exported."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import click

from nanoclaw.admin.ask import ask, json_option, say_down, show_table
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Cell, Table
from nanoclaw.cli.audit_chain import GATEWAY, HOST, Head, check_heads, find_heads, parse_head, write_chains
from nanoclaw.cli.gateway_link import open_gateway
from nanoclaw.cli.host_process import host_runs
from nanoclaw.cli.names import Names, load_names
from nanoclaw.cli.since import parse_since
from nanoclaw.clock import SystemClock
from nanoclaw.config import Config, load_config
from nanoclaw.gateway import admin_words

COLUMNS = ("at", "by", "agent", "event", "who", "what", "verdict", "reason")
VERIFIED = ("chain", "rows", "broken_at_row")
MOST = 10_000
VERDICTS = {"refused": "deny", "allowed": "allow"}
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Only:
    """What of the audit is asked for; `group` is an agent group's id. The host's part knows no sessions or groups."""

    limit: int
    group: str = ""
    session: str | None = None
    refused: bool = False


@click.group("audit", invoke_without_command=True)
@click.option("--limit", "-n", type=click.IntRange(1, MOST), default=50, show_default=True, help="The newest N.")
@click.option("--group", help="Only calls of this agent: its folder, name or id.")
@click.option("--session", help="Only calls of this session.")
@click.option("--refused", is_flag=True, help="Only what was refused.")
@click.option("--verify", is_flag=True, help="Check the hash chains; the same as `audit verify`.")
@json_option
@click.pass_context
def command(
    context: click.Context, limit: int, group: str | None, session: str | None, verify: bool, **flags: bool
) -> int:
    """Show what was decided: messages that the host refused, calls that the gateway let out or refused."""
    if context.invoked_subcommand is not None:
        return 0
    config = load_config()
    if verify:
        return _verify(config, (), as_json=flags["as_json"])
    if not host_runs(config.paths):
        say_down()
    only = Only(limit, _find_group(config, group) if group else "", session, flags["refused"])
    names = Names() if flags["as_json"] else load_names(config)
    found = [*_host_rows(config, only), *_gateway_rows(config, only, names)]
    rows = sorted(found, key=lambda row: int(row[0] or 0))
    show_table(Table(COLUMNS, tuple(rows[-limit:]), hidden=("by",)), config.timezone, as_json=flags["as_json"])
    return 0


@command.command("head")
@json_option
def head(as_json: bool) -> int:
    """Print the end of both hash chains. Keep it elsewhere: `audit verify --head` says later whether it still fits."""
    config = load_config()
    with open_gateway(config) as gateway:
        heads = find_heads(config.paths, gateway)
    rows = tuple((found.chain, found.row, found.hash, str(found)) for found in heads)
    show_table(Table(("chain", "rows", "hash", "head"), rows, hidden=("hash",)), config.timezone, as_json=as_json)
    return 0


@command.command("verify")
@click.option("--head", "heads", multiple=True, metavar="CHAIN:HASH@ROW", help="What `audit head` printed before.")
@json_option
def verify(heads: tuple[str, ...], as_json: bool) -> int:
    """Check both hash chains: an entry that was changed, added, moved or removed shows; exit 1 then.

    Entries cut off at the end show only against an earlier head.
    """
    return _verify(load_config(), tuple(parse_head(text) for text in heads), as_json=as_json)


@command.command("export")
@click.option("--jsonl", is_flag=True, help="One JSON object a line; the only format, so far.")
@click.option("--since", default="all", show_default=True, help="12h, 7d, 4w, today, month, 2026-01-31 or all.")
def export(jsonl: bool, since: str) -> int:
    """Write both chains to stdout, every entry with its hash; docs/guides/audit.md says how to check them."""
    del jsonl
    config = load_config()
    since_at = parse_since(since, SystemClock().now_ms(), config.timezone)
    with open_gateway(config) as gateway:
        write_chains(config.paths, gateway, since_at, sys.stdout)
    return 0


def _find_group(config: Config, text: str) -> str:
    table, _ = ask(config.paths, Request("groups", "get", text))
    return str(table.rows[0][table.columns.index("id")])


def _host_rows(config: Config, only: Only) -> list[tuple[Cell, ...]]:
    if only.group or only.session or not config.paths.database.exists():
        return []
    table, _ = ask(config.paths, Request("audit", "list", flags={"limit": str(MOST if only.refused else only.limit)}))
    rows = ((at, HOST, None, event, who, what, verdict, reason) for at, event, who, what, verdict, reason in table.rows)
    return [row for row in rows if not only.refused or row[6] == "deny"]


def _gateway_rows(config: Config, only: Only, names: Names) -> list[tuple[Cell, ...]]:
    wanted = admin_words.AuditList(only.limit, only.session, only.group, REFUSED if only.refused else "")
    with open_gateway(config) as gateway:
        lines = gateway.ask(wanted, list[admin_words.AuditLine])
    return [gateway_row(line, names) for line in lines]


def gateway_row(line: admin_words.AuditLine, names: Names) -> tuple[Cell, ...]:
    """Return what the gateway wrote down as a row; who and which agent by name, where it is known."""
    who = names.payers.get(line.charge, line.charge) or line.session or line.agent_group
    call = f"{line.method} {line.host}{line.path}".strip()
    status = f"{line.status} in {line.took_ms} ms, " if line.event == "finished" else ""
    return (
        line.at,
        GATEWAY,
        names.agents.get(line.agent_group, line.agent_group) or None,
        line.event,
        who,
        call,
        VERDICTS.get(line.event, ""),
        f"{status}{line.reason or line.rule}",
    )


def _verify(config: Config, heads: tuple[Head, ...], *, as_json: bool) -> int:
    """Check the chains, and earlier heads against them; say what is wrong on stderr."""
    rows: list[tuple[Cell, ...]] = []
    if config.paths.database.exists():
        table, _ = ask(config.paths, Request("audit", "verify"))
        rows.append((HOST, *table.rows[0]))
    with open_gateway(config) as gateway:
        chain = gateway.ask_long(admin_words.AuditVerify(), admin_words.Verification)
        lost = check_heads(config.paths, gateway, heads)
    rows.append((GATEWAY, chain.rows, chain.broken_at))
    table = Table(VERIFIED, tuple(rows))
    show_table(table if as_json else told(table), config.timezone, as_json=as_json)
    broken = [str(row[0]) for row in rows if row[2] is not None]
    if broken:
        print(f"nanoclaw: the audit of {' and '.join(broken)} was changed by somebody else's hand", file=sys.stderr)
    for head_ in lost:
        words = f"row {head_.row} of the {head_.chain}'s audit is not what it was: entries were cut off or changed"
        print(f"nanoclaw: {words}", file=sys.stderr)
    return 1 if broken or lost else 0


def told(verified: Table) -> Table:
    """Return the same for people: a chain that fits says so."""
    rows = tuple(
        (chain, rows, "whole" if bad is None else f"broken at row {bad}") for chain, rows, bad in verified.rows
    )
    return Table(("chain", "rows", "state"), rows)
