"""`nanoclaw setup`: the owner's name, the time zone, the model key, and a message all the way there and back."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from nanoclaw.channels.plain_text import neutralise
from nanoclaw.cli.host_process import HostStarter
from nanoclaw.cli.question import GOOD, Listener, Question, ask
from nanoclaw.cli.stop import stop_host
from nanoclaw.cli.vault import read_value
from nanoclaw.cli.vault_lock import open_vault
from nanoclaw.config import Config, load_config, write_settings
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words

MODEL_SECRET = "anthropic"
TEST_CHAT = "setup"
TEST_TEXT = "This is a test of the set-up. Answer with one short sentence."
TEST_SECONDS = 120.0
NAME_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was said on the command line; None: ask, or leave as it is when nobody can be asked."""

    name: str | None
    timezone: str | None
    key_file: Path | None
    key_stdin: bool
    no_key: bool


@click.command("setup")
@click.option("--name", help="What the assistant calls you.")
@click.option("--timezone", help="Such as Europe/Berlin.")
@click.option("--key-file", type=click.Path(path_type=Path), help="Read the model key from a file.")
@click.option("--key-stdin", is_flag=True, help="Read the model key from stdin.")
@click.option("--no-key", is_flag=True, help="Do not ask for a model key; the rehearsal model answers without one.")
@click.option("--no-test", is_flag=True, help="Do not send the test message.")
def command(
    name: str | None, timezone: str | None, key_file: Path | None, key_stdin: bool, no_key: bool, no_test: bool
) -> int:
    """Set your name, the time zone and the model key; asks for what is not given. Safe to run again."""
    wishes = Wishes(name, timezone, key_file, key_stdin, no_key)
    config = load_config()
    changes = choose_settings(config, wishes, asking=sys.stdin.isatty() and not key_stdin)
    if changes:
        write_settings(config.paths.config_file, changes)
        if stop_host(config.paths):
            _tell("the host was stopped, to begin again with what you chose")
        config = load_config()
    keep_key(config, wishes)
    return 0 if no_test else send_test_message(config)


def choose_settings(config: Config, wishes: Wishes, *, asking: bool) -> dict[str, str]:
    """Return the settings that change. Raises OperatorError for a name or a time zone that cannot be."""
    name, timezone = wishes.name, wishes.timezone
    if name is None and asking:
        name = _prompt("Your name", config.settings.owner or config.operator, parse_name)
    if timezone is None and asking:
        timezone = _prompt("Time zone", config.timezone, parse_timezone)
    changes: dict[str, str] = {}
    if name is not None and name.strip() != config.settings.owner:
        changes["owner"] = parse_name(name)
    if timezone is not None and timezone.strip() != config.settings.timezone:
        changes["timezone"] = parse_timezone(timezone)
    return changes


def _prompt(question: str, default: str, parse: Callable[[str], str]) -> str:
    """Ask until the answer can be; a person who mistyped is not sent back to the start."""

    def check(answer: str) -> str:
        try:
            return parse(answer)
        except OperatorError as error:
            raise click.UsageError(str(error)) from error

    return str(click.prompt(question, default=default, value_proc=check))


def parse_name(name: str) -> str:
    """Return a person's name. Raises OperatorError."""
    name = name.strip()
    if not 1 <= len(name) <= NAME_CHARACTERS or not name.isprintable():
        raise OperatorError(f"a name is 1 to {NAME_CHARACTERS} printable characters")
    return name


def parse_timezone(name: str) -> str:
    """Return a time zone of the IANA list. Raises OperatorError."""
    try:
        ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise OperatorError(f"{name!r} is not a time zone; one is Europe/Berlin, another UTC") from error
    return name.strip()


def keep_key(config: Config, wishes: Wishes) -> None:
    """Put the model key into the vault, when there is one to put. Raises OperatorError."""
    if wishes.no_key:
        return
    given = wishes.key_file is not None or wishes.key_stdin
    if not given and not sys.stdin.isatty():
        return
    with open_vault(config) as gateway:
        if not given:
            names = [line.name for line in gateway.ask(admin_words.VaultList(), list[admin_words.SecretLine])]
            kept = "Enter keeps the one that is set" if MODEL_SECRET in names else "Enter goes on without one"
            value = str(
                click.prompt(f"Model key, sk-ant-... ({kept})", default="", hide_input=True, show_default=False)
            )
        else:
            value = sys.stdin.read() if wishes.key_stdin else read_value("Model key", wishes.key_file)
        if value.strip():
            gateway.ask(admin_words.VaultSet(MODEL_SECRET, value.strip()), admin_words.SecretLine)
            print("The model key is in the vault.")


def send_test_message(config: Config) -> int:
    """Send a message all the way and show its answer; 0 when one came, 1 when not."""
    print("Sending a test message ...", flush=True)
    question = Question(secrets.token_hex(16), TEST_TEXT, TEST_CHAT)
    answered = ask(question, HostStarter(config.paths, _tell), TEST_SECONDS, Listener(_show, _tell))
    if answered and question.outcome in GOOD and question.answers:
        print("It works. Talk to your assistant: ./nanoclaw.sh")
        return 0
    reason = question.refusal or question.outcome or f"no answer within {TEST_SECONDS:g} s"
    _tell(f"the test message did not come back: {neutralise(reason)}. `./nanoclaw.sh doctor` looks for the cause")
    return 1


def _show(text: str) -> None:
    print("\n".join(f"  {line}" for line in neutralise(text).splitlines()))


def _tell(text: str) -> None:
    print(f"nanoclaw: {text}", file=sys.stderr, flush=True)
