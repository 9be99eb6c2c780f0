"""What crosses the wall inside the mailbox's `content` columns, as JSON.

Host to runner: `ChatIn` (kind `chat`) and `RunSettings` (the `run` row). The runner trusts them.
Runner to host: `ChatOut` (kind `chat`) and `AgentRequest` (kind `request`, see request.py). The host parses
those bytes only in `sandbox/wire.py`, with its own strict types; these are the runner's way to write them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum


class InKind(StrEnum):
    """Kinds of rows the host writes into `inbound.db`."""

    CHAT = "chat"
    TASK = "task"
    WEBHOOK = "webhook"
    SYSTEM = "system"


class OutKind(StrEnum):
    """Kinds of rows the runner writes into `outbound.db`."""

    CHAT = "chat"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Quote:
    """The message somebody replied to."""

    sender: str
    text: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a message; `path` is where it lies in the box."""

    name: str
    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ChatIn:
    """One chat message on its way to the agent. `sent_at` in epoch milliseconds."""

    text: str
    sender: str
    sender_id: str
    origin: str  # the destination name of the chat it came from
    sent_at: int
    reply_to: int | None = None  # seq of the message it answers
    quote: Quote | None = None
    already_sent: tuple[str, ...] = ()  # attempt > 1: what a broken attempt has already sent, oldest first
    attachments: tuple[Attachment, ...] = ()
    by_agent: bool = False  # another agent wrote it: no person's words
    command: bool = False  # a command of the provider's own, by exact token and by somebody who may give it


@dataclass(frozen=True, slots=True)
class SystemIn:
    """A note of the host to the agent, e.g. the answer to a request (kind `system`)."""

    action: str
    status: str
    text: str
    sent_at: int


@dataclass(frozen=True, slots=True)
class ChatOut:
    """One chat message of the agent. `to` is a destination name; None means where the trigger came from.

    `notice` marks words of the harness itself (an error in plain words), not of the agent. `files` are names below
    the box's `out/outbox/`.
    """

    text: str
    to: str | None = None
    notice: bool = False
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BoxServer:
    """An MCP server that the agent starts in the box and speaks to over its stdin and stdout."""

    name: str
    command: str
    args: tuple[str, ...]
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run needs to know, written once by the host into the `run` row."""

    provider: str
    assistant: str
    timezone: str
    workspace: str
    home: str
    instructions: str  # path of the composed CLAUDE.md inside the box
    model_url: str  # e.g. http://127.0.0.1:3128/anthropic
    continuation: str | None  # the provider's own session id, None for a new conversation
    first_seq: int  # the first odd seq this run may use
    model: str | None = None
    effort: str | None = None
    ncl: bool = True  # whether the command `ncl` of the box is served
    mcp_servers: tuple[BoxServer, ...] = ()  # beside our own
    agent_binary: str = "/opt/agent/claude"
    process_limit: int = 512
    idle_seconds: float = 600.0  # no provider event and no open tool: the provider hangs
    tool_seconds: float = 1800.0  # one tool open this long: it hangs
    turn_seconds: float = 3600.0  # the wall limit of a turn


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The host's answer to an AgentRequest the agent waits for (table `answers`, id: the request's seq)."""

    status: str  # done, refused, pending (a person is asked; a system message follows), expired
    text: str


def to_json(value: ChatIn | SystemIn | ChatOut | RunSettings | ToolAnswer) -> str:
    """Serialise one of this module's dataclasses."""
    return json.dumps(dataclasses.asdict(value), ensure_ascii=False, separators=(",", ":"))


def chat_from_json(text: str) -> ChatIn:
    """Parse a ChatIn the host wrote; raises KeyError or TypeError when it did not."""
    fields = json.loads(text)
    quote = fields.pop("quote", None)
    fields["already_sent"] = tuple(fields.get("already_sent", ()))
    fields["attachments"] = tuple(Attachment(**item) for item in fields.get("attachments", ()))
    return ChatIn(**fields, quote=Quote(**quote) if quote else None)


def system_from_json(text: str) -> SystemIn:
    """Parse a SystemIn the host wrote."""
    return SystemIn(**json.loads(text))


def answer_from_json(text: str) -> ToolAnswer:
    """Parse a ToolAnswer the host wrote."""
    return ToolAnswer(**json.loads(text))


def settings_from_json(text: str) -> RunSettings:
    """Parse the `run` row's settings."""
    fields = json.loads(text)
    servers = tuple(BoxServer(**item) for item in fields.pop("mcp_servers", ()))
    return RunSettings(**fields, mcp_servers=servers)


def message_uuid(inbox_id: str, attempt: int) -> str:
    """Return the uuid under which a row's attempt is pushed to a provider; the same for the same attempt."""
    digest = hashlib.sha256(f"{inbox_id}:{attempt}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
