"""The tools the agent may call, one row each. Names and arguments as in NanoClaw v2.

A tool is a name, a description for the model, the schema of its arguments and what does it. To add one, add a row to
the table that `build_tools` returns (tools_self.py has those by which an agent changes its own sandbox).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from nanoclaw.contract.message import ToolAnswer
from nanoclaw.contract.request import REQUEST_ACCESS
from nanoclaw.runner.fields import Fields

MAX_TEXT_CHARACTERS = 200_000
QUESTION_SECONDS = 300.0  # how long a question waits unless it says otherwise (the original's default)
MARGIN_SECONDS = 60.0  # a wait ends this long before the tool would count as hanging
GRACE_SECONDS = 10.0  # the host says itself that a question expired; this is for one that does not
DONE, PENDING = "done", "pending"
ACCESS_ARGUMENTS = ("host", "methods", "paths", "reason")


class ToolRefused(Exception):
    """The call cannot be done; the words go back to the agent, who can mend it."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One row of the table. `schema` is the JSON schema of the arguments; `call` returns words for the agent."""

    name: str
    description: str
    schema: dict[str, object]
    call: Callable[[Fields], Awaitable[str]]


class Desk(Protocol):
    """What does the work of the tools. All raise ToolRefused."""

    async def send_message(self, text: str, to: str | None) -> str:
        """Send now, in the middle of a turn; returns words for the agent."""
        ...

    async def send_file(self, path: str, to: str | None, text: str, name: str | None) -> str:
        """Send a file to another agent; returns words for the agent."""
        ...

    async def ask(self, action: str, arguments: dict[str, object], seconds: float = ...) -> ToolAnswer:
        """Ask the host and wait for its answer."""
        ...


@dataclass(frozen=True, slots=True)
class Calls:
    """What the tools do with their arguments."""

    desk: Desk
    tool_seconds: float

    async def send_message(self, arguments: Fields) -> str:
        """The tool of that name."""
        text = arguments.text("text")
        if not text.strip():
            raise ToolRefused("Nothing was sent: the argument text is empty.")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise ToolRefused(f"Nothing was sent: the text is longer than {MAX_TEXT_CHARACTERS} characters.")
        return await self.desk.send_message(text, arguments.text("to") or None)

    async def send_file(self, arguments: Fields) -> str:
        """The tool of that name."""
        path, text = arguments.text("path"), arguments.text("text")
        if not path or "\0" in path:
            raise ToolRefused("Nothing was sent: the argument path is empty or no path.")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise ToolRefused(f"Nothing was sent: the text is longer than {MAX_TEXT_CHARACTERS} characters.")
        return await self.desk.send_file(path, arguments.text("to") or None, text, arguments.text("filename") or None)

    async def ask_user_question(self, arguments: Fields) -> str:
        """The tool of that name."""
        question, options = arguments.text("question"), options_of(arguments)
        if not question.strip() or not options:
            raise ToolRefused("Nothing was asked: a question and at least one option are needed.")
        longest = self.tool_seconds - MARGIN_SECONDS
        seconds = max(1.0, min(float(arguments.number("timeout") or QUESTION_SECONDS), longest))
        asked: dict[str, object] = {"title": arguments.text("title"), "question": question, "options": options}
        asked["timeout_seconds"] = int(seconds)
        return words_of(await self.desk.ask("ask_user_question", asked, seconds + GRACE_SECONDS))

    async def create_agent(self, arguments: Fields) -> str:
        """The tool of that name."""
        name = arguments.text("name").strip()
        if not name:
            raise ToolRefused("No agent was made: the argument name is empty.")
        wanted: dict[str, object] = {"name": name, "instructions": arguments.text("instructions")}
        return words_of(await self.desk.ask("create_agent", wanted))

    async def request_access(self, arguments: Fields) -> str:
        """The tool of that name."""
        host, reason = arguments.text("host").strip(), arguments.text("reason").strip()
        if not host or not reason:
            raise ToolRefused("Nothing was asked: the host and the reason are needed.")
        if unknown := sorted(arguments.values.keys() - ACCESS_ARGUMENTS):  # unread, `path` would ask for the whole host
            raise ToolRefused(
                f"Nothing was asked: no argument is called {unknown[0]}; {', '.join(ACCESS_ARGUMENTS)} are."
            )
        wanted: dict[str, object] = {"host": host, "reason": reason}
        for name, otherwise in (("methods", "GET"), ("paths", "/**")):
            given = arguments.values.get(name, [otherwise])
            wanted[name] = texts = list(arguments.texts(name)) if name in arguments.values else [otherwise]
            if texts != given:
                raise ToolRefused(f"Nothing was asked: {name} is a list of texts.")
        return words_of(await self.desk.ask(REQUEST_ACCESS, wanted))


def offer_ncl(desk: Desk) -> Callable[[list[str]], Awaitable[ToolAnswer]]:
    """Return what serves the command `ncl` of the box."""

    async def call(arguments: list[str]) -> ToolAnswer:
        try:
            return await desk.ask("ncl", {"arguments": arguments})
        except ToolRefused as refused:
            return ToolAnswer("refused", str(refused))

    return call


def words_of(answer: ToolAnswer) -> str:
    """Return the host's words. Raises ToolRefused when it did not do what was asked."""
    if answer.status not in (DONE, PENDING):
        raise ToolRefused(answer.text)
    return answer.text


def options_of(arguments: Fields) -> list[object]:
    """Return the options of a question: texts, or objects with a label and perhaps a value."""
    given = arguments.values.get("options")
    options: list[object] = list(arguments.texts("options"))
    for item in arguments.children("options"):
        label = item.text("label")
        options.append({"label": label, "value": item.text("value") or label})
    if isinstance(given, list) and len(options) != len(given):  # pyright: ignore[reportUnknownArgumentType]
        raise ToolRefused("Nothing was asked: an option is a text, or an object with a label.")
    return options


def text_schema(description: str) -> dict[str, object]:
    """Schema of one string argument."""
    return {"type": "string", "description": description}


def arguments_schema(properties: dict[str, object], required: tuple[str, ...]) -> dict[str, object]:
    """Schema of a tool's arguments."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def build_tools(desk: Desk, tool_seconds: float) -> tuple[Tool, ...]:
    """The table of tools. `tool_seconds`: how long one may take before it counts as hanging."""
    calls = Calls(desk, tool_seconds)
    to = text_schema("Name of a destination; without it where the message came from.")
    option = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"label": {"type": "string"}}}]}
    return (
        Tool(
            "send_message",
            "Send a message now, before your turn ends: to the chat, for example to say that something takes a while, "
            "or to another agent. Each call is a message of its own. Your final text is sent by itself: do not send it "
            "here too.",
            arguments_schema({"text": text_schema("What to send."), "to": to}, ("text",)),
            calls.send_message,
        ),
        Tool(
            "send_file",
            "Send a file to another agent, with a text. It gets a copy. Chats cannot get files yet.",
            arguments_schema(
                {
                    "path": text_schema("The file, absolute or below /workspace; at most 20 MiB."),
                    "to": to,
                    "text": text_schema("What to say about it."),
                    "filename": text_schema("Another name for it."),
                },
                ("path",),
            ),
            calls.send_file,
        ),
        Tool(
            "ask_user_question",
            "Ask the person you work for to choose one of a few options, and wait for the choice. Use it when you "
            "cannot go on without it; otherwise ask in your answer.",
            arguments_schema(
                {
                    "title": text_schema("A few words: what it is about."),
                    "question": text_schema("The question."),
                    "options": {"type": "array", "items": option, "description": "What may be chosen."},
                    "timeout": {"type": "integer", "description": "Seconds to wait; 300 unless you say otherwise."},
                },
                ("title", "question", "options"),
            ),
            calls.ask_user_question,
        ),
        Tool(
            "create_agent",
            "Ask for another agent: an assistant of its own with its own memory and sandbox, for work that comes up "
            "again. A person has to agree. When it is there, you can write to it by its name.",
            arguments_schema(
                {
                    "name": text_schema("What it is called."),
                    "instructions": text_schema("Who it is and what it does, as you would tell it."),
                },
                ("name",),
            ),
            calls.create_agent,
        ),
        access_tool(calls),
    )


def access_tool(calls: Calls) -> Tool:
    """The row of request_access."""
    return Tool(
        REQUEST_ACCESS,
        "Ask for leave to reach a host on the internet that the gateway refuses (a 403 says so). A person decides; "
        "you are told by a message of its own, so go on with other work or end your turn. Ask for no more than you "
        "need: the fewer methods and paths, the sooner a yes.",
        arguments_schema(
            {
                "host": text_schema("The host's name alone, such as api.example.org."),
                "methods": {"type": "array", "items": {"type": "string"}, "description": "GET unless you say so."},
                "paths": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Such as /v1/items, /v1/*/name or /v1/**; the whole host unless you say so.",
                },
                "reason": text_schema("What for, in a sentence: the person reads it."),
            },
            ("host", "reason"),
        ),
        calls.request_access,
    )
