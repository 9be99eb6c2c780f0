"""`claw`: which agent and which session is meant, what is asked, and how bad input ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from nanoclaw.channels.terminal_words import TEXT_BYTES
from nanoclaw.cli.claw import Known, Spoken, decide_group, decide_session, read_question
from nanoclaw.errors import OperatorError, Refused

ANDY = Known("01AAAAAAAAAAAAAAAAAAAAAAAA", "Andy", "main")
RESEARCHER = Known("01BBBBBBBBBBBBBBBBBBBBBBBB", "Researcher", "researcher")
RESEARCH_2 = Known("01CCCCCCCCCCCCCCCCCCCCCCCC", "Research Two 🔬", "research-two")
HOME = (ANDY, RESEARCHER, RESEARCH_2)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("main", ANDY), ("MAIN", ANDY), ("andy", ANDY), ("Researcher", RESEARCHER), ("two", RESEARCH_2),
     ("🔬", RESEARCH_2), ("an", ANDY), (RESEARCHER.id, RESEARCHER)],
)  # fmt: skip
def test_an_agent_is_meant_by_its_folder_or_name_in_any_case_or_by_a_part_only_it_has(
    wanted: str, found: Known
) -> None:
    assert decide_group(HOME, wanted) == found


def test_the_exact_name_wins_over_longer_ones_that_begin_with_it() -> None:
    short = Known("01DDDDDDDDDDDDDDDDDDDDDDDD", "Research", "research")
    assert decide_group((*HOME, short), "research") == short


@pytest.mark.parametrize("wanted", ["research", "re"])
def test_an_ambiguous_agent_is_refused_with_those_it_could_be(wanted: str) -> None:
    with pytest.raises(OperatorError, match=r"more than one .*researcher .*research-two"):
        decide_group(HOME, wanted)


@pytest.mark.parametrize("wanted", ["", "  ", "nobody", "..", "../main", "a\0b", "x" * 10_000, "%", "\x1b[31m"])
def test_an_agent_nobody_knows_is_refused_with_a_list_and_nothing_that_a_terminal_obeys(wanted: str) -> None:
    with pytest.raises(OperatorError, match="there is no agent") as caught:
        decide_group(HOME, wanted)
    assert len(str(caught.value)) < 1000 and "\x1b" not in str(caught.value) and "\0" not in str(caught.value)


def test_two_agents_of_one_name_are_told_apart_by_their_folders() -> None:
    bobs = (Known("1", "Bob", "bob"), Known("2", "Bob", "bob-2"))
    assert decide_group(bobs, "bob") == bobs[0] and decide_group(bobs, "bob-2") == bobs[1]


def test_a_session_is_meant_by_the_beginning_of_its_id_and_only_one_of_the_terminal() -> None:
    mine = Spoken("01HAAAAAAAA1", "terminal", "main:claw-1")
    other = Spoken("01HAAAAAAAB2", "telegram", "42")
    agents = Spoken("01HCCCCCCCC3", "", "")
    known = (mine, other, agents)
    assert decide_session(known, "01haaaaaaaa1") == decide_session(known, "01HAAAAAAAA") == mine
    for wanted, words in (("01HAAAA", "more than one"), ("01H", "no session"), ("", "no session"), ("zzzzzzz", "no"),
                          (other.session, "telegram"), (agents.session, "no chat")):  # fmt: skip
        with pytest.raises(OperatorError, match=words):
            decide_session(known, wanted)


class Stdin(io.TextIOWrapper):
    """A stdin with these bytes, a terminal or not."""

    def __init__(self, content: bytes, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("words", "content", "pipe", "terminal", "question"),
    [
        (("what", "is", "this"), b"", False, True, "what is this"),
        (("what",), b"ignored", False, False, "what"),
        (("sum", "up"), b"one\ntwo\n", True, False, "sum up\n\none\ntwo"),
        ((), b"only stdin\n", False, False, "only stdin"),
        ((), "héllo".encode(), True, False, "héllo"),
    ],
)
def test_the_question_is_the_words_and_with_pipe_stdin_behind_a_blank_line(
    words: tuple[str, ...], content: bytes, pipe: bool, terminal: bool, question: str
) -> None:
    assert read_question(words, Stdin(content, terminal=terminal), pipe=pipe) == question


def test_nothing_to_ask_is_a_usage_error_and_a_terminal_is_not_waited_for() -> None:
    with pytest.raises(click.UsageError):
        read_question((), Stdin(b"never read", terminal=True), pipe=False)
    with pytest.raises(click.UsageError):
        read_question((" ",), Stdin(b"\n", terminal=False), pipe=True)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"x" * (TEXT_BYTES + 5), "é".encode() * TEXT_BYTES])
def test_what_is_no_text_or_too_long_is_refused_before_any_host_is_started(content: bytes) -> None:
    with pytest.raises(Refused):
        read_question((), Stdin(content, terminal=False), pipe=False)


def run(home: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from nanoclaw.cli.claw import main; sys.exit(main())", *arguments],
        env={"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(home)},
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--runtime", "docker", "hi"), "There is no runtime 'docker'"),
        (("-g", "main", "-s", "01ABCDEF", "hi"), "give -g or -s"),
        (("--timeout", "soon", "hi"), "--timeout"),
        (("--dance",), "--dance"),
        ((), "Say what to do"),
        (("--list-groups",), "nothing in"),
    ],
)
def test_wrong_use_exits_with_2_says_why_on_stderr_and_starts_no_host(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    ended = run(tmp_path / "home", *arguments)
    assert ended.returncode == 2 and words in ended.stderr.decode() and ended.stdout == b""
    assert not (tmp_path / "home" / "run" / "terminal.sock").exists()
