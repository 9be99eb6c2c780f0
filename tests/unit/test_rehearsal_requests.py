"""Recorded requests of the real CLI, one of each kind, and what the rehearsal model makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoclaw.rehearsal.conversation import parse_conversation
from nanoclaw.rehearsal.decide import Action, Answer, Call, decide_action
from nanoclaw.rehearsal.json_value import Json, parse_json
from nanoclaw.rehearsal.sidecall import find_side_answer

FOLDER = Path(__file__).parents[1] / "fixtures" / "claude-requests"


def load(name: str) -> Json:
    return parse_json((FOLDER / f"{name}.json").read_bytes())


def decide(name: str) -> Action:
    request = load(name)
    assert find_side_answer(request) is None
    return decide_action(parse_conversation(request), "nonce")


def test_a_first_turn_starts_with_its_tool_call() -> None:
    call = decide("first-turn")
    assert isinstance(call, Call)
    assert (call.tool, call.arguments["command"]) == ("Bash", "echo one")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("after-tool", "hi\none"),
        ("pushed-during-tool", "two\nthree & a <b>\nfour"),
        ("joined-while-waiting", "five\nsix"),
        ("after-interrupt", "seven"),
        ("after-failure", "eight"),
        ("resumed-after-kill", "eight and a half"),
        ("no-visible-output", ""),
        ("after-summary", "nine"),
        ("subagent", "from below"),
    ],
)
def test_a_request_is_answered_with_what_is_still_open(name: str, text: str) -> None:
    action = decide(name)
    assert isinstance(action, Answer)
    assert action.text == text


def test_the_memory_and_the_folder_are_found() -> None:
    conversation = parse_conversation(load("first-turn"))
    assert conversation.memory == "- the cat is called Tom"
    assert conversation.directory == "/workspace"


def test_a_request_to_summarise_gets_the_lines_of_the_user() -> None:
    answer = find_side_answer(load("summarise"))
    assert answer
    assert answer.startswith("<analysis>")
    assert "- say: hi" in answer


def test_a_web_search_gets_something_harmless() -> None:
    assert find_side_answer(load("web-search")) == "Rehearsal"


def test_a_structured_side_call_gets_the_smallest_value_of_its_schema() -> None:
    properties: Json = {"title": {"type": "string"}, "ok": {"type": "boolean"}, "kind": {"enum": ["a", "b"]}}
    schema: Json = {"type": "object", "properties": properties, "required": ["title", "ok", "kind"]}
    form: Json = {"format": {"type": "json_schema", "schema": schema}}
    request: Json = {"messages": [{"role": "user", "content": "run: rm"}], "output_config": form, "tools": []}
    assert json.loads(find_side_answer(request) or "") == {"title": "Rehearsal", "ok": False, "kind": "a"}


def test_a_side_call_of_the_cli_without_tools_is_not_obeyed() -> None:
    system = "x-anthropic-billing-header: cc_version=2.1.329; cc_entrypoint=sdk-cli;"
    request: Json = {"system": [{"type": "text", "text": system}], "messages": [{"role": "user", "content": "run: rm"}]}
    assert find_side_answer(request) == "Rehearsal"


def test_no_fixture_names_a_machine_or_a_key() -> None:
    for path in FOLDER.glob("*.json"):
        text = path.read_text()
        assert "/tmp/" not in text, path
        assert "sk-ant" not in text, path
        assert '"user_id": "removed"' in text, path
