"""The verbs of `nanoclaw`; each is a module of this folder, imported when it is asked for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import click

from nanoclaw.admin.command_line import run_command

COMMAND = "./nanoclaw.sh"
VERBS = (
    ("chat", "chat", "Talk to your assistant; with TEXT, ask once and print the reply."),
    ("claw", "claw", "Ask an agent from the shell: any agent, a pipe, a session to go on with."),
    ("setup", "setup", "Your name, time zone and model key; ends with a test message."),
    ("up", "up", "Start the host."),
    ("stop", "stop", "Stop the host."),
    ("status", "status", "What runs, and what waits."),
    ("doctor", "doctor", "Check everything this needs, and say what mends it."),
    ("logs", "logs", "Show the host's log."),
    ("trace", "trace", "What became of a message."),
    ("audit", "audit", "What was decided, allowed and refused."),
    ("cost", "cost", "What models have cost, limits and prices."),
    ("query", "query", "Read the store with one SELECT."),
    ("egress", "egress", "What agents may reach on the internet, and which rule decides."),
    ("mounts", "mounts", "Folders of this machine that sandboxes may be given."),
    ("vault", "vault", "Keys and passwords that only the gateway can read."),
    ("image", "image", "The image that sandboxes have with docker."),
    ("completion", "completion", "Print what makes a shell complete these words."),
)


class Verbs(click.Group):
    """A group whose commands are imported when they are needed; `--help` needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which people need them."""
        return [name for name, _, _ in VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        for name, module, _ in VERBS:
            if name == cmd_name:
                return import_module(f"nanoclaw.cli.{module}").command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; whoever mistyped one, or just talked, is told what to type."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            word = args[0]
            near = get_close_matches(word, [name for name, _, _ in VERBS], 1)
            hint = f"Did you mean '{near[0]}'?" if near else f"To say it: {COMMAND} chat {shlex.quote(' '.join(args))}"
            raise click.UsageError(f"There is no verb '{word}'. {hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs from the table above."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, words) for name, _, words in VERBS])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def nanoclaw() -> None:
    """Talk to a personal assistant that works in a sandbox on this machine.

    Every verb has --help; those with output have --json.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one verb and return the exit code; errors go to stderr in plain words."""
    return run_command(nanoclaw, "nanoclaw", arguments)
