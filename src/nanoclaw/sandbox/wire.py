"""The only parser of bytes that a box wrote. Strict, bounded, and it guesses nothing.

In: column values of `outbound.db` as SQLite gave them (text as bytes). Out: frozen structs. Fails: AgentFault.
Never: a partly parsed row; a path, name or id from a box used as anything but text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from nanoclaw.errors import AgentFault

CONTENT_BYTES = 1024 * 1024 + 64 * 1024  # one message of 1 MiB of text and its JSON around it
TEXT_CHARACTERS = 1024 * 1024
ARGUMENTS_CHARACTERS = 256 * 1024
NAME_CHARACTERS = 128
STATE_CHARACTERS = 4096
PLAIN_CHARACTERS = 200
MOST_FILES = 10  # in one message
SEQ_JUMP = 1_000_000  # a run cannot push its session's numbers towards the end of 63 bits

T = TypeVar("T")


class AckState(StrEnum):
    """What a runner says of a row it was given."""

    TAKEN = "taken"
    FINISHED = "finished"
    FAILED = "failed"


class OutChat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chat message of the agent (contract/message.py ChatOut)."""

    text: str
    to: str | None = None
    notice: bool = False
    files: tuple[str, ...] = ()


class OutRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request of the agent; `arguments` is a JSON object, still text: `parse_arguments` gives it a type."""

    action: str
    arguments: str


class OutMessage(msgspec.Struct, frozen=True):
    """One row of the box's `messages`."""

    seq: int
    turn: str
    reply_to: int | None
    body: OutChat | OutRequest


class OutAck(msgspec.Struct, frozen=True):
    """One row of the box's `acks`."""

    rowid: int
    seq: int
    attempt: int
    state: AckState
    turn: str


class StateEntry(msgspec.Struct, frozen=True):
    """One row of the box's `state`."""

    key: str
    value: str


def parse_message(row: tuple[object, ...], after: int) -> OutMessage:
    """Return the typed row (seq, turn, reply_to, kind, content); AgentFault when it is anything else."""
    seq, turn, reply_to, kind, content = row
    number = _number(seq, "seq")
    if number % 2 != 1 or not after < number <= after + SEQ_JUMP:
        raise AgentFault(f"outbound message has seq {number} after {after}")
    answered = None if reply_to is None else _number(reply_to, "reply_to")
    return OutMessage(number, _name(turn, "turn"), answered, _body(_name(kind, "kind"), content))


def parse_ack(row: tuple[object, ...], after: int) -> OutAck:
    """Return the typed row (rowid, seq, attempt, state, turn); AgentFault when it is anything else."""
    rowid, seq, attempt, state, turn = row
    number = _number(rowid, "rowid")
    if number <= after:
        raise AgentFault(f"ack has rowid {number} after {after}")
    try:
        known = AckState(_name(state, "state"))
    except ValueError:
        raise AgentFault("ack has an unknown state") from None
    return OutAck(number, _number(seq, "seq"), _number(attempt, "attempt"), known, _name(turn, "turn"))


def parse_state(row: tuple[object, ...]) -> StateEntry:
    """Return the typed row (key, value); AgentFault when it is anything else."""
    key, value = row
    return StateEntry(_name(key, "key"), plain(_text(value, "state value", STATE_CHARACTERS)))


def parse_arguments(raw: str, into: type[T]) -> T:
    """Decode a request's arguments into a msgspec Struct; AgentFault says which field is wrong."""
    return _decode(raw, into, "arguments")


def is_file_name(name: str) -> bool:
    """Return whether a name is one plain component of a path, printable and at most 128 characters."""
    return 1 <= len(name) <= NAME_CHARACTERS and name.isprintable() and "/" not in name and name not in (".", "..")


def _body(kind: str, content: object) -> OutChat | OutRequest:
    if not isinstance(content, bytes) or len(content) > CONTENT_BYTES:
        raise AgentFault("outbound message is not text or is larger than 1 MiB")
    if kind == "chat":
        chat = _decode(content, OutChat, "chat message")
        if len(chat.text) > TEXT_CHARACTERS or len(chat.to or "") > NAME_CHARACTERS:
            raise AgentFault("chat message is too long")
        if len(chat.files) > MOST_FILES or not all(is_file_name(name) for name in chat.files):
            raise AgentFault("chat message names files that cannot be")
        return chat
    if kind == "request":
        request = _decode(content, OutRequest, "request")
        if len(request.arguments) > ARGUMENTS_CHARACTERS or len(request.action) > NAME_CHARACTERS:
            raise AgentFault("request is too long")
        return request
    raise AgentFault("outbound message has an unknown kind")


def _decode(content: bytes | str, into: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(content, type=into, strict=True)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise AgentFault(f"{what} is not as agreed: {plain(str(error))[:PLAIN_CHARACTERS]}") from None


def plain(text: str) -> str:
    """Return text of a box's that is safe in a log line and a terminal: printable, on one line."""
    return "".join(character if character.isprintable() else " " for character in text)


def _number(value: object, what: str) -> int:
    if not isinstance(value, int) or value < 0:
        raise AgentFault(f"{what} is not a number of a row")
    return value


def _name(value: object, what: str) -> str:
    return _text(value, what, NAME_CHARACTERS)


def _text(value: object, what: str, characters: int) -> str:
    if not isinstance(value, bytes) or len(value) > 4 * characters:
        raise AgentFault(f"{what} is not text or too long")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise AgentFault(f"{what} is not UTF-8") from None
    if len(text) > characters:
        raise AgentFault(f"{what} is too long")
    return text
