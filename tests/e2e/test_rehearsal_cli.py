"""The real agent CLI talks to a real rehearsal process, with no key and no network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.rehearsal_driver import AgentCli, find_agent_cli, running_rehearsal

pytestmark = pytest.mark.skipif(
    find_agent_cli() is None, reason="no agent CLI: run `.venv/bin/pip install --no-deps -r requirements/agent.txt`"
)
SESSION = "6f1d3c0a-3a53-4f0e-9a59-0d6a4f6e0001"
StartCli = Callable[..., AgentCli]

MCP_SERVER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    match request.get("method"):
        case "initialize":
            version = request["params"]["protocolVersion"]
            info = {"name": "x", "version": "1"}
            result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
            result = {"tools": [{"name": "send_message", "description": "Send.", "inputSchema": schema}]}
        case "tools/call":
            result = {"content": [{"type": "text", "text": "sent " + request["params"]["arguments"]["text"]}]}
        case _:
            result = {}
    if "id" in request:
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
"""


def message(number: int, text: str) -> str:
    """Build a prompt of one message as the runner does."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return f'<context timezone="UTC"/>\n<message id="{number}" from="local" sender="Ada" time="now">{escaped}</message>'


@pytest.fixture
def start_cli(tmp_path: Path) -> Iterator[StartCli]:
    started: list[AgentCli] = []
    with running_rehearsal() as port:

        def start(options: Sequence[str] = ("--setting-sources=",)) -> AgentCli:
            cli = AgentCli(tmp_path / "home", tmp_path / "workspace", port, options)
            started.append(cli)
            return cli

        yield start
        for cli in started:
            cli.close()


def test_lines_are_obeyed_in_order_and_tool_results_come_back(start_cli: StartCli, tmp_path: Path) -> None:
    cli = start_cli()
    lines = 'say: first\nrun: echo a < /dev/null && echo b\nwrite notes.txt: it\'s "here"\nread notes.txt\nsay: last'
    answer = cli.ask(message(2, lines))
    assert answer.startswith("first\na\nb\n")
    assert answer.endswith("last")
    assert 'it\'s "here"' in answer
    assert (tmp_path / "workspace/notes.txt").read_text() == 'it\'s "here"\n'


def test_a_file_that_exists_is_written_over(start_cli: StartCli, tmp_path: Path) -> None:
    cli = start_cli()
    (tmp_path / "workspace/notes.txt").write_text("old\n")
    cli.ask(message(2, "write notes.txt: new"))
    assert (tmp_path / "workspace/notes.txt").read_text() == "new\n"


def test_plain_words_get_a_friendly_answer_that_says_how_to_add_a_key(start_cli: StartCli) -> None:
    answer = start_cli().ask("hello there")
    assert "hello there" in answer
    assert "rehearsal" in answer
    assert "./nanoclaw.sh vault set anthropic" in answer


def test_messages_pushed_during_a_tool_call_are_obeyed_in_the_same_turn(start_cli: StartCli, tmp_path: Path) -> None:
    cli = start_cli()
    cli.push(message(2, "run: until test -e go; do sleep 0.05; done; echo ran"))
    cli.wait_for_call()
    cli.push(message(4, "say: pushed one"))
    cli.push(message(6, "run: echo pushed two"))
    (tmp_path / "workspace/go").touch()
    answer = cli.wait_for_result()
    while answer.count("\n") < 2:  # a push that the CLI read after the tool had ended is a turn of its own
        answer += "\n" + cli.wait_for_result()
    assert answer == "ran\npushed one\npushed two"


def test_messages_that_wait_for_a_sleeping_answer_are_each_answered_once(start_cli: StartCli) -> None:
    cli = start_cli()
    cli.push(message(2, "sleep: 0.5\nsay: awake"))
    for number in range(20):
        cli.push(message(4 + 2 * number, f"say: t{number}"))
    heard: list[str] = []
    while "t19" not in heard:
        heard += cli.wait_for_result().split("\n")
    assert heard == ["awake", *(f"t{number}" for number in range(20))]


def test_a_killed_attempt_is_repeated_and_made_calls_are_not_made_again(start_cli: StartCli, tmp_path: Path) -> None:
    first = start_cli(("--setting-sources=", "--session-id", SESSION))
    work = message(2, "run: echo once >> log; cat log\nrun: until test -e go; do sleep 0.05; done; echo finished")
    first.push(work)
    first.wait_until_saved('"command":"until test -e go')
    first.kill()
    (tmp_path / "workspace/go").touch()
    second = start_cli(("--setting-sources=", "--resume", SESSION))
    assert second.ask(work) == "once\nfinished"
    assert (tmp_path / "workspace/log").read_text() == "once\n"


def test_what_was_interrupted_is_not_wanted_any_more_unless_said_again(start_cli: StartCli) -> None:
    cli = start_cli()
    cli.push(message(2, "run: sleep 20"))
    cli.wait_for_call()
    cli.interrupt()
    cli.wait_for("result")
    assert cli.ask(message(4, "say: next")) == "next"


def test_memory_survives_into_a_new_process_and_history_lists_every_line(start_cli: StartCli) -> None:
    options = ("--setting-sources=project,local",)
    first = start_cli((*options, "--session-id", SESSION))
    assert "Tom" in first.ask(message(2, 'remember: the cat\'s called "Tom" & `$HOME` %s'))
    first.kill()
    second = start_cli((*options, "--resume", SESSION))
    assert second.ask(message(4, "recall")) == 'the cat\'s called "Tom" & `$HOME` %s'
    history = second.ask(message(6, "history"))
    assert history.split("\n") == ['- remember: the cat\'s called "Tom" & `$HOME` %s', "- recall", "- history"]


def test_a_tool_of_an_mcp_server_is_called_by_its_short_name(start_cli: StartCli, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(MCP_SERVER)
    server = {"command": sys.executable, "args": [str(tmp_path / "server.py")]}
    config = json.dumps({"mcpServers": {"nanoclaw": server}})
    cli = start_cli(("--setting-sources=", "--mcp-config", config))
    answer = cli.ask(message(2, 'say: calling\ntool: send_message {"text": "yo"}'))
    assert answer == "calling\nsent yo"


@pytest.mark.parametrize("kind", ["400", "401", "500", "garbage", "nothing"])
def test_a_failure_ends_in_an_error_and_the_next_message_is_answered(start_cli: StartCli, kind: str) -> None:
    cli = start_cli()
    cli.push(message(2, f"run: echo before\nfail: {kind}"))
    assert cli.wait_for("result")["is_error"]
    assert cli.ask(message(4, "say: better")) == "better"


def test_an_empty_answer_ends_the_turn(start_cli: StartCli) -> None:
    cli = start_cli()
    assert cli.ask(message(2, "say:")) == ""
    assert cli.ask(message(4, "say: hi")).strip() == "hi"


def test_a_compacted_conversation_goes_on_without_obeying_old_lines(start_cli: StartCli) -> None:
    cli = start_cli()
    cli.ask(message(2, "say: early"))
    cli.ask("/compact")
    assert cli.ask(message(4, "say: late")) == "late"
