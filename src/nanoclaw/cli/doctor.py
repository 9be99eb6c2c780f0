"""`nanoclaw doctor`: every thing this needs, one line each, and what mends what is wrong."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from nanoclaw.admin.ask import json_option
from nanoclaw.boxes import find_agent_binary, make_folders
from nanoclaw.cli.finding import Finding, State
from nanoclaw.cli.gateway_link import open_gateway
from nanoclaw.cli.host_process import find_host_pid, host_runs
from nanoclaw.cli.prove import examine_wall
from nanoclaw.cli.runtimes import check_runtimes
from nanoclaw.cli.vault_lock import LOCKS
from nanoclaw.config import Config, load_config
from nanoclaw.errors import NanoClawError, OperatorError, SandboxError
from nanoclaw.gateway import admin_words
from nanoclaw.sandbox.allowlist import AllowlistFile
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.store.db import open_connection
from nanoclaw.store.migrate import explain_damage, load_migrations, read_version

OLDEST_PYTHON = (3, 11)
TIGHT_BYTES = 1 << 30
FULL_BYTES = 64 << 20
USERNS_SWITCHES = (  # file, the value that forbids, the command that allows
    ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


@click.command("doctor")
@click.option("--prove", is_flag=True, help="Try to get out of a sandbox of this machine instead, in 40 ways.")
@click.option("--runtime", default="", metavar="NAME", help="With --prove: bubblewrap, docker, docker:runsc ...")
@json_option
def command(prove: bool, runtime: str, as_json: bool) -> int:
    """Check everything this needs, and say what mends it. Exit 1 when something is wrong."""
    if runtime and not prove:
        raise OperatorError("--runtime goes with --prove: nanoclaw doctor --prove --runtime docker")
    findings: list[Finding] = []
    for finding in examine_wall(load_config(), runtime) if prove else examine():
        findings.append(finding)
        if not as_json:
            print_finding(finding)
    if as_json:
        print(json.dumps([_as_object(finding) for finding in findings], indent=1))
    return 1 if any(finding.state is State.WRONG for finding in findings) else 0


def examine() -> Iterator[Finding]:
    """Check one thing after the other."""
    yield check_python(sys.version_info[:2])
    try:
        config = load_config()
    except OperatorError as error:
        yield Finding("home", State.WRONG, str(error))
        yield from check_namespaces(USERNS_SWITCHES)
        return
    yield Finding("home", State.GOOD, f"{config.paths.home} is writable")
    yield check_disk(shutil.disk_usage(config.paths.home).free, config.paths.home)
    yield check_timezone(config.timezone)
    yield from check_namespaces(USERNS_SWITCHES)
    yield check_sandbox(config)
    yield from check_runtimes(config)
    yield check_mounts(make_folders(config).file)
    yield check_wall(config)
    yield check_budgets(config)
    yield check_database(config.paths.database)
    yield check_agent(find_agent_binary(config))
    yield check_host(config)
    yield from check_model(config)
    yield check_rules(config)


def check_python(version: tuple[int, int]) -> Finding:
    """Python of the host."""
    words = f"Python {version[0]}.{version[1]}"
    if version >= OLDEST_PYTHON:
        return Finding("python", State.GOOD, words)
    return Finding("python", State.WRONG, f"{words} is too old", "install Python 3.11 or newer")


def check_disk(free_bytes: int, home: Path) -> Finding:
    """Space for the store and the workspaces."""
    words = f"{free_bytes / (1 << 30):.1f} GiB free at {home}"
    if free_bytes < FULL_BYTES:
        return Finding("disk", State.WRONG, f"the disk is full: {words}", "free some space")
    if free_bytes < TIGHT_BYTES:
        return Finding("disk", State.NOTE, f"space is tight: {words}", "free some space")
    return Finding("disk", State.GOOD, words)


def check_timezone(name: str) -> Finding:
    """The time zone of the assistants' clocks."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        mend = "install the package tzdata, or choose another: ./nanoclaw.sh setup --timezone Europe/Berlin"
        return Finding("time zone", State.NOTE, f"{name} is not known to this system; UTC is used", mend)
    return Finding("time zone", State.GOOD, name)


def check_namespaces(switches: tuple[tuple[str, str, str], ...]) -> Iterator[Finding]:
    """The kernel's switches that can forbid sandboxes. Whether they do here, `check_sandbox` finds out by trying."""
    forbidden = [(path, mend) for path, bad, mend in switches if _read_switch(path) == bad]
    for path, mend in forbidden:
        yield Finding("user namespaces", State.NOTE, f"{path} restricts them", mend)
    if not forbidden:
        yield Finding("user namespaces", State.GOOD, "allowed by the kernel's switches")


def check_sandbox(config: Config) -> Finding:
    """bubblewrap, by starting an empty box with it."""
    try:
        BubblewrapRuntime(config.paths.data / "boxes", find_interpreter()).check()
    except SandboxError as error:
        return Finding("sandbox", State.WRONG, str(error), error.mend)
    return Finding("sandbox", State.GOOD, "an empty box was started with bubblewrap")


def check_mounts(file: AllowlistFile) -> Finding:
    """The list of folders that sandboxes may be given: one mistake in it, and none is."""
    allowlist = file.read()
    if allowlist.fault:
        return Finding("mounts", State.WRONG, f"no folder is given to sandboxes: {allowlist.fault}", "mend that file")
    gone = [root.path for root in allowlist.roots if not root.place.is_dir()]
    if gone:
        return Finding("mounts", State.NOTE, f"allowed, but not there: {', '.join(gone)}", "./nanoclaw.sh mounts list")
    return Finding("mounts", State.GOOD, f"{len(allowlist.roots)} folders of this machine may be given to sandboxes")


def check_wall(config: Config) -> Finding:
    """What stands between a box and this machine."""
    if config.is_root:
        return Finding("wall", State.GOOD, "every assistant has a uid of its own, besides namespaces and mounts")
    words = "boxes run as your own user: namespaces and mounts are the only wall between a box and your files"
    return Finding("wall", State.NOTE, words, "start the host as root to give every assistant a uid of its own")


def check_budgets(config: Config) -> Finding:
    """Limits on what models may cost, and which are spent."""
    try:
        with open_gateway(config) as gateway:
            lines = gateway.ask(admin_words.BudgetList(), list[admin_words.BudgetLine])
    except NanoClawError as error:
        return Finding("budgets", State.WRONG, str(error))
    return describe_budgets(lines)


def describe_budgets(lines: Sequence[admin_words.BudgetLine]) -> Finding:
    """What is said of limits; calls wait until a spent one opens or is raised."""
    if not lines:
        return Finding("budgets", State.GOOD, "none is set; ./nanoclaw.sh cost limit --all --month 50 sets one")
    spent = [f"{line.name or 'all agents together'} for the {line.period}" for line in lines if is_spent(line)]
    if spent:
        return Finding("budgets", State.NOTE, f"spent: {', '.join(spent)}", "./nanoclaw.sh cost limits")
    return Finding("budgets", State.GOOD, f"{len(lines)}, none of them spent")


def is_spent(line: admin_words.BudgetLine) -> bool:
    """Whether nothing is left of a limit."""
    money = line.limit_micros is not None and line.spent_micros >= line.limit_micros
    return money or (line.limit_tokens is not None and line.spent_tokens >= line.limit_tokens)


def check_database(path: Path) -> Finding:
    """The central store: opens, is whole, has a schema this version knows."""
    if not path.exists():
        return Finding("database", State.NOTE, "there is none yet; the first start makes it")
    newest = len(load_migrations())
    try:
        connection = open_connection(path, read_only=True)
        try:
            version = read_version(connection)
            for _ in connection.iterdump():  # reads every row of every table: a damaged page shows
                pass
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        return Finding("database", State.WRONG, explain_damage(error, path))
    if version > newest:
        words = f"{path} was written by a newer NanoClaw (schema {version}, this one knows {newest})"
        return Finding("database", State.WRONG, words, "git pull")
    return Finding("database", State.GOOD, f"whole, schema {version}")


def check_agent(binary: Path | None) -> Finding:
    """The agent's command-line program."""
    if binary is None:
        return Finding("agent", State.WRONG, "the Claude CLI is missing", "./nanoclaw.sh installs it")
    return Finding("agent", State.GOOD, str(binary))


def check_host(config: Config) -> Finding:
    """Whether a host runs on this home."""
    if host_runs(config.paths):
        return Finding("host", State.GOOD, f"up (pid {find_host_pid(config.paths)})")
    return Finding("host", State.NOTE, "down; `./nanoclaw.sh` and `./nanoclaw.sh up` start it")


def check_model(config: Config) -> Iterator[Finding]:
    """Who answers, the model of the vault's key or the rehearsal model; and whether the vault serves what it holds."""
    try:
        with open_gateway(config) as gateway:
            status = gateway.ask(admin_words.Status(), admin_words.GatewayStatus)
    except NanoClawError as error:
        yield Finding("model", State.WRONG, str(error))
        return
    if status.model_key:
        yield Finding("model", State.GOOD, "a model key is in the vault")
    else:
        mend = "./nanoclaw.sh vault set anthropic"
        yield Finding("model", State.NOTE, "no model key: the rehearsal model answers", mend)
    if status.vault_locked and host_runs(config.paths):
        words = f"locked (it lies under {LOCKS[status.vault_by]}): calls that need a key are refused"
        yield Finding("vault", State.WRONG, words, "./nanoclaw.sh vault unlock")
    else:
        yield Finding("vault", State.GOOD, f"lies under {LOCKS[status.vault_by]}")
    for refusal in status.refused_access:
        yield Finding("access", State.WRONG, refusal)


def check_rules(config: Config) -> Finding:
    """The rules of the gateway: whether the newest are in force."""
    try:
        with open_gateway(config) as gateway:
            status = gateway.ask(admin_words.Status(), admin_words.GatewayStatus)
    except NanoClawError as error:
        return Finding("rules", State.WRONG, str(error))
    return judge_rules(status.rules_generation, status.rules_fault)


def judge_rules(generation: int, fault: str) -> Finding:
    """Return what the generation in force means; `fault` says why it is not the newest."""
    if fault:
        return Finding("rules", State.WRONG, fault, "./nanoclaw.sh egress log")
    if generation == 0:
        return Finding("rules", State.GOOD, "the built-in rules: agents reach the model alone")
    return Finding("rules", State.GOOD, f"generation {generation} of your rules is in force")


def print_finding(finding: Finding) -> None:
    """Print a line, with what mends it on the next; what is wrong goes to stderr."""
    stream = sys.stderr if finding.state is State.WRONG else sys.stdout
    sys.stdout.flush()
    print(f"{finding.state.value:5}  {finding.what}: {finding.words}", file=stream, flush=True)
    if finding.mend:
        print(f"       mend: {finding.mend}", file=stream, flush=True)


def _as_object(finding: Finding) -> dict[str, str]:
    return {"what": finding.what, "state": finding.state.value, "words": finding.words, "mend": finding.mend}


def _read_switch(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
