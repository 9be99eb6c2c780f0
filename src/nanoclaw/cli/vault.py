"""`nanoclaw vault`: secrets that only the gateway can read. A value never appears in an argument or an answer."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import click

from nanoclaw.admin.ask import json_option, show_table
from nanoclaw.admin.table import Table
from nanoclaw.cli.vault_import import command as import_command
from nanoclaw.cli.vault_lock import LOCKS, open_vault, protect, rotate_keys, unlock
from nanoclaw.config import Config, load_config, read_secret_file
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words

VALUE_BYTES = 32 * 1024
IN_ARGUMENTS = (
    "A value is never given as an argument: every program here can read those, and your shell keeps them in its "
    "history. Nothing was kept. If that was a real key, replace it where you got it, and clear it from the "
    "history (bash: history -d). Then run `nanoclaw vault {verb} NAME`: the value is asked for, or read from stdin or "
    "--file."
)


@click.group("vault", commands=[import_command])
def command() -> None:
    """Keys and passwords that only the gateway can read; a sandbox never sees one.

    The model's key is called `anthropic`: ./nanoclaw.sh vault set anthropic
    """


@command.command("set")
@click.argument("name")
@click.argument("surplus", nargs=-1, metavar="")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Read the value from a file instead of asking.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the value from stdin, also on a terminal.")
@click.option("--host", "hosts", multiple=True, help="A host it may be sent to, not needed for a preset. No wildcards.")
@click.option("--kind", default="", help="bearer (usual), header, basic, query, path, oauth2, or channel.")
@click.option("--header", default="", help="The header, for --kind header.")
@click.option("--param", default="", help="The parameter, for --kind query; the word before it, for --kind path.")
@click.option("--preset", default="", help="Treat it as this service's, whatever its name.")
@click.option("--channel", is_flag=True, help="NanoClaw's own channels may have it too.")
def set_secret(
    name: str, surplus: tuple[str, ...], path: Path | None, from_stdin: bool, **wishes: str | bool | tuple[str, ...]
) -> int:
    """Keep a secret. Its value is asked for, or read from stdin when that is not a terminal.

    `vault presets` lists the services that need no more than their name. Others need --host, and a --kind when the
    value is not sent as a bearer token.
    """
    refuse_arguments("set", name, surplus)
    refuse_homeless(load_config(), name, wishes)
    request = read_request(name, read_value(f"Value of {name}", path, from_stdin=from_stdin), wishes)
    with open_vault(load_config()) as gateway:
        line = gateway.ask(request, admin_words.SecretLine)
    print(f"Kept: {name}, {where(line)}")
    return 0


@command.command("rotate")
@click.argument("name", required=False)
@click.argument("surplus", nargs=-1, metavar="")
@click.option("--keys", is_flag=True, help="Give the vault itself new keys: everything is encrypted anew.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Read the new value from a file.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the new value from stdin, also on a terminal.")
def rotate(name: str | None, surplus: tuple[str, ...], keys: bool, path: Path | None, from_stdin: bool) -> int:
    """Give a secret a new value; its hosts and how it is sent stay. The old value stays redacted for a while."""
    if keys == (name is not None):
        raise click.UsageError("Say which secret gets a new value, or --keys for the vault's own keys.")
    if name is None:
        rotate_keys(load_config())
        print("The vault has new keys. Copies of the old vault and key file are still what they were: delete them.")
        return 0
    refuse_arguments("rotate", name, surplus)
    if name not in {line.name for line in list_lines(load_config())}:
        raise OperatorError("There is no secret of that name. `nanoclaw vault list` shows the names.")
    value = read_value(f"New value of {name}", path, from_stdin=from_stdin)
    with open_vault(load_config()) as gateway:
        line = gateway.ask(admin_words.VaultRotate(name, value), admin_words.SecretLine)
    print(f"Rotated: {name}, {where(line)}")
    return 0


@command.command("list")
@json_option
def list_secrets(as_json: bool) -> int:
    """List the names of secrets, what they are and where they may go; never a value."""
    config = load_config()
    lines = list_lines(config)
    rows = tuple((line.name, kind_of(line), " ".join(line.hosts), line.for_host, line.set_at) for line in lines)
    note = "" if rows else "No secret is kept. `nanoclaw vault presets` lists the services that need only a name."
    show_table(Table(("name", "kind", "hosts", "channel", "set_at"), rows, note), config.timezone, as_json=as_json)
    return 0


@command.command("presets")
@json_option
def list_presets(as_json: bool) -> int:
    """List the services whose secret needs no more than its name."""
    config = load_config()
    with open_vault(config, unlocked=False) as gateway:
        lines = gateway.ask(admin_words.VaultPresets(), list[admin_words.PresetLine])
    rows = tuple((line.name, line.title, line.kind, " ".join(line.hosts), " ".join(line.begins)) for line in lines)
    show_table(Table(("name", "what", "kind", "hosts", "begins"), rows), config.timezone, as_json=as_json)
    return 0


@command.command("rm")
@click.argument("name")
def remove_secret(name: str) -> int:
    """Forget a secret."""
    with open_vault(load_config()) as gateway:
        gateway.ask(admin_words.VaultRemove(name), bool)
    print(f"Forgotten: {name}")
    return 0


@command.command("unlock")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Read the passphrase from a file.")
def unlock_vault(path: Path | None) -> int:
    """Open a vault that lies under a passphrase, for the host that runs; it keeps the passphrase in memory."""
    unlock(load_config(), path)
    print("The vault is open.")
    return 0


@command.command("protect")
@click.argument("by", type=click.Choice(["keyfile", "passphrase", "keyring"]))
@click.option("--file", "path", type=click.Path(path_type=Path), help="Read the new passphrase from a file.")
def protect_vault(by: str, path: Path | None) -> int:
    """Choose what the vault lies under: a key file (the host starts by itself), a passphrase, or the system's keyring.

    Everything is encrypted anew. Under a passphrase the host starts locked: `vault unlock`, or up --passphrase-file.
    """
    protect(load_config(), by, path)
    print(
        f"The vault lies under {LOCKS[by]} now. "
        "Copies of the old vault and key file are still what they were: delete them."
    )
    return 0


def list_lines(config: Config) -> list[admin_words.SecretLine]:
    """Return what the vault holds, also while it is locked; never a value."""
    with open_vault(config, unlocked=False) as gateway:
        return gateway.ask(admin_words.VaultList(), list[admin_words.SecretLine])


def refuse_homeless(config: Config, name: str, wishes: dict[str, str | bool | tuple[str, ...]]) -> None:
    """Raise OperatorError, before a value is asked for, when it is of no known service and nothing says where it goes.

    The name is repeated only when it is nearly a service's: it may be a value in the wrong place.
    """
    if wishes["hosts"] or wishes["preset"] or wishes["channel"] or wishes["kind"] == "channel":
        return
    with open_vault(config, unlocked=False) as gateway:
        known = [line.name for line in gateway.ask(admin_words.VaultPresets(), list[admin_words.PresetLine])]
    if name in known:
        return
    near = difflib.get_close_matches(name.lower(), known, 1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise OperatorError(
        f"That is no service NanoClaw knows (`nanoclaw vault presets`).{meant} For any other, say where the secret may "
        "be sent: --host HOST, at least one."
    )


def read_request(name: str, value: str, wishes: dict[str, str | bool | tuple[str, ...]]) -> admin_words.VaultSet:
    """Return what the gateway is asked; `wishes` are the options of `vault set`."""
    hosts, header, param = wishes["hosts"], str(wishes["header"]), str(wishes["param"])
    if header and param:
        raise click.UsageError("Give --header or --param, not both.")
    kind = str(wishes["kind"]) or ("header" if header else "query" if param else "")
    return admin_words.VaultSet(
        name=name,
        value=value,
        hosts=hosts if isinstance(hosts, tuple) else (),
        kind=kind,
        field=header or param,
        preset=str(wishes["preset"]),
        for_host=bool(wishes["channel"]),
    )


def refuse_arguments(verb: str, name: str, surplus: tuple[str, ...]) -> None:
    """Raise OperatorError, without repeating it, when a value came as an argument."""
    if surplus or "=" in name or name.startswith(("sk-", "xoxb-", "ghp_")):
        raise OperatorError(IN_ARGUMENTS.format(verb=verb))


def where(line: admin_words.SecretLine) -> str:
    """Return where a secret may go, for a person."""
    return f"for {', '.join(line.hosts)}" if line.hosts else "for NanoClaw's own channels"


def kind_of(line: admin_words.SecretLine) -> str:
    """Return how a secret is sent, for a person."""
    return f"{line.kind} {line.field}".strip()


def read_value(question: str, path: Path | None, *, from_stdin: bool = False) -> str:
    """Return a secret from a file, a hidden prompt, or stdin. Raises OperatorError when there is none."""
    if path is not None:
        value = read_secret_file(path)
    elif sys.stdin.isatty() and not from_stdin:
        value = str(click.prompt(question, hide_input=True))
    else:
        value = sys.stdin.read(VALUE_BYTES)
    value = value.strip()
    if not value:
        raise OperatorError("the value is empty; nothing was changed")
    return value
