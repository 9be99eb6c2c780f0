"""The small language a person writes to the rehearsal model, one command a line.

run: CMD            the Bash tool                    say: TEXT       TEXT in the answer
write FILE: TEXT    the Write tool                   recall          what the memory in the prompt says
read FILE           the Read tool                    history         the user's lines that the request carried
tool: NAME {json}   any tool, MCP ones too           sleep: SECONDS  delay of the response
remember: TEXT      a line into CLAUDE.local.md      fail: STATUS    an HTTP error, or `garbage`, or `nothing`
to NAME: TEXT       TEXT to another agent or chat    collect         wait until all agents asked have answered, then
                                                                     give their answers in one; without it each is
                                                                     passed on as it comes
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from nanoclaw.rehearsal.json_value import JsonObject, parse_json


class Verb(StrEnum):
    """What a line asks for."""

    RUN = "run"
    WRITE = "write"
    READ = "read"
    TOOL = "tool"
    SAY = "say"
    REMEMBER = "remember"
    RECALL = "recall"
    HISTORY = "history"
    SLEEP = "sleep"
    FAIL = "fail"
    TO = "to"
    COLLECT = "collect"


@dataclass(frozen=True, slots=True)
class Command:
    """One line, understood. `name` is a file or tool, `text` the rest, `arguments` a tool's input."""

    verb: Verb
    text: str = ""
    name: str = ""
    arguments: JsonObject | None = None


_WITH_TEXT = re.compile(r"(run|say|remember|sleep|fail):(.*)", re.IGNORECASE | re.DOTALL)
_WRITE = re.compile(r"write\s+(\S+?):\s?(.*)", re.IGNORECASE | re.DOTALL)
_TO = re.compile(r"to\s+(\S+?):\s?(.*)", re.IGNORECASE | re.DOTALL)
_READ = re.compile(r"read\s+(\S+)", re.IGNORECASE)
_TOOL = re.compile(r"tool:\s*([\w.-]+)\s*(.*)", re.IGNORECASE | re.DOTALL)
_ALONE = re.compile(r"(recall|history|collect)", re.IGNORECASE)
_MENTION = re.compile(r"@\S+\s+")


def parse_line(line: str) -> Command | None:
    """Understand one line; None when it is not a command of the language."""
    line = _MENTION.sub("", line.strip(), count=1) if line.lstrip().startswith("@") else line.strip()
    if found := _WITH_TEXT.fullmatch(line):
        return Command(Verb(found[1].lower()), text=found[2].strip())
    if found := _WRITE.fullmatch(line):
        return Command(Verb.WRITE, name=found[1], text=found[2])
    if found := _TO.fullmatch(line):
        return Command(Verb.TO, name=found[1], text=found[2].strip())
    if found := _READ.fullmatch(line):
        return Command(Verb.READ, name=found[1])
    if found := _ALONE.fullmatch(line):
        return Command(Verb(found[1].lower()))
    if found := _TOOL.fullmatch(line):
        return _parse_tool(found[1], found[2])
    return None


def parse_commands(text: str) -> tuple[Command, ...]:
    """Return the commands of a message in order; empty when it holds none."""
    found = (parse_line(line) for line in text.split("\n"))
    return tuple(command for command in found if command is not None)


def _parse_tool(name: str, rest: str) -> Command:
    try:
        arguments = parse_json(rest or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        return Command(Verb.SAY, text=f"tool: {name} needs its input as one JSON object on the same line, got: {rest}")
    return Command(Verb.TOOL, name=name, arguments=arguments)
