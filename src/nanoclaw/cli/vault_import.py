"""`nanoclaw vault import --env FILE`: known keys of a .env file go into the vault; what is left stays in the file."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from nanoclaw.admin.ask import json_option, show_table
from nanoclaw.admin.table import Table
from nanoclaw.cli.gateway_link import GatewayDesk
from nanoclaw.cli.vault_lock import open_vault
from nanoclaw.config import load_config, read_text_file
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Variable:
    """One assignment of a .env file; `number` is its line, from 0."""

    number: int
    name: str
    value: str

    def __repr__(self) -> str:
        """Hide the value."""
        return f"Variable({self.number}, {self.name!r}, ***)"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a variable: `secret` is its name in the vault, "" when it stayed in the file."""

    variable: Variable
    secret: str
    words: str


@click.command("import")
@click.option("--env", "path", type=click.Path(path_type=Path), required=True, help="The .env file.")
@click.option("--replace", is_flag=True, help="Also those that the vault has already.")
@click.option("--strip", is_flag=True, help="Take the imported lines out of the file without asking.")
@json_option
def command(path: Path, replace: bool, strip: bool, as_json: bool) -> int:
    """Take the keys of known services out of a .env file. Shows names, never a value."""
    config = load_config()
    text = read_text_file(path)
    with open_vault(config) as gateway:
        fates = take_variables(gateway, parse_env(text), replace=replace)
    rows = tuple((fate.variable.name, fate.secret or None, fate.words) for fate in fates)
    show_table(Table(("variable", "secret", "what"), rows), config.timezone, as_json=as_json)
    taken = [fate.variable for fate in fates if fate.secret]
    if not taken:
        return 0
    if strip or (sys.stdin.isatty() and not as_json and click.confirm(f"Take these lines out of {path}?")):
        strip_lines(path, text, {variable.number for variable in taken})
        print(f"Taken out of {path}. Copies of it (backups, git) still hold the keys.", file=sys.stderr)
    else:
        print(f"{path} still holds these keys: delete it, or run this again with --strip.", file=sys.stderr)
    return 0


def parse_env(text: str) -> list[Variable]:
    """Return the assignments of a .env file; what is no assignment is left alone."""
    variables: list[Variable] = []
    for number, line in enumerate(text.splitlines()):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, value = match.groups()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        else:
            value = value.split(" #", 1)[0].rstrip()
        variables.append(Variable(number, name, value))
    return variables


def take_variables(gateway: GatewayDesk, variables: list[Variable], *, replace: bool) -> list[Fate]:
    """Put what is known into the vault; return what became of each variable."""
    presets = gateway.ask(admin_words.VaultPresets(), list[admin_words.PresetLine])
    known = {name: preset.name for preset in presets for name in preset.env}
    there = {line.name for line in gateway.ask(admin_words.VaultList(), list[admin_words.SecretLine])}
    taken: set[str] = set()
    fates: list[Fate] = []
    for variable in variables:
        secret = known.get(variable.name, "")
        if not secret:
            fates.append(Fate(variable, "", "left: no service is known by this name"))
        elif not variable.value:
            fates.append(Fate(variable, "", "left: it is empty"))
        elif secret in taken:
            fates.append(Fate(variable, "", f"left: another line was already taken for {secret}"))
        elif secret in there and not replace:
            fates.append(Fate(variable, "", f"left: the vault has {secret} already (--replace)"))
        else:
            fates.append(_take(gateway, variable, secret))
            taken |= {secret} if fates[-1].secret else set()
    return fates


def _take(gateway: GatewayDesk, variable: Variable, secret: str) -> Fate:
    try:
        line = gateway.ask(admin_words.VaultSet(secret, variable.value), admin_words.SecretLine)
    except OperatorError as error:
        return Fate(variable, "", f"left: {error}")
    return Fate(variable, secret, f"taken, for {', '.join(line.hosts) or 'the host'}")


def strip_lines(path: Path, text: str, numbers: set[int]) -> None:
    """Write the file without these lines; whole, with the mode it had. Raises OperatorError."""
    kept = [line for number, line in enumerate(text.splitlines(keepends=True)) if number not in numbers]
    draft = path.with_name(path.name + ".nanoclaw-new")
    try:
        draft.touch(mode=0o600)
        draft.chmod(path.stat().st_mode & 0o777)
        draft.write_text("".join(kept), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise OperatorError(
            f"cannot rewrite {path}: {error.strerror}. The keys are in the vault and in the file"
        ) from None
