"""`nanoclaw vault`: secrets that only the gateway can read. A value never appears in an argument or an answer."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nanoclaw.admin.ask import json_option, show_table
from nanoclaw.admin.table import Table
from nanoclaw.cli.gateway_link import open_gateway
from nanoclaw.config import load_config
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words

VALUE_BYTES = 16 * 1024


@click.group("vault")
def command() -> None:
    """Keys and passwords that only the gateway can read; a sandbox never sees one.

    The model's key is called `anthropic`: ./nanoclaw.sh vault set anthropic
    """


@command.command("set")
@click.argument("name")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Read the value from a file instead of asking.")
@click.option("--host", "hosts", multiple=True, help="A host it may be sent to (not for `anthropic`).")
def set_secret(name: str, path: Path | None, hosts: tuple[str, ...]) -> int:
    """Keep a secret. Its value is asked for, or read from stdin when that is not a terminal."""
    value = read_value(f"Value of {name}", path)
    with open_gateway(load_config()) as gateway:
        gateway.ask(admin_words.VaultSet(name, value, hosts), admin_words.SecretLine)
    print(f"Kept: {name}")
    return 0


@command.command("list")
@json_option
def list_secrets(as_json: bool) -> int:
    """List the names of secrets, what they are and where they may go; never a value."""
    config = load_config()
    with open_gateway(config) as gateway:
        lines = gateway.ask(admin_words.VaultList(), list[admin_words.SecretLine])
    rows = tuple((line.name, line.kind, " ".join(line.hosts), line.set_at) for line in lines)
    show_table(Table(("name", "kind", "hosts", "set_at"), rows), config.timezone, as_json=as_json)
    return 0


@command.command("rm")
@click.argument("name")
def remove_secret(name: str) -> int:
    """Forget a secret."""
    with open_gateway(load_config()) as gateway:
        gateway.ask(admin_words.VaultRemove(name), bool)
    print(f"Forgotten: {name}")
    return 0


def read_value(question: str, path: Path | None) -> str:
    """Return a secret from a file, a hidden prompt, or stdin. Raises OperatorError when there is none."""
    if path is not None:
        value = _read_file(path)
    elif sys.stdin.isatty():
        value = str(click.prompt(question, hide_input=True))
    else:
        value = sys.stdin.read(VALUE_BYTES)
    value = value.strip()
    if not value:
        raise OperatorError("the value is empty; nothing was changed")
    return value


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path} is no text file") from error
