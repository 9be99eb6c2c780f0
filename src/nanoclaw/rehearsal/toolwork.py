"""From a command to the calls of real tools that carry it out, step by step.

In:     a command and the results of the calls already made for it.
Out:    the next call, or `Done` with the text to echo.
Rules of the CLI's tools (2.1.329): Write refuses a file that exists and was not read; a deferred tool may refuse
input until ToolSearch has loaded it.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nanoclaw.rehearsal.conversation import Conversation
from nanoclaw.rehearsal.json_value import JsonObject
from nanoclaw.rehearsal.language import Command, Verb


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool said."""

    tool: str
    text: str
    failed: bool


@dataclass(frozen=True, slots=True)
class NextCall:
    """A tool to call."""

    tool: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to call; `text` goes into the answer."""

    text: str


Step: TypeAlias = NextCall | Done


def decide_call(command: Command, results: Sequence[ToolResult], conversation: Conversation) -> Step:
    """Return the next step of a command that needs a tool."""
    path = posixpath.join(conversation.directory, command.name)
    match command.verb:
        case Verb.RUN:
            return _once(NextCall("Bash", {"command": command.text, "description": "Run what the user asked"}), results)
        case Verb.READ:
            return _once(NextCall("Read", {"file_path": path}), results)
        case Verb.WRITE:
            return _write(path, command.text, results)
        case Verb.REMEMBER:
            return _remember(command.text, results, conversation.directory)
        case _:
            return _tool(_full_name(command.name, conversation.tools), command.arguments or {}, results, conversation)


def _once(call: NextCall, results: Sequence[ToolResult]) -> Step:
    return Done(results[-1].text) if results else call


def _write(path: str, text: str, results: Sequence[ToolResult]) -> Step:
    write = NextCall("Write", {"file_path": path, "content": text + "\n"})
    match results:
        case []:
            return write
        case [ToolResult(tool="Write", failed=True)]:
            return NextCall("Read", {"file_path": path})
        case [_, ToolResult(tool="Read")]:
            return write
        case _:
            return Done(results[-1].text)


def _remember(text: str, results: Sequence[ToolResult], directory: str) -> Step:
    if results:
        return Done(results[-1].text if results[-1].failed else f"Remembered: {text}")
    memory = shlex.quote(posixpath.join(directory, "CLAUDE.local.md"))
    line = shlex.quote(" ".join(text.split()))
    command = f"printf '%s\\n' {line} >> {memory}"
    return NextCall("Bash", {"command": command, "description": "Add a line to the memory"})


def _tool(name: str, arguments: JsonObject, results: Sequence[ToolResult], conversation: Conversation) -> Step:
    call = NextCall(name, arguments)
    searchable = "ToolSearch" in conversation.tools
    match results:
        case []:
            return call
        case [ToolResult(text=text, failed=True)] if searchable and "InputValidationError" in text:
            return NextCall("ToolSearch", {"query": f"select:{name}"})
        case [_, ToolResult(tool="ToolSearch")]:
            return call
        case _:
            return Done(results[-1].text)


def _full_name(name: str, tools: Sequence[str]) -> str:
    """Let a person leave out the server: `send_message` is `mcp__nanoclaw__send_message` when nothing else is."""
    if name in tools:
        return name
    return next((tool for tool in tools if tool.endswith(f"__{name}")), name)
