"""What an MCP server of an assistant may look like. Pure.

It runs inside the box, so nothing here is the wall: the rules keep a card readable (what a person reads is what is
run), our own server and surroundings unshadowed, and keys out of the config, where the agent could read them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from nanoclaw.domain.group import McpServer
from nanoclaw.errors import Refused

OWN_SERVER = "nanoclaw"  # the tools of every box
MOST_SERVERS = 20
MOST_WORDS = 64
MOST_WORD = 500
MOST_VARIABLES = 32
MOST_HOSTS = 8
MOST_INSTRUCTIONS = 1_500

_NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*", re.ASCII)  # no `__`: it parts server and tool in a tool's name
_NAME_CHARACTERS = 32
_TAKEN = re.compile(rf"{OWN_SERVER}.*|claude.*|ide|computer-use")  # ours, and those of the agent's own program
_COMMAND = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_./@+-]{0,199}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_OUR_VARIABLES = re.compile(  # of the sandbox, its way out, its agent and the loader
    r"(NANOCLAW|ANTHROPIC|CLAUDE|MCP|LD|DISABLE)_?.*|(HTTPS?|ALL|NO|NODE_USE_ENV)_PROXY|.*_(CA_BUNDLE|CERT_FILE)"
    r"|NODE_EXTRA_CA_CERTS|NODE_OPTIONS|GIT_SSL_CAINFO|DENO_CERT|PIP_CERT|IS_SANDBOX|HOME|PATH|TZ",
    re.ASCII | re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"(^|_)(API_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|PAT|CREDENTIALS?|PRIVATE_KEY)$", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"(sk|pk|rk|ghp|gho|ghs|ghu|glpat|xox[abeprs]|hf|npm|pypi)[-_][A-Za-z0-9_-]{12,}|github_pat_\w{12,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}.*|-----BEGIN .*|\w+://[^/\s:@]+:[^/\s@]+@.*",
    re.ASCII | re.DOTALL,
)
_PLACEHOLDER = "nanoclaw-managed"  # what a server that wants a key is given in its place
KEYS_STAY = (
    "Keys stay in the vault and never lie in a sandbox: `nanoclaw vault set` keeps one, and the gateway puts it on the "
    f"calls. A server that wants a value to start is given {_PLACEHOLDER!r}."
)


def check_server(name: str, server: McpServer) -> None:
    """Check a server from outside. Raises Refused with a plain sentence that says what mends it."""
    check_server_name(name)
    if not _COMMAND.fullmatch(server.command) or "//" in server.command or ".." in server.command.split("/"):
        raise Refused("The command is one program: a name such as npx, or a plain path; its arguments come in args.")
    if len(server.args) > MOST_WORDS or any(len(word) > MOST_WORD for word in server.args):
        raise Refused(f"At most {MOST_WORDS} arguments of {MOST_WORD} characters each.")
    _check_plain("An argument", server.args)
    _check_variables(server.env)
    if any(_is_secret(word) for word in server.args):
        raise Refused(f"An argument looks like a key or a password. {KEYS_STAY}")
    if len(server.instructions) > MOST_INSTRUCTIONS:
        raise Refused(f"Instructions have at most {MOST_INSTRUCTIONS} characters.")


def check_server_name(name: str) -> None:
    """Check what a server may be called. Raises Refused."""
    if len(name) > _NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise Refused(
            f"A server's name has at most {_NAME_CHARACTERS} characters: a-z, 0-9 and single - or _ between them."
        )
    if _TAKEN.fullmatch(name):
        raise Refused(f"The name {name} is taken by the sandbox itself. Choose another.")


def add_server(servers: Mapping[str, McpServer], name: str, server: McpServer) -> dict[str, McpServer]:
    """Return the servers with one more, or with that one replaced. Raises Refused."""
    check_server(name, server)
    if name not in servers and len(servers) >= MOST_SERVERS:
        raise Refused(f"It has {MOST_SERVERS} MCP servers already: `ncl groups config remove-mcp-server` removes one.")
    return {**servers, name: server}


def describe_command(server: McpServer) -> str:
    """Return the command as it would be typed, on one line."""
    return shlex.join((server.command, *server.args))


def _check_variables(env: Mapping[str, str]) -> None:
    if len(env) > MOST_VARIABLES:
        raise Refused(f"At most {MOST_VARIABLES} environment variables.")
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            raise Refused("An environment variable's name has letters, digits and _ alone, at most 64.")
        if _OUR_VARIABLES.fullmatch(name):
            raise Refused(f"The environment variable {name} is set by the sandbox and stays as it is.")
        if len(value) > MOST_WORD:
            raise Refused(f"The value of {name} is longer than {MOST_WORD} characters.")
        if _is_secret(value) or (_SECRET_NAME.search(name) and value not in ("", _PLACEHOLDER)):
            raise Refused(f"The variable {name} looks like a key or a password. {KEYS_STAY}")
    _check_plain("A variable's value", tuple(env.values()))


def _check_plain(what: str, words: Sequence[str]) -> None:
    """What cannot be seen on a card cannot be agreed to."""
    for word in words:
        if not word.isprintable():
            raise Refused(f"{what} holds a character that cannot be shown: line ends and control characters may not.")


def _is_secret(text: str) -> bool:
    return any(_SECRET_VALUE.fullmatch(part) for part in (text, text.rpartition("=")[2], text.rpartition(" ")[2]))
