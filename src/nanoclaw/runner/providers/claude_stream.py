"""Reads the CLI's stream-json lines and says what they mean. No I/O.

Facts (CLI 2.1.329, run): a `result` names the pushes it answers in `user_message_uuids`; a push during a tool call
folds into the running turn, pushes during text wait and are answered together by the next; an interrupted turn ends
with a result whose `terminal_reason` begins with `aborted`; a stale `--resume` gives a result with `errors` before any
init, then exit 1; `api_retry` comes before each of the CLI's own retries, also after 401.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nanoclaw.runner.fields import Fields, parse_object
from nanoclaw.runner.providers.base import (
    Aborted,
    Activity,
    Began,
    Event,
    Init,
    Missing,
    Result,
    ToolClosed,
    ToolOpened,
)
from nanoclaw.runner.providers.claude_errors import SESSION_GONE, decide_failure

PARTIAL = b'{"type":"stream_event"'
HOPELESS = (401, 403)  # the CLI retries these for minutes; after two answers we do not


@dataclass(frozen=True, slots=True)
class SessionGone:
    """The session that was to be resumed does not exist."""


@dataclass(frozen=True, slots=True)
class Hopeless:
    """The CLI goes on retrying what cannot succeed; interrupt it."""


Reading = Event | SessionGone | Hopeless


@dataclass(slots=True)
class ClaudeStream:
    """The little state that reading the stream needs."""

    continuation: str = ""
    refused_with: int | None = None  # status of a hopeless retry
    refused_detail: str = ""
    seen_init: bool = field(default=False)
    message_id: str = ""  # of the last message, and what its text blocks say
    said: tuple[str, ...] = ()
    without: tuple[str, ...] = ()  # MCP servers that did not start

    def read(self, line: bytes) -> tuple[Reading, ...]:
        """Say what one line means; a line that is no JSON object is a sign of life and nothing more."""
        if line.startswith(PARTIAL):
            return (Activity(),)
        fields = parse_object(line)
        if fields is None:
            return (Activity(),)
        match fields.text("type"):
            case "system":
                return self._system(fields)
            case "assistant":
                self._keep_text(fields)
                return tools_opened(fields)
            case "user":
                return tools_closed(fields)
            case "command_lifecycle" if fields.text("state") == "started":
                return (Began((fields.text("command_uuid"),)),)
            case "result":
                return self._result(fields)
            case _:
                return (Activity(),)

    def _system(self, fields: Fields) -> tuple[Reading, ...]:
        if fields.text("subtype") == "init":
            self.seen_init = True
            missing = self._find_missing(fields)
            if fields.text("session_id") == self.continuation:
                return missing or (Activity(),)
            self.continuation = fields.text("session_id")
            return (Init(self.continuation), *missing)
        if fields.text("subtype") == "api_retry":
            status, attempt = fields.number("error_status"), fields.number("attempt") or 0
            if status in HOPELESS and attempt >= 2 and self.refused_with is None:
                self.refused_with, self.refused_detail = status, fields.text("error")
                return (Hopeless(),)
        return (Activity(),)

    def _find_missing(self, fields: Fields) -> tuple[Reading, ...]:
        """Name the MCP servers that did not start, each once; the turn goes on without them (run)."""
        servers = [server for server in fields.children("mcp_servers") if server.text("status") != "connected"]
        names = tuple(name for server in servers if (name := server.text("name")) not in self.without)
        self.without = (*self.without, *names)
        return (Missing(names),) if names else ()

    def _result(self, fields: Fields) -> tuple[Reading, ...]:
        covers = fields.texts("user_message_uuids")
        errors = " ".join(fields.texts("errors"))
        status, self.refused_with = self.refused_with, None
        if not self.seen_init and any(mark in errors.lower() for mark in SESSION_GONE):
            return (SessionGone(),)
        if status is not None:
            return (decide_failure(status, self.refused_detail, covers),)
        if fields.text("terminal_reason").startswith("aborted"):
            return (Aborted(covers),)
        if fields.flag("is_error") or fields.text("subtype") != "success":
            message = fields.text("result") or errors or fields.text("subtype")
            return (decide_failure(fields.number("api_error_status"), message, covers),)
        texts, self.said = self.said, ()
        result = fields.text("result")
        return (Result("".join(texts) if texts and texts[-1] == result else result, covers),)

    def _keep_text(self, fields: Fields) -> None:
        """Keep the text blocks of the last message: a result carries only the last of them (run)."""
        if fields.text("parent_tool_use_id"):
            return  # a sub-agent's words
        message = fields.child("message")
        if message.text("id") != self.message_id:
            self.message_id, self.said = message.text("id"), ()
        texts = (block.text("text") for block in message.children("content") if block.text("type") == "text")
        self.said = (*self.said, *texts)


def tools_opened(fields: Fields) -> tuple[Reading, ...]:
    """The tool calls of an assistant message."""
    blocks = fields.child("message").children("content")
    opened = [ToolOpened(b.text("id"), b.text("name")) for b in blocks if b.text("type") == "tool_use"]
    return tuple(opened) or (Activity(),)


def tools_closed(fields: Fields) -> tuple[Reading, ...]:
    """The tool results of a user message."""
    blocks = fields.child("message").children("content")
    closed = [ToolClosed(b.text("tool_use_id")) for b in blocks if b.text("type") == "tool_result"]
    return tuple(closed) or (Activity(),)
