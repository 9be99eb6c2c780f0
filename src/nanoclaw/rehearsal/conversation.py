"""What a request says: who said what since when, which tools were called, what the memory holds.

In:     the JSON body of a `/v1/messages` request, as the agent CLI (2.1.329) writes it.
Out:    `Conversation`, in the order things happened.
Rules, each seen in a recorded request (tests/fixtures/claude-requests):
- a new turn is raw text of role `user`; prompts that waited for a running turn are joined by newlines in one block;
- a prompt pushed during a tool call is a `system` message after the tool result, each text between two fixed phrases;
- `<system-reminder>` blocks and other texts of the harness are nobody's words;
- after a kill the open call gets a result that says so, then an assistant text "No response requested.";
- an interrupted turn ends with the user text "[Request interrupted by user]"; a failed one leaves no trace at all.
Once a conversation holds NanoClaw's own prompt shape, only that shape is a user's word; `by="agent"` marks an agent's.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from nanoclaw.rehearsal.json_value import Json, get_list, get_text


@dataclass(frozen=True, slots=True)
class Said:
    """One message. `id` is empty for bare text, `pushed` when it came while the agent worked.

    `agent` is the name of the agent that wrote it, '' when a person did; `is_answer`: to what it was asked.
    """

    id: str
    text: str
    block: int
    pushed: bool
    agent: str = ""
    is_answer: bool = False


@dataclass(frozen=True, slots=True)
class Called:
    """The assistant called a tool."""

    id: str
    tool: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A tool gave its result."""

    id: str
    text: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The assistant's final answer of a turn."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A turn that ended without an answer: killed or interrupted. What is still wanted is said again."""


Entry: TypeAlias = Said | Called | Returned | Answered | Broken


@dataclass(frozen=True, slots=True)
class Conversation:
    """A whole request, understood."""

    entries: tuple[Entry, ...]
    tools: tuple[str, ...]
    memory: str
    directory: str


INTERRUPTED_CALL = "[Tool call interrupted"
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_PUSHED = re.compile(
    r"The user sent a new message while you were working:\n(.*?)(?:\n\nThis is how Claude Code|\n\nIMPORTANT: |\Z)",
    re.DOTALL,
)
_SHAPED = re.compile(r"<(message|task|system_response)\b([^>]*)>(.*?)</\1>", re.DOTALL)
_NO_ANSWER = ' action="agent" status="failed"'  # the host's word that an agent ended without one; begins with its name
_FROM = re.compile(r'\bfrom="([^"]*)"')
_PROMPT = re.compile(r"\s*<(?:context|resume|messages?|task|system(?:_response)?)\b")
_QUOTE = re.compile(r"<quoted_message\b.*?</quoted_message>\s*", re.DOTALL)
_ID = re.compile(r'\bid="([^"]*)"')
_MEMORY = re.compile(
    r"^Contents of \S*CLAUDE\.local\.md[^\n]*\n(.*?)(?=\n\nContents of /|\n?</system-reminder>|\Z)",
    re.DOTALL | re.MULTILINE,
)
_DIRECTORY = re.compile(r"working directory: (/\S*)")
_DEFERRED = re.compile(r"\bmcp__[\w-]+")
_HARNESS = re.compile(
    r"\[Request interrupted by user|\[Your previous response had no visible output|Tool loaded\.$|"
    r"Continue from where you left off|This session is being continued from a previous conversation|\(no content\)$|"
    r"<(?:command-name|command-message|local-command-|task-notification|bash-std)"
)


def parse_conversation(body: Json) -> Conversation:
    """Read a request body; anything unknown in it is left out, never an error."""
    entries = tuple(_parse_entries(get_list(body, "messages")))
    if any(isinstance(entry, Said) and entry.id for entry in entries):
        entries = tuple(entry for entry in entries if not isinstance(entry, Said) or entry.id)
    background = "\n".join(_background(body))
    named = [get_text(tool, "name") for tool in get_list(body, "tools")]
    deferred = [name for name in dict.fromkeys(_DEFERRED.findall(background)) if name not in named]
    memories = _MEMORY.findall(background)
    found = _DIRECTORY.search(background)
    return Conversation(
        entries=entries,
        tools=(*named, *deferred),
        memory=memories[-1].strip() if memories else "",
        directory=found[1] if found else "/workspace",
    )


def blocks_of(content: Json) -> list[Json]:
    """Return a message's content as a list of blocks; plain text is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def text_of(content: Json) -> str:
    """Return the text of a message's or a tool result's content, blocks joined by newlines."""
    return "\n".join(get_text(block, "text") for block in blocks_of(content) if get_text(block, "text"))


def _parse_entries(messages: list[Json]) -> Iterator[Entry]:
    block_number = 0
    for message in messages:
        role = get_text(message, "role")
        blocks = blocks_of(message.get("content") if isinstance(message, dict) else None)
        if role == "assistant":
            yield from _parse_assistant(blocks)
            continue
        for block in blocks:
            block_number += 1
            if isinstance(block, dict) and block.get("type") == "tool_result":
                failed = block.get("is_error") is True
                yield Returned(get_text(block, "tool_use_id"), text_of(block.get("content")), failed)
            else:
                yield from _parse_text(role, get_text(block, "text"), block_number)


def _parse_assistant(blocks: list[Json]) -> Iterator[Entry]:
    calls = [block for block in blocks if get_text(block, "type") == "tool_use"]
    for call in calls:
        yield Called(get_text(call, "id"), get_text(call, "name"))
    if not calls:
        yield Broken() if text_of(blocks).strip() == "No response requested." else Answered()


def _parse_text(role: str, text: str, block: int) -> Iterator[Entry]:
    for number, pushed in enumerate(_PUSHED.findall(text)):
        yield from _parse_words(pushed, block * 1000 + number, pushed=True)
    if role != "user":
        return
    words = _REMINDER.sub("", _PUSHED.sub("", text)).strip()
    if words.startswith("[Request interrupted by user"):
        yield Broken()
    elif words and not _HARNESS.match(words):
        yield from _parse_words(words, block * 1000, pushed=False)


def _parse_words(text: str, block: int, *, pushed: bool) -> Iterator[Said]:
    if not _PROMPT.match(text):
        yield Said("", text.strip(), block, pushed)
        return
    for tag, attributes, body in _SHAPED.findall(text):
        words = html.unescape(_QUOTE.sub("", body)).strip()
        if tag == "system_response":
            if attributes == _NO_ANSWER:
                yield Said(f"note {words}", words, block, pushed, words.partition(" ")[0], is_answer=True)
            continue
        found, origin = _ID.search(attributes), _FROM.search(attributes)
        agent = html.unescape(origin[1]) if origin and ' by="agent"' in attributes else ""
        is_answer = bool(agent) and ' reply_to="' in attributes
        yield Said(found[1] if found else "?", words, block, pushed, agent, is_answer)


def _background(body: Json) -> Iterator[str]:
    """Yield what the harness says: the system prompt, system messages and reminders. Never a tool's result."""
    if isinstance(body, dict):
        yield text_of(body.get("system"))
    for message in get_list(body, "messages"):
        content = message.get("content") if isinstance(message, dict) else None
        if get_text(message, "role") == "system":
            yield text_of(content)
        elif get_text(message, "role") == "user":
            yield from _REMINDER.findall(text_of(content))
