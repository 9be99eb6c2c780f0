"""The tools the agent may call, one row each. Names and arguments as in NanoClaw v2.

A tool is a name, a description for the model, the schema of its arguments and what does it. To add one, add a row to
the table that `build_tools` returns; tools that do not work yet are not listed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nanoclaw.runner.fields import Fields

MAX_TEXT_CHARACTERS = 200_000


class ToolRefused(Exception):
    """The call cannot be done; the words go back to the agent, who can mend it."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One row of the table. `schema` is the JSON schema of the arguments; `call` returns words for the agent."""

    name: str
    description: str
    schema: dict[str, object]
    call: Callable[[Fields], str]


class Desk(Protocol):
    """What tools may do; the loop is one."""

    def send_message(self, text: str, to: str | None) -> str:
        """Send now, in the middle of a turn; returns words for the agent. Raises ToolRefused."""
        ...


def text_schema(description: str) -> dict[str, object]:
    """Schema of one string argument."""
    return {"type": "string", "description": description}


def arguments_schema(properties: dict[str, object], required: tuple[str, ...]) -> dict[str, object]:
    """Schema of a tool's arguments."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def build_tools(desk: Desk) -> tuple[Tool, ...]:
    """The table of tools."""

    def send_message(arguments: Fields) -> str:
        text = arguments.text("text")
        if not text.strip():
            raise ToolRefused("Nothing was sent: the argument text is empty.")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise ToolRefused(f"Nothing was sent: the text is longer than {MAX_TEXT_CHARACTERS} characters.")
        return desk.send_message(text, arguments.text("to") or None)

    return (
        Tool(
            "send_message",
            "Send a chat message now, before your turn ends, for example to say that something takes a while. "
            "Each call is a message of its own. Your final text is sent by itself: do not send it here too.",
            arguments_schema(
                {
                    "text": text_schema("What to send."),
                    "to": text_schema("Name of a destination; without it the chat the message came from."),
                },
                ("text",),
            ),
            send_message,
        ),
    )
