"""`nanoclaw egress watch`: what the gateway decides, as it decides it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import msgspec

from nanoclaw.admin.ask import ask
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import format_time
from nanoclaw.channels.plain_text import one_line
from nanoclaw.cli.gateway_link import open_gateway
from nanoclaw.cli.host_process import host_runs
from nanoclaw.cli.names import Names, load_names
from nanoclaw.config import Config
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words, egress_words

WAIT_SECONDS = 5.0
SHOWN = {"refused": "deny", "allowed": "allow", "changed": "changed"}
LINE_CHARACTERS = 400

Ask = Callable[[int], list[admin_words.AuditLine]]
Words = Callable[[admin_words.AuditLine], str]


def watch_gateway(config: Config, group: str | None, *, as_json: bool) -> int:
    """Print each decision as it is made, until Ctrl-C. Raises OperatorError."""
    if not host_runs(config.paths):
        raise OperatorError(
            "no host runs, so nothing is decided. Start it with `nanoclaw up`; `nanoclaw audit` looks back"
        )
    wanted = find_group(config, group)
    with open_gateway(config) as gateway:
        last = gateway.ask(admin_words.AuditList(1), list[admin_words.AuditLine])

        def rows(after: int) -> list[admin_words.AuditLine]:
            return gateway.ask(egress_words.AuditFollow(after, WAIT_SECONDS), list[admin_words.AuditLine])

        names = load_names(config)
        if not as_json:
            print("watching; Ctrl-C ends it", file=sys.stderr, flush=True)
        after = last[0].seq if last else 0
        return follow(rows, after, wanted, None if as_json else lambda line: describe(line, config.timezone, names))


def follow(rows: Ask, after: int, group: str | None, words: Words | None) -> int:
    """Print rows as they come, from the one behind `after`; without end, but for Ctrl-C and the end of the gateway."""
    while True:
        for line in rows(after):
            after = line.seq
            if line.event in SHOWN and (group is None or line.agent_group == group or line.event == "changed"):
                print(json.dumps(msgspec.to_builtins(line)) if words is None else words(line), flush=True)


def describe(line: admin_words.AuditLine, timezone: str, names: Names) -> str:
    """Return a decision in one line that a terminal shows as it is: verdict, agent, call (who asked), [rule], why."""
    call = f"{line.method} {line.host}{line.path}".strip()
    who = f" ({names.payers.get(line.charge, line.charge)})" if line.charge else ""
    agent = names.agents.get(line.agent_group, line.agent_group)
    time = format_time(line.at, timezone)[11:19]  # the day goes without saying
    parts = (time, SHOWN[line.event].ljust(7), agent, f"{call}{who}", f"[{line.rule}]", line.reason)
    return one_line("  ".join(part for part in parts if part), LINE_CHARACTERS)


def find_group(config: Config, group: str | None) -> str | None:
    """Return the id of the agent that somebody calls `group`, None for none said."""
    if group is None:
        return None
    table, _ = ask(config.paths, Request("groups", "get", group))
    if not table.rows:
        raise OperatorError(f"There is no agent {group!r}. `ncl groups list` shows them.")
    return str(dict(zip(table.columns, table.rows[0], strict=True))["id"])
