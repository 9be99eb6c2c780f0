"""`nanoclaw egress`: what agents may reach, who is asked, and which rule decides."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import click

from nanoclaw.admin.ask import ask, json_option, show_table
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Cell, Table
from nanoclaw.cli.egress_watch import watch_gateway
from nanoclaw.cli.gateway_link import open_gateway
from nanoclaw.config import Config, load_config
from nanoclaw.errors import NanoClawError, OperatorError
from nanoclaw.gateway import egress_words
from nanoclaw.gateway.egress_words import RulesChange, RuleWords

FILE_BYTES = 256 * 1024
EVERY = "every agent"
MAIN = "main"  # the first agent's folder
TELEMETRY = "telemetry"
WHOLE = ("rule", "agent", "verdict", "methods", "where", "secret", "terms", "from", "note")
SHORT = ("rule", "agent", "verdict", "calls", "terms", "from", "note")

Body = TypeVar("Body", bound=Callable[..., int])


@click.group("egress")
def command() -> None:
    """What agents may reach on the internet. What no rule allows is refused; the first rule that matches decides.

    Without --group a rule is for every agent; an agent's own rules come first.
    """


def group_option(body: Body) -> Body:
    """Give a command `--group`, as it was typed."""
    return click.option("--group", "-g", metavar="G", help="One agent: its folder, name or id.")(body)


@command.command("list")
@group_option
@json_option
def list_rules(group: str | None, as_json: bool) -> int:
    """List the rules in the order in which they are tried: all of them, or those that count for one agent."""
    config = load_config()
    folder = find_folder(config, group)
    with open_gateway(config) as gateway:
        found = gateway.ask(egress_words.EgressList(folder), egress_words.RuleList)
    show_table(list_table(found, whole=as_json), config.timezone, as_json=as_json)
    if found.fault:
        print(f"nanoclaw: {found.fault}", file=sys.stderr)
    return 1 if found.fault else 0


def list_table(found: egress_words.RuleList, *, whole: bool) -> Table:
    """Return the rules as a table: `whole` with a column for each thing, else as it fits a terminal.

    For people the many rules that refuse telemetry are one row.
    """
    if whole:
        return Table(WHOLE, tuple(whole_row(line) for line in found.rules))
    folded = [line for line in found.rules if line.rule.name == TELEMETRY][1:]
    rows = tuple(short_row(line) for line in found.rules if line not in folded)
    words = f"{len(folded)} more rules refuse the telemetry of the agent's own program; --json lists them."
    return Table(SHORT, rows, words if folded else "")


def whole_row(line: egress_words.RuleLine) -> tuple[Cell, ...]:
    """Return a rule with a cell for each thing it says."""
    rule = line.rule
    port = "" if rule.port is None else f":{rule.port}"
    place = f"{rule.scheme}://{rule.host}{port} {' '.join(rule.paths) if rule.paths else '/**'}"
    methods = ",".join(rule.methods) or "any"
    who = rule.group or EVERY
    return (rule.name, who, rule.action, methods, place, rule.inject, describe_terms(rule), line.source, line.note)


def short_row(line: egress_words.RuleLine) -> tuple[Cell, ...]:
    """Return a rule in few words; what is usual (https, every path) goes without saying."""
    rule = line.rule
    scheme = "" if rule.scheme == "https" else f"{rule.scheme}://"
    port = "" if rule.port is None or (rule.scheme, rule.port) == ("https", 443) else f":{rule.port}"
    calls = " ".join((",".join(rule.methods) or "any", f"{scheme}{rule.host}{port}", *rule.paths))
    terms = [f"puts on {rule.inject}" if rule.inject else "", describe_terms(rule)]
    who = rule.group or "all"
    return (rule.name, who, rule.action, calls, ", ".join(filter(None, terms)), line.source, line.note)


def describe_terms(rule: RuleWords) -> str:
    """Return what else a rule says."""
    flags = ("upgrade", "encoded_slash", "allow_private")
    terms = [rule.rate, rule.days, rule.hours, f"at most {rule.answer_limit}" if rule.answer_limit else ""]
    terms += [f"{rule.model} costs" if rule.model else "", *(flag for flag in flags if getattr(rule, flag))]
    return ", ".join(term for term in terms if term)


@command.command("allow")
@click.argument("host", required=False)
@group_option
@click.option("--methods", "-m", multiple=True, metavar="GET,POST", help="The methods; without, every one.")
@click.option(
    "--path", "-p", "paths", multiple=True, metavar="P", help="A path: * is one segment, a last ** any number."
)
@click.option("--port", type=int, help="Another port than the usual one.")
@click.option("--http", is_flag=True, help="Unencrypted, on port 80 unless --port says otherwise.")
@click.option("--inject", metavar="SECRET", default="", help="Put this secret of the vault on.")
@click.option("--ask", is_flag=True, help="A person is asked about each call.")
@click.option("--rate", default="", metavar="60/minute", help="How often (second, minute, hour, day).")
@click.option("--hours", default="", metavar="08:00-18:00", help="Only at these hours.")
@click.option("--days", default="", metavar="mon-fri", help="Only on these days.")
@click.option("--answer-limit", default="", metavar="10MB", help="How long an answer may be.")
@click.option("--websocket", is_flag=True, help="Let connections be upgraded.")
@click.option("--encoded-slash", is_flag=True, help="Let paths hold %2F, as GitLab and npm want.")
@click.option("--private", is_flag=True, help="Let it be an address of your own network.")
@click.option("--name", default="", metavar="RULE", help="What to call the rule. [default: the host]")
@click.option("--set", "ready_made", metavar="NAME", help="A ready-made set instead: web-read, packages or github.")
def allow(
    host: str | None,
    group: str | None,
    ready_made: str | None,
    methods: tuple[str, ...],
    paths: tuple[str, ...],
    **said: str | int | bool | None,
) -> int:
    """Allow calls to HOST: a name, `*.example.org` (one label), or `*` (every public name)."""
    config = load_config()
    folder = find_folder(config, group) or ""
    if ready_made is not None:
        if host is not None or methods or paths or any(said.values()):
            raise click.UsageError("a set is taken as it is: give --set and --group alone")
        return change(config, egress_words.EgressUse(ready_made, folder), f"The set {ready_made} is in force")
    if host is None:
        raise click.UsageError("say which HOST, or which --set")
    words = RuleWords(
        host=host,
        name=str(said["name"]),
        group=folder,
        action="ask" if said["ask"] else "allow",
        scheme="http" if said["http"] else "https",
        port=said["port"] if isinstance(said["port"], int) else None,
        methods=split_list(methods),
        paths=split_list(paths),
        inject=str(said["inject"]),
        rate=str(said["rate"]),
        hours=str(said["hours"]),
        days=str(said["days"]),
        answer_limit=str(said["answer_limit"]),
        upgrade=bool(said["websocket"]),
        encoded_slash=bool(said["encoded_slash"]),
        allow_private=bool(said["private"]),
    )
    done = f"A person is asked about calls to {host}" if said["ask"] else f"Allowed: {host}"
    return change(config, egress_words.EgressAdd(words), done)


def split_list(given: Sequence[str]) -> tuple[str, ...]:
    """Return what was given with commas or by several options."""
    parts = (part.strip() for text in given for part in text.split(","))
    return tuple(part for part in parts if part)


@command.command("deny")
@click.argument("what", metavar="HOST|RULE")
@group_option
def deny(what: str, group: str | None) -> int:
    """Deny a host wherever a rule would allow it, or what the rule of that name allowed."""
    config = load_config()
    return change(config, egress_words.EgressDeny(what, find_folder(config, group) or ""), f"Denied: {what}")


@command.command("rm")
@click.argument("rule")
@group_option
@click.option("--all", "everybody", is_flag=True, help="The one that is for every agent.")
def remove(rule: str, group: str | None, everybody: bool) -> int:
    """Take a rule or a used set back, by its name."""
    if everybody and group is not None:
        raise click.UsageError("--all and --group exclude each other")
    config = load_config()
    folder = "" if everybody else find_folder(config, group)
    return change(config, egress_words.EgressRemove(rule, folder), f"Removed: {rule}")


@command.command("test")
@click.argument("url")
@click.option("--group", "-g", metavar="G", default=MAIN, show_default=True, help="An agent: its folder, name or id.")
@click.option("--method", "-m", default="GET", show_default=True)
@json_option
def test(url: str, group: str, method: str, as_json: bool) -> int:
    """Say which rule would decide on a call, and why. Nothing is called. Exit 1 when it would be refused."""
    config = load_config()
    request = egress_words.EgressTest(url, find_folder(config, group) or "", method)
    with open_gateway(config) as gateway:
        judged = gateway.ask(request, egress_words.CallJudged)
    row = (judged.verdict, judged.rule, judged.source, judged.inject, judged.reason)
    table = Table(("verdict", "rule", "from", "secret_put_on", "reason"), (row,))
    show_table(table, config.timezone, as_json=as_json, facts=True)
    return 1 if judged.verdict == "deny" else 0


@command.command("watch")
@group_option
@json_option
def watch(group: str | None, as_json: bool) -> int:
    """Show each decision of the gateway as it is made, until Ctrl-C: verdict, call, rule and why."""
    return watch_gateway(load_config(), group, as_json=as_json)


@command.command("show")
def show() -> int:
    """Print the rule file in force, to edit it and give it to `apply`."""
    with open_gateway(load_config()) as gateway:
        text = gateway.ask(egress_words.EgressShow(), str)
    sys.stdout.write(text)
    if not text.strip():
        print("no rules of your own; the built-in ones are in `egress list`", file=sys.stderr)
    return 0


@command.command("apply")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
def apply(file: Path) -> int:
    """Put a whole rule file in force, from FILE or (-) stdin. A mistake in it changes nothing and names its line."""
    text, config = read_rules(file), load_config()
    changed = change(config, egress_words.EgressApply(text), "The rules are in force")
    for note in find_strangers(config, text):
        print(note)
    return changed


def find_strangers(config: Config, text: str) -> Iterator[str]:
    """Yield a sentence for each `group` of a rule file that is no agent's folder: what it says has no effect."""
    parsed = tomllib.loads(text)
    said = {str(entry.get("group", "")) for entry in (*parsed.get("rule", ()), *parsed.get("use", ()))} - {""}
    for group in sorted(said):
        try:
            folder = find_folder(config, group)
        except NanoClawError as error:
            yield f"group = {group!r} has no effect: {error}"
            continue
        if folder != group:
            yield f"group = {group!r} has no effect: write the folder of that agent, {folder!r}."


def read_rules(path: Path) -> str:
    """Return a rule file's text. Raises OperatorError."""
    try:
        raw = sys.stdin.buffer.read(FILE_BYTES + 1) if str(path) == "-" else path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path} is no text file") from error
    if len(raw) > FILE_BYTES:
        raise OperatorError(f"{path} is longer than a rule file may be ({FILE_BYTES // 1024} KiB)")
    return text


@command.command("revert")
@click.argument("generation", type=click.IntRange(0), required=False)
def revert(generation: int | None) -> int:
    """Go back to an earlier GENERATION (`egress log`), without one to that before this; 0 is the built-in rules."""
    return change(load_config(), egress_words.EgressRevert(generation), "Reverted")


@command.command("log")
@json_option
def log(as_json: bool) -> int:
    """List the generations of the rules: when, by whom, what."""
    config = load_config()
    with open_gateway(config) as gateway:
        lines = gateway.ask(egress_words.EgressLog(), list[egress_words.GenerationLine])
    rows = tuple((line.generation, line.at, line.by, line.what, line.in_force, line.fault or None) for line in lines)
    table = Table(("generation", "at", "by", "what", "in_force", "fault"), rows)
    show_table(table, config.timezone, as_json=as_json)
    return 0


def change(config: Config, request: egress_words.EgressRequest, done: str) -> int:
    """Ask for a change; say what is in force now, and what to know of it."""
    with open_gateway(config) as gateway:
        changed = gateway.ask(request, RulesChange)
    print(f"{done} (generation {changed.generation}).")
    for note in changed.notes:
        print(note)
    return 0


def find_folder(config: Config, group: str | None) -> str | None:
    """Return the folder of the agent that somebody calls `group`, None for none said. Raises what the store says."""
    if group is None:
        return None
    if not config.paths.database.exists():
        if group == MAIN:
            return MAIN
        raise OperatorError(f"There is no agent {group!r} yet: start the host once with `nanoclaw up`.")
    table, _ = ask(config.paths, Request("groups", "get", group))
    if not table.rows:
        raise OperatorError(f"There is no agent {group!r}. `ncl groups list` shows them.")
    return str(dict(zip(table.columns, table.rows[0], strict=True))["folder"])
