"""The command line of `ncl`: help from the table, its words for a person on a terminal, completion, tables that fit."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from nanoclaw.admin.catalog import NOUNS
from nanoclaw.admin.cli import ncl
from nanoclaw.admin.isolation import SAME_AGENT, SEPARATE, apply_answer, decide_advice
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Table, cell_width, format_table
from nanoclaw.admin.words import help_verb, parse_words
from nanoclaw.config import load_config
from nanoclaw.store.migrate import open_store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "home"))
    paths = load_config().paths
    open_store(paths.database, 0).close()
    return paths.home


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-m", "nanoclaw.admin.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def commands(group: click.Command, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    if not isinstance(group, click.Group):
        return {path: group}
    context = click.Context(group)
    found: dict[tuple[str, ...], click.Command] = {}
    for name in group.list_commands(context):
        below = group.get_command(context, name)
        assert below is not None
        found |= commands(below, (*path, name))
    return found


def test_every_verb_of_the_table_is_a_command_with_its_words() -> None:
    made = commands(ncl)
    for noun in NOUNS:
        for verb in noun.verbs:
            command = made[(noun.name, *verb.name.split())]
            shown = command.get_help(click.Context(command, max_content_width=500, terminal_width=500))
            assert verb.words in shown
            assert all(f"--{option.name}" in shown and option.words in shown for option in verb.options)


def test_the_help_in_a_box_names_every_value() -> None:
    for noun in NOUNS:
        for verb in noun.verbs:
            words = help_verb(noun, verb)
            assert all(value.words in words for value in verb.values)
    assert "messaging-groups" in str(parse_words(["help"]))


def test_reads_are_answered_without_a_host_and_writes_say_that_they_need_one(home: Path) -> None:
    listed = run("groups", "list", "--json")
    assert (listed.returncode, listed.stdout) == (0, "[]\n") and "no host runs" in listed.stderr
    written = run("groups", "create", "Tom")
    assert (written.returncode, written.stdout) == (2, "")
    assert "nanoclaw up" in written.stderr and len(written.stderr.splitlines()) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["nanoclaw.admin.cli", "nanoclaw.cli.main"])
def test_both_programs_complete_in_every_shell(home: Path, shell: str, program: str) -> None:
    command = [sys.executable, "-I", "-m", program, "completion", shell]
    script = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert script.returncode == 0 and "_COMPLETE" in script.stdout


def test_a_shell_completes_nouns_verbs_and_options(home: Path) -> None:
    def complete(*words: str) -> list[str]:
        env = {
            **os.environ, "_NCL_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }  # fmt: skip
        code = "from nanoclaw.admin.cli import ncl; ncl(prog_name='ncl')"
        done = subprocess.run([sys.executable, "-I", "-c", code], env=env, capture_output=True, text=True, timeout=60)
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert "wirings" in complete("ncl", "wir")
    assert "grant" in complete("ncl", "roles", "gr")
    assert "--session-mode" in complete("ncl", "wirings", "create", "--sess")
    assert "agent-shared" in complete("ncl", "wirings", "create", "--session-mode", "agent")


def test_a_table_fits_the_terminal_and_counts_wide_characters() -> None:
    table = Table(("id", "name"), (("1" * 26, "x" * 80), ("2", "日本語 🦊")))
    lines = format_table(table, "UTC", 60).splitlines()
    assert all(cell_width(line) <= 60 for line in lines) and lines[1].endswith("…")
    assert lines[1].startswith("1" * 26)
    assert cell_width("日本語") == 6 and cell_width("e\u0301") == 1
    hidden = Table(("id", "secret"), (("1", "x"),), hidden=("secret",))
    assert "secret" not in format_table(hidden, "UTC")


def test_a_time_is_never_cut_but_for_what_is_below_a_second() -> None:
    table = Table(("set_at", "hosts", "note"), ((86_399_123, "h" * 40, "n" * 40),))
    assert "1970-01-01 23:59:59.123  " in format_table(table, "UTC", 120)
    narrow = format_table(table, "UTC", 60).splitlines()
    assert narrow[1].startswith("1970-01-01 23:59:59  h") and all(cell_width(line) <= 60 for line in narrow)


def test_a_table_that_is_too_wide_leaves_out_columns_in_which_nothing_stands() -> None:
    table = Table(("id", "effort", "name"), (("1" * 26, None, "x" * 20), ("2" * 26, None, "y")))
    assert "effort" in format_table(table, "UTC", 80).splitlines()[0]
    assert format_table(table, "UTC", 50).splitlines()[0].split() == ["id", "name"]
    assert "x" * 20 in format_table(table, "UTC", 50)


@pytest.mark.parametrize(
    ("is_group", "direct", "others", "answer"),
    [(True, 0, 0, SAME_AGENT), (True, 1, 0, SEPARATE), (True, 0, 3, SAME_AGENT), (False, 1, 1, SAME_AGENT)],
)
def test_a_separate_assistant_is_recommended_where_others_could_learn_what_was_said_in_private(
    is_group: bool, direct: int, others: int, answer: str
) -> None:
    advice = decide_advice(is_group=is_group, direct_chats=direct, other_chats=others)
    assert advice.answer == answer and advice.why


def test_each_answer_about_isolation_becomes_options() -> None:
    request = Request("wirings", "create", None, {"chat": "family", "group": "old"})
    assert apply_answer(request, "main", "1", str).flags == {
        "chat": "family", "group": "main", "session-mode": "agent-shared",
    }  # fmt: skip
    assert apply_answer(request, "main", "2", str).flags["session-mode"] == "shared"
    assert apply_answer(request, "main", "3", lambda: "Tom").flags == {"chat": "family", "new-group": "Tom"}


def test_erasing_asks_first_and_nothing_is_sent_without_a_yes(home: Path) -> None:
    control, terminal = pty.openpty()
    command = [sys.executable, "-I", "-m", "nanoclaw.admin.cli", "groups", "delete", "main", "--purge"]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True)
    os.close(terminal)
    said, deadline = "", time.monotonic() + 30
    while "[y/N]" not in said and time.monotonic() < deadline:
        if select.select([control], [], [], 0.1)[0]:
            said += os.read(control, 4096).decode()
    os.write(control, b"n\n")
    assert "There is no way back" in said
    assert process.wait(30) == 130
    os.close(control)
