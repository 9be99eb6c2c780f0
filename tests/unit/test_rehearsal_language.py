"""The small language of the rehearsal model."""

from __future__ import annotations

import pytest

from nanoclaw.rehearsal.language import Command, Verb, parse_commands, parse_line


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("run: id -u; hostname", Command(Verb.RUN, text="id -u; hostname")),
        ("RUN:date", Command(Verb.RUN, text="date")),
        ("  say: a: b  ", Command(Verb.SAY, text="a: b")),
        ("say:", Command(Verb.SAY)),
        ("write a/b.txt: it: works", Command(Verb.WRITE, name="a/b.txt", text="it: works")),
        ("read a/b.txt", Command(Verb.READ, name="a/b.txt")),
        ('tool: Grep {"pattern": "x"}', Command(Verb.TOOL, name="Grep", arguments={"pattern": "x"})),
        ("tool: ListAgents", Command(Verb.TOOL, name="ListAgents", arguments={})),
        ("remember: the cat", Command(Verb.REMEMBER, text="the cat")),
        ("recall", Command(Verb.RECALL)),
        ("History", Command(Verb.HISTORY)),
        ("sleep: 0.5", Command(Verb.SLEEP, text="0.5")),
        ("fail: 429", Command(Verb.FAIL, text="429")),
        ("to ann: run: date; id", Command(Verb.TO, name="ann", text="run: date; id")),
        ("collect", Command(Verb.COLLECT)),
        ("@andy say: hi", Command(Verb.SAY, text="hi")),
    ],
)
def test_a_line_is_understood(line: str, command: Command) -> None:
    assert parse_line(line) == command


@pytest.mark.parametrize("line", ["hello", "please run: x", "recall it", "read two words", "", "write: x", "tool:"])
def test_other_words_are_no_command(line: str) -> None:
    assert parse_line(line) is None


def test_several_lines_are_kept_in_order_and_other_words_between_are_left_out() -> None:
    verbs = [command.verb for command in parse_commands("say: a\nplease\nrun: b\nrecall")]
    assert verbs == [Verb.SAY, Verb.RUN, Verb.RECALL]


@pytest.mark.parametrize("rest", ["{broken", "[1]", '"text"', "[" * 100_000])
def test_a_tool_with_no_object_as_input_is_answered_with_words(rest: str) -> None:
    command = parse_line(f"tool: Bash {rest}")
    assert command
    assert command.verb is Verb.SAY
