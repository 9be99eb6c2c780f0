"""What attempts to get out are made with: a gateway in a small internet, and boxes in which an attempt runs.

An `Attempt` says what an agent tries, and what must become of it: which rule of the gateway refuses it (or "" when it
does not even leave the box). Judged is what reached the world, what came back, and what the audit says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nanoclaw
from nanoclaw.gateway import admin_words
from nanoclaw.gateway.client import (
    GatewayClient,
    GatewayFds,
    Grant,
    SpawnGateway,
    ask_admin,
    gateway_command,
    open_admin_socket,
)
from nanoclaw.gateway.new_secret import Wishes
from nanoclaw.gateway.rule_shelf import Change, RuleShelf
from nanoclaw.gateway.vault import Vault
from nanoclaw.sandbox.surroundings import hosts_text
from tests.flow.certificates import Authority, make_authority
from tests.wall.conftest import DEADLINE_SECONDS, Wall
from tests.wall.internet import GOOD, MODEL, NAMES, SIX, Arrived, Internet, open_internet

MODEL_KEY = "sk-ant-api03-REAL-KEY-OF-THE-VAULT-0123456789"
SECRET = "real-secret/of+the-vault=0123456789"
OTHERS_SECRET = "what-another-group-has-in-the-vault"
FOLDER = "tried"

RULES = """
[[rule]]
name = "good"
host = "api.good.test"
methods = ["GET", "POST"]
paths = ["/public/**"]
inject = "svc"

[[rule]]
name = "good-http"
host = "api.good.test"
scheme = "http"
methods = ["GET"]
paths = ["/public/**"]

[[rule]]
name = "all-good"
host = "*.good.test"
methods = ["GET"]
paths = ["/public/**"]

[[rule]]
name = "all-good-http"
host = "*.good.test"
scheme = "http"
methods = ["GET"]
paths = ["/public/**"]

[[rule]]
name = "cdn-of-another"
host = "cdn.evil.test"
group = "another"
"""

PRELUDE = """
import base64, json, os, socket, ssl, struct, subprocess, sys, time, urllib.request
def say(*words): print(*words, file=sys.stderr)
def answer(line):
    line.settimeout(4); got = b""
    try:
        while (more := line.recv(65536)): got += more
    except OSError: pass
    say(got.decode("latin-1")); return got
def talk(raw, port=3128):
    with socket.create_connection(("127.0.0.1", port), 5) as line:
        line.sendall(raw); return answer(line)
def connect(authority):
    line = socket.create_connection(("127.0.0.1", 3128), 5)
    line.sendall(f"CONNECT {authority} HTTP/1.1\\r\\nHost: {authority}\\r\\n\\r\\n".encode("latin-1"))
    got = line.recv(4096); say(got.decode("latin-1")); return line
def inside(authority, raw, name="", alpn=("http/1.1",)):
    context = ssl.create_default_context(); context.check_hostname = False
    context.set_alpn_protocols(list(alpn))
    try: line = context.wrap_socket(connect(authority), server_hostname=name or authority.split(":")[0])
    except OSError as error: say("NO TLS", error); return b""
    say("alpn", line.selected_alpn_protocol())
    with line: line.sendall(raw); return answer(line)
def get(path, host="api.good.test", *fields, method="GET"):
    lines = (f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "Connection: close", "", "")
    return "\\r\\n".join(lines).encode("latin-1")
def dial(*address, family=socket.AF_INET, kind=socket.SOCK_STREAM, send=b"GET / HTTP/1.0\\r\\n\\r\\n"):
    try:
        with socket.socket(family, kind) as line:
            line.settimeout(2); line.connect(address); line.sendall(send); say("SENT", line.recv(100))
    except OSError as error: say("no way:", error)
"""


@dataclass(frozen=True)
class Attempt:
    """One attempt to get out, or to get something out.

    `rule` is what refuses it in the audit, for a call to `host`; "" means that nothing arrives at the gateway at all.
    `shell`: the code is for /bin/sh, else for Python.
    `passes`: a call that is allowed is part of it; `ends` is how the audit says that one ended.
    """

    says: str
    code: str
    rule: str = ""
    host: str = ""
    shell: bool = False
    turn: bool = True
    passes: bool = False
    ends: str = ""


@dataclass
class Outcome:
    """What became of an attempt."""

    said: str
    arrived: list[Arrived]
    audit: list[admin_words.AuditLine]

    @property
    def refusals(self) -> list[admin_words.AuditLine]:
        """Return what the gateway refused."""
        return [row for row in self.audit if row.event == "refused"]


@dataclass
class Town:
    """A gateway that lives in a small internet, run by a host in a thread of its own."""

    internet: Internet
    client: GatewayClient
    loop: asyncio.AbstractEventLoop
    admin_path: Path
    sessions: int = 0

    def audit(self, session: str) -> list[admin_words.AuditLine]:
        """Return what was written down of a session."""
        request = admin_words.AuditList(limit=200, session=session)
        return ask_admin(self.admin_path, request, list[admin_words.AuditLine])

    async def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something of the client's in its own loop."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    async def run(self, wall: Wall, attempt: Attempt) -> Outcome:
        """Make an attempt in a box of its own; return what came of it."""
        self.sessions += 1
        session = f"attempt-{self.sessions}"
        self.internet.arrived()
        names = ("api.good.test", "api.anthropic.com")
        (wall.root / "compose/hosts").write_text(hosts_text("agent", names))
        (wall.root / "compose/ca.pem").write_text(self.client.outside.ca_pem)
        command = ("/bin/sh", "-c", attempt.code) if attempt.shell else (*wall.python(), PRELUDE + attempt.code)
        spec = replace(wall.spec(""), command=command)
        box = await wall.runtime.start(spec, wall.label())
        grant = Grant(session, wall.fence, f"group-{FOLDER}", FOLDER)
        await self.do(self.client.listen(grant, box.listeners))
        if attempt.turn:
            self.loop.call_soon_threadsafe(self.client.open_turn, session, wall.fence, "owner")
        box.release()
        async with asyncio.timeout(DEADLINE_SECONDS):
            ended = await box.wait()
        await self.do(self.client.unlisten(session, wall.fence))
        audit = await asyncio.to_thread(self.audit, session)
        async with asyncio.timeout(5):  # the end of a call is written down after its answer
            while any(row.event == "allowed" for row in audit) and not _all_ended(audit):
                audit = await asyncio.to_thread(self.audit, session)
        return Outcome(ended.stderr_tail, self.internet.arrived(), audit)


@contextlib.contextmanager
def open_town(directory: Path) -> Iterator[Town]:
    """Make the internet, a vault with secrets and the gateway in it; end all of it afterwards."""
    authority = make_authority(directory / "authority")
    certificates = {name: _certificate(authority, name) for name in (*NAMES, "wrongname.good.test")}
    home = directory / "gateway"
    home.mkdir(mode=0o700)
    _furnish(home)
    with (
        open_internet(directory / "internet", certificates, authority.path) as internet,
        open_admin_socket(directory / "admin.sock") as admin,
    ):
        client = GatewayClient(
            _spawner(internet, home), admin, on_event=lambda _: None, on_log=lambda _: None, on_model_key=lambda _: None
        )
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        stop = asyncio.run_coroutine_threadsafe(_make_event(), loop).result()
        running = asyncio.run_coroutine_threadsafe(client.run(stop), loop)
        try:
            asyncio.run_coroutine_threadsafe(client.wait_ready(), loop).result(10)
            yield Town(internet, client, loop, directory / "admin.sock")
        finally:
            loop.call_soon_threadsafe(stop.set)
            running.result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


def _all_ended(audit: list[admin_words.AuditLine]) -> bool:
    ended = {row.call for row in audit if row.event == "finished"}
    return {row.seq for row in audit if row.event == "allowed"} <= ended


async def _make_event() -> asyncio.Event:
    return asyncio.Event()


def _certificate(authority: Authority, name: str) -> Path:
    days = (-3.0, -1.0) if name.startswith("expired") else (-2.0, 1.0)
    named = "somebody.else.test" if name.startswith("wrongname") else name
    folder = authority.directory
    before = set(folder.iterdir())
    authority.server(named, days=days, self_signed=name.startswith("stranger"))
    (made,) = set(folder.iterdir()) - before
    return made


def _furnish(home: Path) -> None:
    vault = Vault(home)
    vault.load()
    vault.put("anthropic", MODEL_KEY, (), 1)
    vault.put("svc", SECRET, ("api.good.test",), 1, Wishes(kind="bearer"))
    vault.put("others", OTHERS_SECRET, ("cdn.evil.test",), 1, Wishes(kind="bearer"))
    RuleShelf(home / "rules").keep(RULES, Change())


def _spawner(internet: Internet, home: Path) -> SpawnGateway:
    def spawn(fds: GatewayFds) -> subprocess.Popen[bytes]:
        path = [str(Path(nanoclaw.__path__[0]).parent), sysconfig.get_paths()["purelib"]]
        command = gateway_command(sys.executable, path, home, fds, admin_uid=os.getuid())
        return subprocess.Popen(
            internet.command_on_machine(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(fds.control.fileno(), fds.admin.fileno()),
        )

    return spawn


def is_allowed(arrived: Arrived) -> bool:
    """Whether what reached the world is what a rule allows."""
    method, _, rest = arrived.line.partition(" ")
    if arrived.place == f"{MODEL}:443":
        return arrived.name == "api.anthropic.com" and arrived.line == "POST /v1/messages HTTP/1.1"
    good_place = arrived.place in {f"{address}:{port}" for address in (GOOD, SIX) for port in (80, 443)}
    host = next((f for f in arrived.raw.lower().split(b"\r\n") if f.startswith(b"host:")), b"")[5:].strip().decode()
    return (
        good_place
        and host.endswith(".good.test")
        and (not arrived.place.endswith(":443") or arrived.name == host)
        and rest.startswith("/public/")
        and (method == "GET" or (method == "POST" and host == "api.good.test"))
        and ((host == "api.good.test" and arrived.place == f"{GOOD}:443") or SECRET.encode() not in arrived.raw)
        and OTHERS_SECRET.encode() not in arrived.raw
        and not any(word in arrived.raw.lower() for word in (b"upgrade:", b"override", b"http-method", b"x-forwarded"))
        and b"MINE" not in arrived.raw
        and MODEL_KEY.encode() not in arrived.raw
    )
