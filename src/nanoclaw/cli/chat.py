"""`nanoclaw chat [TEXT]`: one question, or a conversation."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys

import click

from nanoclaw.channels.plain_text import neutralise
from nanoclaw.channels.terminal_words import DEFAULT_CHAT, find_text_fault, is_chat_name
from nanoclaw.cli.host_process import HostStarter
from nanoclaw.cli.question import GOOD, Listener, Question, ask
from nanoclaw.cli.talk import talk, write_text
from nanoclaw.config import load_config
from nanoclaw.errors import Refused

FAILED = 1
TIMED_OUT = 3


@click.command("chat")
@click.argument("words", metavar="[TEXT]", nargs=-1)
@click.option("--chat", "name", default=DEFAULT_CHAT, show_default=True, help="A chat; a new name makes one.")
@click.option("--timeout", type=click.FloatRange(min=0), default=300.0, show_default=True, help="Seconds.")
@click.option("--no-start", is_flag=True, help="Wait for a host instead of starting one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end (with TEXT).")
def command(words: tuple[str, ...], name: str, timeout: float, no_start: bool, as_json: bool) -> int:
    """Talk to your assistant; with TEXT ask once and print the reply (`-` reads TEXT from stdin).

    Exit codes with TEXT: 0 answered, 1 refused or failed, 2 usage, 3 no answer in time.
    """
    if not is_chat_name(name):
        raise click.BadParameter("a chat's name is 1 to 64 printable characters", param_hint="--chat")
    if len(words) > 1:
        raise click.UsageError(f"Put the message in quotes: ./nanoclaw.sh chat {shlex.quote(' '.join(words))}")
    if words:
        text = sys.stdin.buffer.read() if words[0] == "-" else os.fsencode(words[0])
        return _ask_once(text, name, timeout, may_start=not no_start, as_json=as_json)
    paths = load_config().paths
    return talk(HostStarter(paths, _tell, may_start=not no_start), name, paths.data / "chat-history")


def _ask_once(words: bytes, chat: str, timeout: float, *, may_start: bool, as_json: bool) -> int:
    question = Question(secrets.token_hex(16), _decode(words), chat)
    starter = HostStarter(load_config().paths, _tell, may_start=may_start)

    def show(answer: str) -> None:
        if not as_json:
            write_text(("\n" if len(question.answers) > 1 else "") + neutralise(answer) + "\n")

    answered = ask(question, starter, timeout, Listener(show, _tell))
    if as_json:
        outcome = "refused" if question.refusal else question.outcome
        write_text(json.dumps({"message": question.message, "outcome": outcome, "answers": question.answers}) + "\n")
    if not answered:
        _tell(f"no answer within {timeout:g} s. {_where_to_look(question)}")
        return TIMED_OUT
    if question.refusal:
        _tell(neutralise(question.refusal))
        return FAILED
    if question.outcome not in GOOD:
        _tell(f"the message {question.outcome}. {_where_to_look(question)}")
        return FAILED
    return 0


def _decode(words: bytes) -> str:
    try:
        text = words.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("The message is not valid UTF-8 text.") from error
    if fault := find_text_fault(text):
        raise Refused(fault)
    return text


def _where_to_look(question: Question) -> str:
    if question.message is None:
        return "The host did not take it; look at `./nanoclaw.sh logs`"
    words = "What became of it" if question.is_over else "It is kept, and answered when it can be"
    return f"{words}: ./nanoclaw.sh trace {question.message}"


def _tell(text: str) -> None:
    print(f"nanoclaw: {text}", file=sys.stderr, flush=True)
