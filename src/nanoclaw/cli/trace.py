"""`nanoclaw trace MESSAGE`: what became of a message."""

from __future__ import annotations

import click

from nanoclaw.admin.ask import json_option, show_answer
from nanoclaw.admin.request import Request
from nanoclaw.config import load_config


@click.command("trace")
@click.argument("message")
@json_option
def command(message: str, as_json: bool) -> int:
    """Show every step of MESSAGE (its id, or the beginning of it), from accepted to delivered."""
    show_answer(load_config(), Request("messages", "trace", message), as_json=as_json)
    return 0
