"""`claw`: an agent from the shell, with no chat app: the answer on stdout, the session's id on stderr.

Each call is a chat of its own on the operator's terminal, named `FOLDER:claw-...`, which wires it to that agent
(flow/route.py); `-s` goes on in the chat of an earlier session. In: words, stdin. Writes: nothing itself.
Exit codes: 0 answered, 1 refused or failed, 2 usage, 3 no answer in time.
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO, TypeVar

import click

from nanoclaw.admin.command_line import run_command
from nanoclaw.admin.table import Table, format_table
from nanoclaw.channels.plain_text import neutralise, one_line
from nanoclaw.channels.terminal import NAME as TERMINAL
from nanoclaw.channels.terminal_words import CHAT_CHARACTERS, TEXT_BYTES, find_text_fault
from nanoclaw.cli.host_process import HostStarter
from nanoclaw.cli.question import GOOD, Listener, Question, ask
from nanoclaw.cli.talk import render_markdown, write_text
from nanoclaw.config import Config, load_config
from nanoclaw.errors import OperatorError, Refused
from nanoclaw.store.db import as_store_error, open_connection
from nanoclaw.store.defaults import FOLDER
from nanoclaw.store.tables import Tables, build_tables

RUNTIMES = ("bubblewrap",)
TIMEOUT_SECONDS = 300.0
FAILED, TIMED_OUT = 1, 3
SHORTEST_PREFIX = 6  # characters of a session's id
NAME_CHARACTERS = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known:
    """An agent of this home."""

    id: str
    name: str
    folder: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """A conversation: the session's id, and the platform's name of its chat."""

    session: str
    channel: str
    chat: str


@dataclass(frozen=True, slots=True)
class Manner:
    """How the answer is shown and how long it is waited for."""

    timeout_seconds: float
    raw: bool
    verbose: bool

    def tell(self, text: str) -> None:
        """Say on stderr what happens, when asked to."""
        if self.verbose:
            print(f"claw: {one_line(text, 1000)}", file=sys.stderr, flush=True)


@click.command("claw")
@click.argument("words", metavar="[PROMPT]...", nargs=-1)
@click.option("--group", "-g", metavar="NAME", help="The agent: its folder or name, or a part of it. [default: main]")
@click.option("--session", "-s", metavar="ID", help="Go on with this session (its id, or the beginning of it).")
@click.option("--pipe", "-p", is_flag=True, help="Read stdin and put it behind PROMPT.")
@click.option("--list-groups", is_flag=True, help="List the agents.")
@click.option("--runtime", default=RUNTIMES[0], show_default=True, metavar="NAME", help="What builds the sandbox.")
@click.option("--timeout", type=click.FloatRange(min=0), default=TIMEOUT_SECONDS, show_default=True, help="Seconds.")
@click.option("--raw", is_flag=True, help="Print the text as it came; without, Markdown is rendered on a terminal.")
@click.option("--verbose", "-v", is_flag=True, help="Say on stderr what happens.")
def command(
    words: tuple[str, ...],
    group: str | None,
    session: str | None,
    *,
    pipe: bool,
    list_groups: bool,
    **how: str | float | bool,
) -> int:
    """Ask an agent something and print its answer. Each call begins a new conversation; `-s` goes on with one.

    Without PROMPT the question is read from stdin, unless that is a terminal.
    """
    if how["runtime"] not in RUNTIMES:
        raise click.UsageError(f"There is no runtime {str(how['runtime'])!r} here. There is: {', '.join(RUNTIMES)}.")
    if group is not None and session is not None:
        raise click.UsageError("A session belongs to its agent already: give -g or -s.")
    config = load_config()
    if list_groups:
        return _list_groups(config)
    text = read_question(words, sys.stdin, pipe=pipe)
    manner = Manner(float(how["timeout"]), raw=bool(how["raw"]), verbose=bool(how["verbose"]))
    return _run(config, text, (group, session), manner)


def main() -> int:
    """Run `claw` as a program of its own; return its exit code."""
    return run_command(command, "claw", sys.argv[1:])


def read_question(words: Sequence[str], stdin: TextIO, *, pipe: bool) -> str:
    """Return what to ask: the words, and stdin behind a blank line. Raises UsageError, Refused."""
    parts = [" ".join(words).strip()]
    if pipe or (not parts[0] and not stdin.isatty()):
        piped = stdin.buffer.read(TEXT_BYTES + 1)
        try:
            parts.append(piped.decode("utf-8").strip("\n"))
        except UnicodeDecodeError as error:
            if len(piped) <= TEXT_BYTES:
                raise Refused("What came on stdin is not valid UTF-8 text.") from error
            parts.append("x" * (TEXT_BYTES + 1))  # cut inside a character: too long, and said so below
    text = "\n\n".join(part for part in parts if part)
    if not text:
        raise click.UsageError('Say what to do: claw "summarise my notes", or pipe it in.')
    if fault := find_text_fault(text):
        raise Refused(fault)
    return text


def decide_group(groups: Sequence[Known], wanted: str) -> Known:
    """Decide which agent is meant: the exact folder or name in any case, then a part that only one has."""
    text = wanted.strip().casefold()
    exact = [group for group in groups if text in (group.folder, group.name.casefold(), group.id.casefold())]
    by_folder = [group for group in groups if group.folder == text]
    near = [group for group in groups if text and (text in group.folder or text in group.name.casefold())]
    found = by_folder or exact or near
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{group.folder} ({one_line(group.name, NAME_CHARACTERS)})" for group in found or groups)
    shown = one_line(wanted, NAME_CHARACTERS)
    if found:
        raise OperatorError(f"more than one agent goes by {shown!r}: {listed}. Give the folder")
    raise OperatorError(f"there is no agent {shown!r}. There is: {listed or 'none'}")


def decide_session(sessions: Sequence[Spoken], wanted: str) -> Spoken:
    """Decide which conversation is meant by an id or its beginning; only those of the terminal can be gone on with."""
    text = wanted.strip().upper()
    found = [spoken for spoken in sessions if len(text) >= SHORTEST_PREFIX and spoken.session.startswith(text)]
    shown = one_line(wanted, NAME_CHARACTERS)
    if not found:
        raise OperatorError(
            f"there is no session {shown!r} (at least {SHORTEST_PREFIX} characters of its id). Look: ncl sessions list"
        )
    if len(found) > 1:
        raise OperatorError(f"more than one session begins with {shown!r}: {found[0].session}, {found[1].session}")
    if found[0].channel != TERMINAL:
        raise OperatorError(f"session {found[0].session} is a conversation on {found[0].channel or 'no chat'}; "
                            "claw goes on only with those of the terminal")  # fmt: skip
    return found[0]


def _list_groups(config: Config) -> int:
    if not config.paths.database.exists():
        raise OperatorError(f"there is nothing in {config.paths.home} yet. Say something first: claw hello")
    rows = tuple((group.folder, group.name, group.id) for group in _read(config, _groups))
    write_text(format_table(Table(("folder", "name", "id"), rows), config.timezone) + "\n")
    return 0


def _run(config: Config, text: str, whom: tuple[str | None, str | None], manner: Manner) -> int:
    starter = HostStarter(config.paths, lambda words: print(f"claw: {words}", file=sys.stderr, flush=True))
    deadline = time.monotonic() + manner.timeout_seconds
    chat = _choose_chat(config, starter, whom, manner, deadline)
    if chat is None:
        print(f"claw: the host was not ready within {manner.timeout_seconds:g} s", file=sys.stderr)
        return TIMED_OUT
    question = Question(secrets.token_hex(16), text, chat)
    manner.tell(f"says {len(text)} characters in the chat {chat}")

    def show(answer: str) -> None:
        write_text(("\n" if len(question.answers) > 1 else "") + _shown(answer, raw=manner.raw))

    answered = ask(question, starter, deadline - time.monotonic(), Listener(show, manner.tell))
    manner.tell(f"message {question.message or '-'}, outcome {question.outcome or '-'}")
    spoken = [item.session for item in _read(config, _sessions) if (item.channel, item.chat) == (TERMINAL, chat)]
    for session in spoken[:1]:
        print(f"session: {session}", file=sys.stderr, flush=True)
    if not answered:
        where = f": nanoclaw trace {question.message}" if question.message else ", look at `nanoclaw logs`"
        print(f"claw: no answer within {manner.timeout_seconds:g} s. It goes on{where}", file=sys.stderr)
        return TIMED_OUT
    if question.refusal or question.outcome not in GOOD:
        why = neutralise(question.refusal) or f"the message {question.outcome}: nanoclaw trace {question.message}"
        print(f"claw: {why}", file=sys.stderr)
        return FAILED
    return 0


def _choose_chat(
    config: Config, starter: HostStarter, whom: tuple[str | None, str | None], manner: Manner, deadline: float
) -> str | None:
    """Return the chat to speak in, None when time ran out; starts the host when none runs: it makes the first agent."""
    if not starter.host_answers():
        manner.tell("starts the host, or waits for it")
    sock = starter.connect(deadline)
    if sock is None:
        return None
    sock.close()
    group, session = whom
    if session is not None:
        return decide_session(_read(config, _sessions), session).chat
    known = decide_group(_read(config, _groups), group or FOLDER)
    manner.tell(f"asks {known.name} ({known.folder})")
    chat = f":claw-{secrets.token_hex(6)}"
    return (known.folder if len(known.folder + chat) <= CHAT_CHARACTERS else known.id) + chat


def _shown(answer: str, *, raw: bool) -> str:
    if raw or not sys.stdout.isatty():
        return neutralise(answer) + "\n"
    return render_markdown(answer, 80)


def _read(config: Config, load: Callable[[sqlite3.Connection, Tables], T]) -> T:
    """Read the store's file beside whatever host runs. Raises StoreError."""
    try:
        connection = open_connection(config.paths.database, read_only=True)
        try:
            return load(connection, build_tables(lambda: ""))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise as_store_error(error, config.paths.database) from error


def _groups(connection: sqlite3.Connection, tables: Tables) -> list[Known]:
    return [Known(group.id, group.name, group.folder) for group in tables.groups.list_all(connection)]


def _sessions(connection: sqlite3.Connection, tables: Tables) -> list[Spoken]:
    found: list[Spoken] = []
    for session in tables.sessions.list_all(connection):
        chat = tables.chats.get(connection, session.chat) if session.chat else None
        found.append(Spoken(session.id, chat.channel_type if chat else "", chat.platform_id if chat else ""))
    return found
