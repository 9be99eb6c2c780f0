"""The tools by which an agent asks for more in its own sandbox: packages, MCP servers. A person decides.

What is wrong at first sight is said here, where it costs nothing; the host checks all of it again.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanoclaw.contract.request import ADD_MCP_SERVER, INSTALL_PACKAGES
from nanoclaw.runner.fields import Fields
from nanoclaw.runner.tools import Desk, Tool, ToolRefused, arguments_schema, text_schema, words_of

MANAGERS = ("apt", "npm", "pip")
TOLD = "A person decides; you are told by a message of its own, so go on with other work or end your turn."


@dataclass(frozen=True, slots=True)
class SelfCalls:
    """What the tools do with their arguments."""

    desk: Desk

    async def install_packages(self, arguments: Fields) -> str:
        """The tool of that name."""
        refuse_others(arguments, (*MANAGERS, "reason"))
        wanted: dict[str, object] = {name: texts_of(arguments, name) for name in MANAGERS if name in arguments.values}
        if not any(wanted.values()):
            raise ToolRefused("Nothing was asked: name packages under apt, npm or pip.")
        wanted["reason"] = needed(arguments, "reason")
        return words_of(await self.desk.ask(INSTALL_PACKAGES, wanted))

    async def add_mcp_server(self, arguments: Fields) -> str:
        """The tool of that name."""
        refuse_others(arguments, ("name", "command", "args", "env", "hosts", "reason", "instructions"))
        wanted: dict[str, object] = {name: needed(arguments, name) for name in ("name", "command", "reason")}
        wanted |= {name: texts_of(arguments, name) for name in ("args", "hosts") if name in arguments.values}
        if "env" in arguments.values:
            env = arguments.child("env").values
            if env != arguments.values["env"] or not all(isinstance(value, str) for value in env.values()):
                raise ToolRefused("Nothing was asked: env is an object of texts.")
            wanted["env"] = env
        if arguments.text("instructions"):
            wanted["instructions"] = arguments.text("instructions")
        return words_of(await self.desk.ask(ADD_MCP_SERVER, wanted))


def needed(arguments: Fields, name: str) -> str:
    """Return a text that must be there."""
    text = arguments.text(name).strip()
    if not text:
        raise ToolRefused(f"Nothing was asked: the argument {name} is empty.")
    return text


def texts_of(arguments: Fields, name: str) -> list[str]:
    """Return a list of texts, whole or not at all."""
    texts = list(arguments.texts(name))
    if texts != arguments.values.get(name):
        raise ToolRefused(f"Nothing was asked: {name} is a list of texts.")
    return texts


def refuse_others(arguments: Fields, known: tuple[str, ...]) -> None:
    """Refuse arguments that would be left out silently."""
    if unknown := sorted(arguments.values.keys() - set(known)):
        raise ToolRefused(f"Nothing was asked: no argument is called {unknown[0]}; {', '.join(known)} are.")


def list_schema(description: str) -> dict[str, object]:
    """Schema of a list of texts."""
    return {"type": "array", "items": {"type": "string"}, "description": description}


def self_tools(desk: Desk) -> tuple[Tool, ...]:
    """The rows of this file."""
    calls = SelfCalls(desk)
    reason = text_schema("What for, in a sentence: the person reads it.")
    packages = Tool(
        INSTALL_PACKAGES,
        "Ask for packages in your sandbox that stay there: Debian packages, npm packages (global), Python packages. "
        f"Names alone, at most 20 at once. {TOLD} Once they are built in, your sandbox starts anew with them.",
        arguments_schema(
            {
                "apt": list_schema("Debian packages, such as jq."),
                "npm": list_schema("npm packages, such as prettier or @scope/name."),
                "pip": list_schema("Python packages, such as requests or requests==2.32.0."),
                "reason": reason,
            },
            ("reason",),
        ),
        calls.install_packages,
    )
    server = Tool(
        ADD_MCP_SERVER,
        "Ask for an MCP server: a program in your sandbox whose tools you can call. It must be there or come with its "
        f"command, such as npx. {TOLD} Then your sandbox starts anew, and the tools are there. No keys: the gateway "
        "puts them on; a server that wants one to start gets the value nanoclaw-managed.",
        arguments_schema(
            {
                "name": text_schema("A short name: a-z, 0-9, - and _."),
                "command": text_schema("The program that speaks MCP over stdin and stdout, such as npx."),
                "args": list_schema("Its arguments."),
                "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Variables."},
                "hosts": list_schema("Hosts on the internet that it calls, such as api.example.org."),
                "reason": reason,
                "instructions": text_schema("What you should know about it in later conversations, if anything."),
            },
            ("name", "command", "reason"),
        ),
        calls.add_mcp_server,
    )
    return packages, server
