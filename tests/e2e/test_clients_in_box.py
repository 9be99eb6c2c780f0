"""The clients that agents use reach an allowed host from a real box, with and without proxy variables; no other."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.strict_model import NEEDS_ROOT, NO_PROXY, StrictModel, bash, nanoclaw, start_trusting
from tests.flow.certificates import Authority, make_authority
from tests.live import Chat, LiveHost

KEY = "sk-ant-api03-THE-REAL-KEY-0123456789"
HOST, ADDRESS = "files.test", "127.0.0.77"
RULES = f"""
[[rule]]
name = "files"
host = "{HOST}"
methods = ["GET", "HEAD"]
allow_private = true
"""
CLIENTS = {
    "curl": "curl -sS -m 20 https://files.test/hello.txt",
    "wget": "wget -q -T 20 -t 1 -O - https://files.test/hello.txt",
    "git": "rm -rf /tmp/clone; git clone -q https://files.test/repo.git /tmp/clone && cat /tmp/clone/hello.txt",
    "python": """python3 -c 'from urllib.request import urlopen as u; print(u("https://files.test/hello.txt").read())'""",
    "node": """node -e 'fetch("https://files.test/hello.txt").then(r => r.text()).then(t => console.log(t))'""",
}
pytestmark = [
    pytest.mark.ci,  # a host, the CLI and five clients, twice
    NEEDS_ROOT,
]


@dataclass
class Files:
    """A web server that any browser would trust, were the test's authority one of the world's."""

    directory: Path
    asked: list[str] = field(default_factory=list)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for."""

    files: Files

    def log_request(self, code: object = "-", size: object = "-") -> None:
        self.files.asked.append(f"{self.command} {self.path} {code}")

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "authority")


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Iterator[Files]:
    served = Files(tmp_path / "www")
    served.directory.mkdir()
    (served.directory / "hello.txt").write_text("hello from outside\n")
    make_repository(served.directory)
    handler = type("Bound", (Handler,), {"files": served})
    server = http.server.ThreadingHTTPServer((ADDRESS, 443), functools.partial(handler, directory=served.directory))
    server.daemon_threads = True
    server.socket = authority.server(HOST).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def make_repository(directory: Path) -> None:
    """A repository as a plain web server serves it."""
    work = directory / "work"
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@test", "-c", "init.defaultBranch=main"]
    work.mkdir()
    shutil.copy(directory / "hello.txt", work)
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    bare = directory / "repo.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)


@pytest.fixture
def chat(host: LiveHost, files: Files, authority: Authority, tmp_path: Path) -> Iterator[Chat]:
    """A chat with an agent whose rules allow one host."""
    model = StrictModel(authority.server("localhost"), KEY)
    try:
        start_trusting(host, model, authority, f"{ADDRESS} {HOST} other.test\n")
        nanoclaw(host, "egress", "apply", "-", said=RULES)
        yield Chat(host)
    finally:
        model.close()


def test_every_client_reaches_an_allowed_host_through_the_gateway(chat: Chat, files: Files) -> None:
    """By proxy variables, by /etc/hosts without them (Node before 22 knows none): TLS checked each time."""
    for way in ("", NO_PROXY):
        for name, command in CLIENTS.items():
            said = chat.ask(bash(f"{way} sh -c {quoted(command)}".strip()), f"{name} {len(way)}", 60)
            assert "hello from outside" in said, (name, way, said)
    assert len([line for line in files.asked if line.startswith("GET /hello.txt")]) == 2 * (len(CLIENTS) - 1)
    assert any("repo.git/info/refs" in line for line in files.asked)


def test_what_no_rule_allows_is_refused_by_either_way_and_reaches_nobody(chat: Chat, files: Files) -> None:
    commands = (
        "curl -sS -m 20 https://other.test/hello.txt",
        "curl -sS -m 20 -X POST -d x https://files.test/hello.txt",
        f"{NO_PROXY} curl -sS -m 20 https://other.test/hello.txt",
        f"{NO_PROXY} curl -sS -m 20 --resolve other.test:443:127.0.0.1 https://other.test/hello.txt",
        f"curl -sS -m 20 -k --noproxy '*' https://{ADDRESS}/hello.txt",
    )
    for number, command in enumerate(commands):
        assert "hello from outside" not in chat.ask(bash(command), f"try {number}", 60)
    assert files.asked == []


def test_a_running_box_sees_the_names_of_a_rule_that_is_made_meanwhile(chat: Chat, host: LiveHost) -> None:
    assert "two.test" not in chat.ask(bash("cat /etc/hosts"), "before")
    nanoclaw(host, "egress", "allow", "two.test")
    assert "127.0.0.1 two.test" in chat.ask(bash("sleep 1; cat /etc/hosts"), "after")
    assert "denied" in chat.ask(bash("(echo x >> /etc/hosts || echo denied) 2>&1"), "write").lower()


def quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"
