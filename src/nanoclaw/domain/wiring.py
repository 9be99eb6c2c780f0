"""Which chats wake which agents, when, and for whom; and what a chat's gate does with strangers."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import Any, NewType, Protocol, cast

import re2  # pyright: ignore[reportMissingTypeStubs]

from nanoclaw.domain.people import Standing
from nanoclaw.domain.verdict import Allow, Ask, Deny, Verdict
from nanoclaw.errors import Refused

MOST_PATTERN = 512  # characters
MOST_COMPILED = 1000  # patterns kept compiled
UNKNOWN_WORDS = "I only talk to people I know here. Ask whoever runs this assistant to add you."
PATTERN_MEMORY = 1 << 20  # bytes a compiled pattern may use; RE2 takes linear time whatever the pattern

AgentGroupId = NewType("AgentGroupId", str)
MessagingGroupId = NewType("MessagingGroupId", str)
WiringId = NewType("WiringId", str)


class EngageMode(StrEnum):
    """When a message engages the agent. Pattern `.` means always."""

    PATTERN = "pattern"
    MENTION = "mention"
    MENTION_STICKY = "mention-sticky"


class SessionMode(StrEnum):
    """Which messages share a session."""

    SHARED = "shared"
    PER_THREAD = "per-thread"
    AGENT_SHARED = "agent-shared"


class SenderScope(StrEnum):
    """Whose messages engage the agent."""

    ALL = "all"
    KNOWN = "known"


class IgnoredMessagePolicy(StrEnum):
    """What becomes of a message that did not engage the agent."""

    DROP = "drop"
    ACCUMULATE = "accumulate"


class UnknownSenderPolicy(StrEnum):
    """What a chat does with somebody who is no member of the agent group."""

    STRICT = "strict"
    REQUEST_APPROVAL = "request_approval"
    PUBLIC = "public"


class Rule(StrEnum):
    """Why a wiring's agent gets a message; kept with the row (`routed_by`) for `trace`."""

    PATTERN = "pattern"
    MENTION = "mention"  # the platform says so
    NAME = "name"  # the text calls the agent by its own name
    DIRECT = "direct"  # a direct chat counts as a mention
    STICKY = "sticky"  # the wiring listens to this thread since a mention in it
    CONTEXT = "context"  # overheard: it rides along with the next message that engages


class _Compiled(Protocol):
    def search(self, text: str) -> object | None: ...


class Patterns:
    """The patterns of wirings, compiled once. One that does not compile is found in nothing."""

    def __init__(self) -> None:
        self._compiled: dict[str, _Compiled | None] = {}

    def finds(self, pattern: str | None, text: str) -> bool:
        """Return whether a pattern is found anywhere in a text; `.` in every text, None in no text."""
        if pattern == "." or pattern is None:
            return pattern is not None
        if pattern not in self._compiled:
            if len(self._compiled) >= MOST_COMPILED:
                self._compiled.clear()
            self._compiled[pattern] = _compile_or_none(pattern)
        compiled = self._compiled[pattern]
        try:
            return compiled is not None and compiled.search(text) is not None
        except UnicodeEncodeError:  # a lone surrogate, which is in no text of a person
            return False


def check_pattern(text: str) -> str:
    """Return a pattern that may be set. Raises Refused."""
    if not text:
        raise Refused("A pattern may not be empty. `.` stands for every message.")
    if len(text) > MOST_PATTERN:
        raise Refused(f"A pattern may have {MOST_PATTERN} characters; this one has {len(text)}.")
    try:
        _compile(text)
    except ValueError as error:
        raise Refused(f"The pattern {text!r} is not a regular expression of RE2: {error}.") from error
    return text


def decide_called(text: str, names: list[str]) -> frozenset[str]:
    """Decide which agents a text calls: `@Andy`, in any case, as a word of its own.

    Where two names begin alike (`Andy`, `Andy Smith`) the longer one is meant.
    """
    if "@" not in text:
        return frozenset()
    folded, taken, called = fold(text), set[int](), set[str]()
    for name in sorted(set(names), key=len, reverse=True):
        wanted = "@" + fold(name)
        at = folded.find(wanted) if name else -1
        while at >= 0:
            if at not in taken and _is_alone(folded, at, at + len(wanted)):
                taken.add(at)
                called.add(name)
            at = folded.find(wanted, at + len(wanted))
    return frozenset(called)


def decide_admission(policy: UnknownSenderPolicy, standing: Standing) -> Verdict:
    """Decide whether a sender's message may reach an agent, by how they stand to its agent group."""
    if standing.is_known:
        return Allow(standing.value)
    match policy:
        case UnknownSenderPolicy.PUBLIC:
            return Allow("public")
        case UnknownSenderPolicy.REQUEST_APPROVAL:
            return Ask("unknown_sender")
        case UnknownSenderPolicy.STRICT:
            return Deny("unknown_sender_strict", UNKNOWN_WORDS)


def _compile(pattern: str) -> _Compiled:
    engine = cast("Any", re2)  # it has no types
    options = engine.Options()
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        return cast("_Compiled", engine.compile(pattern, options))
    except engine.error as error:
        raise ValueError(error.args[0].decode("utf-8", "replace")) from error


def _compile_or_none(pattern: str) -> _Compiled | None:
    try:
        return _compile(pattern)
    except ValueError:
        return None


def fold(text: str) -> str:
    """Return a text as names are compared: in one case, accents composed."""
    return unicodedata.normalize("NFC", text).casefold()


def _is_alone(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() or before in ("_", "@")) and not (after.isalnum() or after == "_")
