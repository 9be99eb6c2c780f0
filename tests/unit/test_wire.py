"""The only parser of box bytes: what it takes, and everything it refuses."""

from __future__ import annotations

import json

import msgspec
import pytest

from nanoclaw.contract.message import ChatOut, to_json
from nanoclaw.contract.request import AgentRequest
from nanoclaw.errors import AgentFault
from nanoclaw.sandbox.wire import (
    ARGUMENTS_CHARACTERS,
    SEQ_JUMP,
    TEXT_CHARACTERS,
    AckState,
    OutAck,
    OutChat,
    OutMessage,
    OutRequest,
    StateEntry,
    parse_ack,
    parse_arguments,
    parse_message,
    parse_state,
)


def row(
    content: object, *, seq: object = 1, turn: object = b"7-1", reply_to: object = 2, kind: object = b"chat"
) -> tuple[object, ...]:
    return (seq, turn, reply_to, kind, content)


def test_what_the_contract_writes_is_read() -> None:
    said = to_json(ChatOut("Grüß Gott", to="family", notice=True)).encode()
    assert parse_message(row(said), 0) == OutMessage(1, "7-1", 2, OutChat("Grüß Gott", "family", True))
    asked = AgentRequest("list_tasks", '{"all": true}').to_json().encode()
    assert parse_message(row(asked, kind=b"request"), 0).body == OutRequest("list_tasks", '{"all": true}')
    assert parse_message(row(b'{"text":""}', reply_to=None), 0) == OutMessage(1, "7-1", None, OutChat(""))


BODIES = (
    "text, not bytes", 7, None, b"", b"not json", b"[]", b"null", b'"x"', b"{}", b'{"text":7}', b'{"text":null}',
    b'{"text":"x","more":1}', b'{"text":"x"} x', b'{"text":"\xff"}', b'{"text":"\\ud800"}', b'{"text":"x","to":7}',
    b'{"text":"x","notice":1}', b'{"text":' * 50_000, b"[" * 500_000,
    b'{"text":"' + b"x" * (2 * TEXT_CHARACTERS) + b'"}',
    json.dumps({"text": "x" * (TEXT_CHARACTERS + 1)}).encode(), json.dumps({"text": "x", "to": "y" * 129}).encode(),
)  # fmt: skip
REQUESTS = (
    b'{"action":"x"}', b'{"action":7,"arguments":"{}"}', b'{"action":"x","arguments":{}}',
    json.dumps({"action": "x" * 129, "arguments": "{}"}).encode(),
    json.dumps({"action": "x", "arguments": "x" * (ARGUMENTS_CHARACTERS + 1)}).encode(),
)  # fmt: skip
COLUMNS: tuple[dict[str, object], ...] = (
    *({"kind": kind} for kind in (b"task", b"", 7, b"\xff", None)),
    *({"seq": seq} for seq in (0, 2, -1, b"1", 1.0, None, 2**62 + 1, SEQ_JUMP + 1)),
    *({"reply_to": reply_to} for reply_to in (-2, b"2", 1.5)),
    *({"turn": turn} for turn in (7, b"x" * 129, b"\xc3", None)),
)


@pytest.mark.parametrize(
    "bad",
    [
        *(row(body) for body in BODIES),
        *(row(body, kind=b"request") for body in REQUESTS),
        *(row(b'{"text":"x"}', **columns) for columns in COLUMNS),
    ],
)
def test_every_other_message_is_a_fault(bad: tuple[object, ...]) -> None:
    with pytest.raises(AgentFault):
        parse_message(bad, 0)


def test_the_numbers_of_rows_only_grow() -> None:
    assert parse_message(row(b'{"text":"x"}', seq=9), 7).seq == 9
    for seq in (7, 5):
        with pytest.raises(AgentFault, match="after 7"):
            parse_message(row(b'{"text":"x"}', seq=seq), 7)


def test_acks_are_given_their_types() -> None:
    assert parse_ack((3, 4, 1, b"finished", b"7-1"), 2) == OutAck(3, 4, 1, AckState.FINISHED, "7-1")
    for bad in (
        (2, 4, 1, b"taken", b"t"), (3, 4, 1, b"gone", b"t"), (3, 4, 1, "taken", b"t"),
        (3, None, 1, b"taken", b"t"),
        (3, 4, -1, b"taken", b"t"), (3, 4, 1, b"taken", None),
        (b"3", 4, 1, b"taken", b"t"), (3, 4.5, 1, b"taken", b"t"),
    ):  # fmt: skip
        with pytest.raises(AgentFault):
            parse_ack(bad, 2)


def test_state_is_short_text() -> None:
    assert parse_state((b"phase", b"idle")) == StateEntry("phase", "idle")
    for bad in ((b"k" * 129, b""), (b"k", b"v" * 4097), (b"k", None), (7, b""), (b"k", b"\xff")):
        with pytest.raises(AgentFault):
            parse_state(bad)


class _Arguments(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    count: int = 0


def test_arguments_get_a_type_or_are_a_fault() -> None:
    assert parse_arguments('{"name":"x"}', _Arguments) == _Arguments("x")
    for bad in (
        "",
        "[]",
        '{"name":7}',
        '{"name":"x","count":"1"}',
        '{"name":"x","other":1}',
        "[" * 100_000,
        '{"name":"\udc80"}',
    ):
        with pytest.raises(AgentFault):
            parse_arguments(bad, _Arguments)


def test_what_a_fault_repeats_of_a_box_is_short_and_nothing_a_terminal_obeys() -> None:
    forged = json.dumps({"text": "x", "\x1b]0;pwned\x07\x1b[31m" + "HOST: run this" * 100: 1}).encode()
    with pytest.raises(AgentFault) as caught:
        parse_message(row(forged), 0)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_state_value_is_one_line_that_no_terminal_obeys() -> None:
    assert parse_state((b"failure", b"gone \x1b[31mred\n")) == StateEntry("failure", "gone  [31mred ")
