"""What is done before anything else: read the run's settings, set limits, listen for MCP, start the agent's process.

In: command line, the `run` row of inbound.db, the box's environment. Out: `Started`. Writes: nothing.
Never: imports asyncio (the agent's CLI starts while that is imported). Nothing else in the box reads its environment.
Fails: exits 2 with one line on stderr when there is no run to serve or the agent's program cannot be started.
"""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise

from nanoclaw.contract.mailbox import IN_DIRECTORY, OUT_DIRECTORY, OUTBOUND
from nanoclaw.contract.message import RunSettings
from nanoclaw.runner.mailbox import Inbound, RunRow, recover
from nanoclaw.runner.providers.claude_command import claude_argv, claude_environment

EXIT_USAGE = 2
PASSED_ON = (
    "PATH", "PYTHONPATH", "NODE_PATH", "HOME", "LANG", "TZ",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "NODE_USE_ENV_PROXY", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO", "DENO_CERT", "PIP_CERT",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Places:
    """Where the two sides of the mailbox lie."""

    inside: str
    outside: str


@dataclass(frozen=True, slots=True)
class Started:
    """Everything the event loop continues with. `recovered` means there is nothing more to do."""

    places: Places
    run: RunRow | None
    environment: tuple[tuple[str, str], ...]
    tools_socket: socket.socket | None
    agent: subprocess.Popen[bytes] | None
    recovered: bool = False


def start(arguments: list[str]) -> Started:
    """Do what cannot wait; see the module's contract."""
    places = parse_places(arguments)
    if "--recover" in arguments:
        recover(os.path.join(places.outside, OUTBOUND))
        return Started(places, None, (), None, None, recovered=True)
    try:
        run = Inbound(places.inside).read_run()
    except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
        sys.stderr.write(f"runner.refused no run to serve in {places.inside}: {error}\n")
        sys.exit(EXIT_USAGE)
    limit_processes(run.settings.process_limit)
    environment = tuple((name, os.environ[name]) for name in PASSED_ON if name in os.environ)
    listener = listen_on_loopback()
    agent = None
    if run.settings.provider == "claude":
        reset_configuration(run.settings.home)
        try:
            agent = spawn_agent(run.settings, environment, listener.getsockname()[1], run.settings.continuation)
        except OSError as error:
            sys.stderr.write(f"runner.refused the agent cannot be started: {error}\n")
            sys.exit(EXIT_USAGE)
    return Started(places, run, environment, listener, agent)


def reset_configuration(home: str) -> None:
    """Give the CLI a fresh `~/.claude.json`; what was there is removed, whatever it is. Never fails.

    It holds only counters we do not need, but the CLI obeys an `env` in it, dies of broken JSON and hangs on a named
    pipe (all run): the agent could break its own next start.
    """
    path = os.path.join(home, ".claude.json")
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rename(path, f"{path}.aside-{os.getpid()}-{os.stat(path).st_ino}")
        elif os.path.lexists(path):
            os.unlink(path)
        with open(path, "x", encoding="utf-8") as file:
            file.write("{}")
    except OSError:
        return  # a home that cannot be written: the CLI goes without


def parse_places(arguments: list[str]) -> Places:
    """Read `--in DIR --out DIR`; without them the fixed places of a box."""
    inside, outside = IN_DIRECTORY, OUT_DIRECTORY
    for name, value in pairwise(arguments):
        if name == "--in":
            inside = value
        elif name == "--out":
            outside = value
    return Places(inside, outside)


def limit_processes(limit: int) -> None:
    """Bound the processes of this box's uid; the host's own limits hold besides (architecture section 9)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (wanted, wanted))


def listen_on_loopback() -> socket.socket:
    """Open the MCP endpoint's listener; calls wait in its backlog until the event loop serves them."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    listener.setblocking(False)
    return listener


def spawn_agent(
    settings: RunSettings, environment: tuple[tuple[str, str], ...], tools_port: int, continuation: str | None
) -> subprocess.Popen[bytes]:
    """Start the agent's CLI with pipes; its stderr is the operator's log. Raises OSError when it cannot be started."""
    return subprocess.Popen(
        claude_argv(settings, tools_port, continuation),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=settings.workspace,
        env=claude_environment(settings, environment, tools_port),
        start_new_session=True,
    )
