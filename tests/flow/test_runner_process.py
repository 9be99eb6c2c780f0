"""A real runner process with the echo agent over a real mailbox, outside a box."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runner_process import DEADLINE_SECONDS, Mailbox, RunnerProcess, settings

Start = Callable[..., RunnerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    runners: list[RunnerProcess] = []

    def begin(*texts: str, **changes: object) -> RunnerProcess:
        mailbox = Mailbox(tmp_path / str(len(runners)), settings(**changes))
        for text in texts:
            mailbox.put(text)
        runners.append(RunnerProcess(mailbox))
        return runners[-1]

    yield begin
    for runner in runners:
        runner.process.kill()
        runner.process.communicate()


def test_each_message_is_answered_finished_and_rung_for(start: Start):
    runner = start("hello & <b>")
    runner.wait_texts("hello & <b>")
    second = runner.say("again")
    runner.wait_texts("hello & <b>", "again")
    said = runner.mailbox.said()
    assert [s.reply_to for s in said] == [2, second] and [s.seq for s in said] == [1, 3]
    assert [s.turn for s in said] == ["7-1", "7-2"]
    assert runner.mailbox.acks("taken") == runner.mailbox.acks("finished") == [2, second]
    assert runner.mailbox.state() == {"continuation": "echo", "phase": "idle", "tool": ""}
    code, bells, log = runner.end()
    assert code == 0 and bells.count(b"o") >= 4 and b"h" in bells and "turn.finished turn=7-1" in log


def test_a_message_without_a_doorbell_is_found_by_the_poll(start: Start):
    runner = start("one")
    runner.wait_texts("one")
    runner.mailbox.put("two")
    runner.wait_texts("one", "two")


def test_a_row_without_trigger_waits_and_is_finished_with_the_row_it_rode_with(start: Start):
    runner = start()
    overheard = runner.say("overheard", trigger=False)
    asked = runner.say("asked")
    runner.wait_texts("asked")
    assert runner.mailbox.said()[0].reply_to == asked
    assert runner.mailbox.acks("finished") == [overheard, asked]


def test_twenty_messages_at_once_and_while_it_works_are_answered_in_order(start: Start):
    texts = [f"t{n}" for n in range(20)]
    runner = start(*texts[:5])
    for text in texts[5:]:
        runner.say(text)
    runner.wait_texts(*texts)


def test_what_comes_while_it_sleeps_is_covered_by_the_same_result(start: Start):
    runner = start("sleep: 0.5")
    runner.wait_until(lambda: runner.mailbox.acks("taken"))
    runner.say("during")
    runner.wait_texts("sleep: 0.5\nduring")
    assert runner.mailbox.acks("finished") == [2, 4] and runner.mailbox.said()[0].reply_to == 4


def test_a_silent_turn_is_nudged_once_and_finished_without_a_message(start: Start):
    runner = start("silent", "<internal>only thought")
    runner.wait_until(lambda: runner.mailbox.acks("finished") == [2, 4])
    assert runner.mailbox.said() == []


def test_blocks_reach_their_places_and_an_unknown_place_is_not_dropped(start: Start):
    runner = start('<message to="family">hey</message> and here', '<message to="bob">secret</message>')
    runner.wait_until(lambda: runner.mailbox.acks("finished") == [2, 4])
    assert [(s.text, s.to) for s in runner.mailbox.said()][:2] == [("and here", None), ("hey", "family")]


def test_a_final_error_is_said_in_the_chat_as_a_notice_and_finished(start: Start):
    runner = start("fail: the model said no")
    runner.wait_texts("the model said no")
    assert runner.mailbox.said()[0].notice and runner.mailbox.acks("finished") == [2]


def test_an_unreadable_row_is_refused_in_words_and_the_next_one_answered(start: Start):
    runner = start()
    runner.mailbox.put_raw("chat", "{broken")
    runner.say("fine")
    runner.wait_until(lambda: runner.mailbox.acks("finished") == [2, 4])
    first, second = runner.mailbox.said()
    assert first.notice and "could not be read" in first.text and second.text == "fine"


def test_a_megabyte_and_control_characters_come_through(start: Start):
    runner = start("x" * 1_000_000, "a\x00b")
    runner.wait_texts("x" * 1_000_000, "a\ufffdb")


def test_an_agent_that_exits_fails_its_rows_and_ends_the_run(start: Start):
    runner = start("exit", "next")
    assert runner.process.wait(DEADLINE_SECONDS) == 3
    assert runner.mailbox.acks("failed") == [2, 4] and runner.mailbox.acks("finished") == []
    assert "ended" in runner.mailbox.state()["failure"]


@pytest.mark.parametrize("limit", ["idle_seconds", "turn_seconds"])
def test_an_agent_that_hangs_fails_its_rows(start: Start, limit: str):
    runner = start("hang", **{limit: 0.5})
    assert runner.process.wait(DEADLINE_SECONDS) == 3
    assert runner.mailbox.acks("failed") == [2]


@pytest.mark.parametrize("text", ["sleep: 60", "answered"])
def test_the_end_of_stdin_and_sigterm_stop_it_gracefully(start: Start, text: str):
    for how in ("stdin", "sigterm"):
        runner = start(text)
        runner.wait_until(lambda runner=runner: runner.mailbox.acks("taken"))
        if text == "answered":
            runner.wait_texts("answered")
        if how == "sigterm":
            runner.process.send_signal(signal.SIGTERM)
        code, _, _ = runner.end()
        assert code == 0 and runner.mailbox.acks("failed") == []
        assert runner.mailbox.acks("finished") == ([2] if text == "answered" else [])


def test_a_host_that_reads_no_doorbell_stops_nothing(start: Start):
    runner = start("one")
    runner.wait_texts("one")
    assert runner.process.stdout is not None
    runner.process.stdout.close()
    runner.say("two")
    runner.wait_texts("one", "two")


def test_without_a_run_it_says_so_and_exits_2(tmp_path: Path):
    argv = [sys.executable, "-m", "nanoclaw.runner", "--in", str(tmp_path), "--out", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "runner.refused" in done.stderr and str(tmp_path) in done.stderr


def test_an_agent_that_is_not_there_is_named_and_the_runner_exits_2(start: Start):
    runner = start("hello", provider="claude", agent_binary="/nowhere/claude")
    code, _, log = runner.end()
    assert code == 2 and "/nowhere/claude" in log


def test_an_outbound_file_that_cannot_be_written_ends_the_run(start: Start):
    runner = start("sleep: 0.3")
    runner.wait_until(lambda: runner.mailbox.acks("taken"))
    connection = sqlite3.connect(runner.mailbox.outside / "outbound.db", isolation_level=None)
    connection.execute("DROP TABLE acks")
    connection.close()
    assert runner.process.wait(DEADLINE_SECONDS) == 3
    assert "run.failed" in runner.end()[2]


def test_recover_rolls_back_what_a_killed_runner_left(tmp_path: Path):
    mailbox = Mailbox(tmp_path, settings())
    path = mailbox.outside / "outbound.db"
    # A writer that dies inside a commit: the journal is hot and half of the pages are written.
    dying = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode=PERSIST'); c.execute('PRAGMA cache_size=1'); c.execute('BEGIN IMMEDIATE');"
        "rows = [(n * 2 + 1, 't', 'chat', 'x' * 3000) for n in range(200)];"
        "c.executemany('INSERT INTO messages VALUES (?, ?, NULL, ?, ?)', rows);"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", dying, str(path)]).returncode == 9
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("SELECT count(*) FROM messages").fetchall()
    reader.close()
    argv = [sys.executable, "-m", "nanoclaw.runner", "--recover", "--in", str(tmp_path), "--out", str(mailbox.outside)]
    assert subprocess.run(argv, stdin=subprocess.DEVNULL).returncode == 0
    assert mailbox.said() == []


def test_it_starts_from_the_folder_the_box_gets_and_stays_small(tmp_path: Path):
    source = Path(__file__).parents[2] / "src" / "nanoclaw"
    box = tmp_path / "opt"
    (box / "nanoclaw").mkdir(parents=True)
    for name in ("contract", "errors.py", "runner"):
        os.symlink(source / name, box / "nanoclaw" / name)
    os.symlink(source / "runner" / "__main__.py", box / "__main__.py")
    mailbox = Mailbox(tmp_path / "mailbox", settings())
    mailbox.put("hello")
    argv = [sys.executable, "-I", "-S", str(box), "--in", str(mailbox.inside), "--out", str(mailbox.outside)]
    runner = RunnerProcess(mailbox, argv=argv)
    runner.wait_texts("hello")
    status = Path(f"/proc/{runner.process.pid}/status").read_text()
    resident_kb = int(status.split("VmRSS:")[1].split()[0])
    code, _, _ = runner.end()
    assert code == 0 and resident_kb <= 26 * 1024, "the runner is paid for in every box"


def test_a_command_of_the_providers_own_is_pushed_alone_and_raw(start: Start):
    runner = start("sleep: 0.3")
    runner.wait_until(lambda: runner.mailbox.acks("taken") == [2])
    runner.mailbox.put("overheard", trigger=False)
    command = runner.mailbox.put_command("/echo raw & <b>")
    runner.say("after")
    runner.wait_texts("sleep: 0.3", "raw & <b>", "after")
    said = runner.mailbox.said()
    assert [one.reply_to for one in said] == [2, command, command + 2]
    assert len({one.turn for one in said}) == 3
    assert sorted(runner.mailbox.acks("finished")) == [2, 4, 6, 8]


def test_a_command_that_says_nothing_is_answered_all_the_same_and_not_nudged(start: Start):
    runner = start()
    runner.mailbox.put_command("/echo")
    runner.ring()
    runner.wait_texts("/echo is done.")


def test_a_command_the_provider_does_not_know_is_answered_in_plain_words(start: Start):
    runner = start()
    for text in ("/clear", "/echox hi", "/compact"):
        runner.mailbox.put_command(text)
    runner.ring()
    runner.wait_texts(*(f"This agent does not know the command {name}." for name in ("/clear", "/echox", "/compact")))
    assert runner.mailbox.acks("finished") == [2, 4, 6]


def test_words_that_look_like_a_command_are_words_unless_the_host_says_otherwise(start: Start):
    runner = start("/echo hi", "/echox")
    runner.wait_texts("/echo hi", "/echox")
