"""`nanoclaw mounts`: which folders of this machine sandboxes may be given."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from nanoclaw.admin.ask import json_option, show_table
from nanoclaw.admin.table import Table
from nanoclaw.boxes import make_folders
from nanoclaw.config import Config, load_config
from nanoclaw.errors import OperatorError
from nanoclaw.sandbox.allowlist import ALWAYS_BLOCKED, Root, explain_path
from nanoclaw.sandbox.allowlist_edit import put_root, remove_root
from nanoclaw.sandbox.folders import Allowed, Folders, Forbidden

READ_WRITE = click.option("--read-write", "-w", is_flag=True, help="Agents may write there too, where they are let.")
ROOT_NOTE = "Each assistant has a user of its own here; `ncl groups config add-mount` says which rights it lacks."


@click.group("mounts")
def command() -> None:
    """Folders of this machine that sandboxes may be given. None is, until you allow it and give it to an assistant.

    The list is config/mounts.toml in the home; it is read again whenever it changes.
    """


@command.command("allow")
@click.argument("path")
@READ_WRITE
@click.option("--note", default="", help="Why, for you.")
def allow(path: str, read_write: bool, note: str) -> int:
    """Allow PATH and every folder below it. Give it to an assistant with `ncl groups config add-mount`."""
    config = load_config()
    folders = make_folders(config)
    wanted = place_of(path)
    refuse_what_never_goes(folders, wanted)
    was_there = put_root(folders.file.path, Root(wanted, read_write, note))
    mode = "read-write" if read_write else "read-only"
    print(f"{'Changed' if was_there else 'Allowed'}: {wanted}, {mode}, with all below it.")
    if config.is_root:
        print(ROOT_NOTE)
    if was_there:
        print("Sandboxes that run keep what they have until they end: ncl groups restart GROUP")
    print(f"Give it: ncl groups config add-mount GROUP --path {wanted}{' --read-write' if read_write else ''}")
    return 0


def place_of(path: str) -> str:
    """Return a path as it is written down: absolute. Raises OperatorError for one that cannot be."""
    wanted = str(Path(os.path.abspath(Path(path).expanduser())))
    if fault := explain_path(path if path.startswith("/") else wanted) or explain_path(wanted):
        raise OperatorError(f"This cannot be allowed: {fault}")
    return wanted


def refuse_what_never_goes(folders: Folders, wanted: str) -> None:
    """Raise OperatorError for a root below which nothing, or nothing that is there, could be given."""
    verdict = folders.judge(wanted, write=False)
    if isinstance(verdict, Allowed):
        verdict.pin.close()
    elif verdict.reason not in ("root", "allowlist"):
        raise OperatorError(verdict.words)


@command.command("forget")
@click.argument("path")
def forget(path: str) -> int:
    """Allow PATH no more; sandboxes that start from now on do not get it, nor what is below it."""
    file = make_folders(load_config()).file
    written = {root.path: root.path for root in file.read().roots}
    wanted = path if path in written else place_of(path)
    remove_root(file.path, wanted)
    print(f"Forgotten: {wanted}. Sandboxes that run keep it until they end: ncl groups restart GROUP")
    return 0


@command.command("list")
@json_option
def list_roots(as_json: bool) -> int:
    """List what is allowed. Exit 1 when the file has a mistake: then nothing is."""
    config = load_config()
    file = make_folders(config).file
    allowlist = file.read()
    if allowlist.fault:
        print(f"nanoclaw: nothing is allowed: {allowlist.fault}", file=sys.stderr)
        return 1
    rows = tuple((root.path, "read-write" if root.writable else "read-only", state_of(root), root.note)
                 for root in allowlist.roots)  # fmt: skip
    blocked = f"Never given, wherever it is in a path: {', '.join((*ALWAYS_BLOCKED, *allowlist.blocked))}."
    note = blocked if rows else "Nothing is allowed. To allow a folder: ./nanoclaw.sh mounts allow PATH"
    show_table(Table(("path", "mode", "state", "note"), rows, note), config.timezone, as_json=as_json)
    return 0


def state_of(root: Root) -> str:
    """Return what is to be known of a root's folder."""
    try:
        real = root.place.resolve(strict=True)
    except (OSError, RuntimeError):
        return "not there"
    return "" if real == root.place else f"is {real}"


@command.command("test")
@click.argument("path")
@READ_WRITE
def test(path: str, read_write: bool) -> int:
    """Say whether a sandbox would get PATH, how, and what decides it. Exit 1 when it would not."""
    config = load_config()
    folders = make_folders(config)
    asked = path if path.startswith("/") else place_of(path)
    verdict = folders.judge(asked, write=read_write)
    if isinstance(verdict, Forbidden):
        print(verdict.words)
        if verdict.mend:
            print(f"mend: {verdict.mend}")
        return 1
    verdict.pin.close()
    mode = "read-write" if verdict.writable else "read-only"
    print(f"A sandbox would get {verdict.pin.real}, {mode}. What decides it: {describe_rule(config, verdict, folders)}")
    if read_write and not verdict.writable:
        print(f"Read-write needs: ./nanoclaw.sh mounts allow {verdict.rule.path} --read-write")
    return 0


def describe_rule(config: Config, allowed: Allowed, folders: Folders) -> str:
    """Return which line of the file decides, with its number."""
    path = folders.file.path
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [n for n, line in enumerate(lines, 1) if line.strip().startswith("path") and allowed.rule.path in line]
    number = f":{found[0]}" if found else ""
    flag = "read_write = true" if allowed.rule.writable else "without read_write"
    return f"{path.relative_to(config.paths.home)}{number}, root {allowed.rule.path} ({flag})"
