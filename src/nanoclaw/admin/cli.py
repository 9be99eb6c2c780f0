"""The entry of `ncl`: one group a resource, answered by the host, else by the store's file."""

from __future__ import annotations

import sys

import click

from nanoclaw.admin.ask import json_option, show_answer
from nanoclaw.admin.command_line import run_command
from nanoclaw.admin.request import Request
from nanoclaw.config import load_config


def main() -> int:
    """Run `ncl` and return its exit code: 0 done, 1 refused or failed, 2 usage."""
    return run_command(ncl, "ncl", sys.argv[1:])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="nanoclaw", message="ncl %(version)s")
def ncl() -> None:
    """Look at what a host holds, and change it: `ncl RESOURCE VERB [ID]`."""


@ncl.group("groups")
def groups() -> None:
    """Agent groups: assistants, each with a folder, a memory and a sandbox of its own."""


@groups.command("list")
@json_option
def list_groups(as_json: bool) -> int:
    """List the assistants."""
    return _show(Request("groups", "list"), as_json=as_json)


@ncl.group("sessions")
def sessions() -> None:
    """Sessions: an assistant in a chat."""


@sessions.command("list")
@json_option
def list_sessions(as_json: bool) -> int:
    """List the sessions, and whether a sandbox runs for them."""
    return _show(Request("sessions", "list"), as_json=as_json)


@ncl.group("messages")
def messages() -> None:
    """Messages that were accepted."""


@messages.command("trace")
@click.argument("message")
@json_option
def trace_message(message: str, as_json: bool) -> int:
    """Show what became of MESSAGE (its id, or the beginning of it)."""
    return _show(Request("messages", "trace", message), as_json=as_json)


@ncl.group("audit")
def audit() -> None:
    """What the host decided. `nanoclaw audit` shows the gateway's part too."""


@audit.command("list")
@click.option("--limit", "-n", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The newest N.")
@json_option
def list_audit(limit: int, as_json: bool) -> int:
    """List the newest entries, oldest first."""
    return _show(Request("audit", "list", flags={"limit": str(limit)}), as_json=as_json)


@ncl.group("host")
def host() -> None:
    """The host itself."""


@host.command("status")
@json_option
def show_status(as_json: bool) -> int:
    """Show how it is."""
    return _show(Request("host", "status"), as_json=as_json, facts=True)


@host.command("stop")
@json_option
def stop(as_json: bool) -> int:
    """Ask it to stop, without waiting for it (`nanoclaw stop` waits)."""
    return _show(Request("host", "stop"), as_json=as_json)


def _show(request: Request, *, as_json: bool, facts: bool = False) -> int:
    show_answer(load_config(), request, as_json=as_json, facts=facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
