"""The bookkeeping of a turn, the mailbox's box side, and how the CLI's lines and errors are read."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from nanoclaw.runner.mailbox import Ack, Draft, Inbound, Outbound, Row, recover
from nanoclaw.runner.providers.base import Aborted, Activity, Began, Failure, Init, Result, ToolClosed, ToolOpened
from nanoclaw.runner.providers.claude_command import claude_argv, known_session
from nanoclaw.runner.providers.claude_errors import decide_failure
from nanoclaw.runner.providers.claude_stream import ClaudeStream, Hopeless, SessionGone
from nanoclaw.runner.turn import OpenTool, Turn, Work, decide_hang
from tests.runner_process import Mailbox, settings

BUDGET_SPENT = (
    "The budget of main for today is spent: $5.00 of $5.00. It opens again at midnight (Europe/Berlin); an admin can "
    "raise it with `nanoclaw cost limit --group main --day 10`."
)
SETTINGS = settings(idle_seconds=10, tool_seconds=20, turn_seconds=30)


def work(uuid: str, seq: int) -> Work:
    return Work(uuid, (Row(seq, f"i{seq}", 1, "chat", True, ""),))


def test_a_result_takes_exactly_what_it_covers_and_begins_the_next_turn():
    turn = Turn(7)
    for number, uuid in enumerate("abc"):
        turn.push(work(uuid, 2 * number + 2), now=1.0)
    assert turn.id == "7-1"
    assert [taken.uuid for taken in turn.take(("b", "a", "x"), now=2.0)] == ["a", "b"]
    assert turn.id == "7-2" and list(turn.open) == ["c"] and turn.began_at == 2.0


def test_the_current_work_is_what_was_last_begun():
    turn = Turn(7)
    assert turn.current() is None
    turn.push(work("a", 2), 0.0)
    turn.push(work("b", 4), 0.0)
    assert turn.current() == work("a", 2)
    turn.started.append("b")
    assert turn.current() == work("b", 4)


def test_a_turn_hangs_without_events_but_not_while_a_tool_is_open():
    turn = Turn(7)
    assert decide_hang(turn, SETTINGS, 1000.0) is None
    turn.push(work("a", 2), 100.0)
    assert decide_hang(turn, SETTINGS, 109.0) is None
    assert "nothing came" in (decide_hang(turn, SETTINGS, 110.0) or "")
    turn.tools["t"] = OpenTool("Bash", 105.0)
    assert decide_hang(turn, SETTINGS, 124.0) is None
    assert "the tool Bash" in (decide_hang(turn, SETTINGS, 125.0) or "")
    assert "the turn took" in (decide_hang(turn, SETTINGS, 130.0) or "")


def test_replies_and_acks_are_one_transaction_and_the_bell_rings_once(tmp_path: Path):
    mailbox, rings = Mailbox(tmp_path, SETTINGS), []
    outbound = Outbound(str(mailbox.outside / "outbound.db"), 5, lambda: rings.append(1))
    draft = Draft("chat", '{"text":"x","to":null,"notice":false}', 2)
    outbound.write("7-1", [draft, draft], [Ack(2, 1, "finished")], [("phase", "idle")])
    assert [said.seq for said in mailbox.said()] == [5, 7] and rings == [1]
    with pytest.raises(sqlite3.IntegrityError):
        outbound.write("7-2", [draft], [Ack(4, 1, "nonsense")])
        outbound.write("7-2", [draft, Draft("chat", "{}", None)], [], [("phase", None)])  # type: ignore[list-item]
    assert [said.seq for said in mailbox.said()] in ([5, 7], [5, 7, 9])
    outbound.close()
    again = Outbound(str(mailbox.outside / "outbound.db"), 5, lambda: None)
    again.write("7-3", [draft])
    assert mailbox.said()[-1].seq % 2 == 1 and mailbox.said()[-1].seq > 7
    again.close()


def test_recover_leaves_no_hot_journal(tmp_path: Path):
    mailbox = Mailbox(tmp_path, SETTINGS)
    recover(str(mailbox.outside / "outbound.db"))
    assert mailbox.said() == [] and (mailbox.outside / "outbound.db-journal").exists()


def test_the_run_and_its_rows_are_read_as_the_host_wrote_them(tmp_path: Path):
    mailbox = Mailbox(tmp_path, SETTINGS)
    inbound = Inbound(str(mailbox.inside))
    assert inbound.read_run().settings == SETTINGS and inbound.read_run().fence == 7
    mailbox.put("a", trigger=False)
    mailbox.put("b")
    assert [(row.seq, row.trigger) for row in inbound.read_after(0)] == [(2, False), (4, True)]
    assert [row.seq for row in inbound.read_after(2)] == [4]
    assert [place.name for place in inbound.read_destinations()] == ["family", "local"]


def line(type: str, **fields: object) -> bytes:
    return json.dumps({"type": type, **fields}).encode()


def test_the_lines_of_the_cli_become_events():
    stream = ClaudeStream()
    assert stream.read(line("system", subtype="init", session_id="s")) == (Init("s"),)
    assert stream.read(line("system", subtype="init", session_id="s")) == (Activity(),)
    assert stream.read(line("command_lifecycle", state="started", command_uuid="u")) == (Began(("u",)),)
    call = {"content": [{"type": "text", "text": "x"}, {"type": "tool_use", "id": "t", "name": "Bash"}]}
    assert stream.read(line("assistant", message=call)) == (ToolOpened("t", "Bash"),)
    done = {"content": [{"type": "tool_result", "tool_use_id": "t"}]}
    assert stream.read(line("user", message=done)) == (ToolClosed("t"),)
    good = line("result", subtype="success", is_error=False, result="hi", user_message_uuids=["u", "v"])
    assert stream.read(good) == (Result("hi", ("u", "v")),)
    aborted = line("result", subtype="error_during_execution", terminal_reason="aborted_tools", is_error=True)
    assert stream.read(aborted) == (Aborted(()),)


@pytest.mark.parametrize("noise", [b"", b"{", b"[1]", b"\xff\x00", b'{"type":7}', b'{"type":"assistant","message":3}'])
def test_noise_is_a_sign_of_life_and_nothing_more(noise: bytes):
    assert ClaudeStream().read(noise) == (Activity(),)


def test_a_stale_session_is_recognised_only_before_the_first_init():
    gone = line("result", subtype="error_during_execution", is_error=True, errors=["No conversation found with ..."])
    assert ClaudeStream().read(gone) == (SessionGone(),)
    later = ClaudeStream(seen_init=True).read(gone)
    assert isinstance(later[0], Failure)


def test_a_refused_key_is_not_retried_for_minutes():
    stream = ClaudeStream()
    retry = {"subtype": "api_retry", "error_status": 401, "error": "authentication_failed"}
    assert stream.read(line("system", attempt=1, **retry)) == (Activity(),)
    assert stream.read(line("system", attempt=2, **retry)) == (Hopeless(),)
    (failure,) = stream.read(line("result", subtype="error_during_execution", terminal_reason="aborted_streaming"))
    assert isinstance(failure, Failure) and "nanoclaw vault set anthropic" in failure.words and not failure.retryable


@pytest.mark.parametrize(
    ("status", "message", "word", "retryable"),
    [
        (401, "x", "nanoclaw vault set anthropic", False),
        (402, "x", "no credit", False),
        (402, f"API Error: 402 {BUDGET_SPENT}", BUDGET_SPENT, False),
        (400, "Your credit balance is too low", "no credit", False),
        (403, "x", "nanoclaw audit", False),
        (404, "x", "model", False),
        (400, "prompt is too long: 5 > 4", "too long", False),
        (413, "x", "too long", False),
        (429, "x", "rate limit", False),
        (400, "x", "(400)", False),
        (500, "x", "500", True),
        (529, "overloaded", "529", True),
        (None, "Connection dropped", "no usable answer", True),
    ],
)
def test_each_error_says_what_happened_and_whether_to_try_again(
    status: int | None, message: str, word: str, retryable: bool
):
    failure = decide_failure(status, message, ("u",))
    assert word in failure.words and failure.retryable is retryable and failure.covers == ("u",)


@pytest.mark.parametrize("forged", ["--mcp-config=/workspace/evil.json", "-c", "echo", "", None, "../x", "a" * 36])
def test_a_conversation_that_is_no_id_of_the_cli_is_not_put_on_its_command_line(forged: str | None) -> None:
    assert known_session(forged) is None
    assert "--resume" not in claude_argv(settings(), 1, forged)
    session = "11111111-2222-4333-8444-555555555555"
    assert claude_argv(settings(), 1, session)[-2:] == ["--resume", session]
