"""The real CLI with a worthless key, a model behind TLS that answers to the real one alone, which no box ever has."""

from __future__ import annotations

import http.server
import json
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.search import INSIDE, holds, list_family
from tests.e2e.strict_model import NEEDS_ROOT, NO_PROXY, StrictModel, bash, nanoclaw, start_trusting
from tests.flow.certificates import Authority, make_authority
from tests.live import Chat, LiveHost, wait_until

KEY = "sk-ant-api03-THE-REAL-KEY-0123456789"
HALVES = (KEY[:20], KEY[20:])
PLACEHOLDER = b"sk-ant-placeholder"
CLI = "env -u CLAUDECODE ANTHROPIC_API_KEY=sk-ant-placeholder ANTHROPIC_BASE_URL=https://api.anthropic.com timeout 90"
CLI += " /opt/agent/claude -p --setting-sources= --model claude-sonnet-4-5"

pytestmark = [
    pytest.mark.ci,  # a CLI inside the CLI and every page of its memory: half a minute
    NEEDS_ROOT,
]


class PatientModel(StrictModel):
    """A model that lets the first call about `patience` wait until somebody has pulled a plug."""

    def __init__(self, context: ssl.SSLContext, key: str) -> None:
        super().__init__(context, key)
        self.asked, self.go_on = threading.Event(), threading.Event()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        newest = json.dumps(body["messages"][-1])
        if "my patience" in newest and "[[tool" not in newest and not self.asked.is_set():
            self.asked.set()
            self.go_on.wait(30)
            return  # to nobody: the gateway that asked is gone
        super().answer(handler, body)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "authority")


@pytest.fixture
def model(authority: Authority) -> Iterator[PatientModel]:
    fake = PatientModel(authority.server("localhost"), KEY)
    try:
        yield fake
    finally:
        fake.close()


@pytest.fixture
def keyed(host: LiveHost, model: StrictModel, authority: Authority) -> LiveHost:
    """A host whose gateway trusts the model's certificate and has the real key in its vault."""
    return start_trusting(host, model, authority)


def test_the_cli_is_answered_by_its_base_url(keyed: LiveHost, model: StrictModel) -> None:
    assert ">hello<" in Chat(keyed).ask("hello", "one")
    assert {headers.get("x-api-key") for headers in model.headers} == {KEY}
    assert model.sent_away == 0


def test_the_cli_is_answered_through_connect_to_the_model_api_itself(keyed: LiveHost, model: StrictModel) -> None:
    said = Chat(keyed).ask(bash(f"{CLI} 'an inner question' </dev/null"), "one", 120)
    assert "heard: an inner question" in said
    assert any("an inner question" in json.dumps(body) for body in model.requests[1:])
    assert {headers.get("x-api-key") for headers in model.headers} == {KEY}
    assert model.sent_away == 0


def test_the_cli_is_answered_without_proxy_variables_because_the_name_leads_to_the_gateway(
    keyed: LiveHost, model: StrictModel
) -> None:
    said = Chat(keyed).ask(bash(f"{NO_PROXY} {CLI} 'a straight question' </dev/null"), "one", 120)
    assert "heard: a straight question" in said
    assert (model.sent_away, {headers.get("x-api-key") for headers in model.headers}) == (0, {KEY})


def test_the_real_key_is_nowhere_but_in_the_gateway(keyed: LiveHost, model: StrictModel) -> None:
    workspace = keyed.home / "groups" / "main"
    chat = Chat(keyed)
    assert ">hello<" in chat.ask("hello", "one")
    (workspace / "search.py").write_text(INSIDE)
    said = chat.ask(bash(f"python3 /workspace/search.py {' '.join(HALVES)}"), "two", 120)
    assert "searched enough found 0" in said, said
    assert "searched enough found" in chat.ask(bash("python3 /workspace/search.py sk-ant- placeholder"), "three", 120)
    chat.say("[[slow 8]] wait", "four")
    wait_until(lambda: "wait" in json.dumps(model.requests[-1]["messages"][-1]), "a call under way")
    search_memory(keyed)
    search_files(keyed)
    assert KEY not in chat.settle("four", 60)


@pytest.mark.parametrize("way", ["by its base URL", "by CONNECT"])
def test_a_gateway_killed_in_a_turn_is_back_within_a_second_and_the_turn_is_answered(
    keyed: LiveHost, model: PatientModel, way: str
) -> None:
    chat = Chat(keyed)
    assert ">hello<" in chat.ask("hello", "first")
    (gateway,) = keyed.find("nanoclaw.gateway.main")
    chat.say("my patience" if way == "by its base URL" else bash(f"{CLI} 'my patience' </dev/null"), "asked")
    assert model.asked.wait(60), "no call was under way"
    os.kill(gateway, signal.SIGKILL)
    killed_at = time.monotonic()
    (successor,) = wait_until(
        lambda: [pid for pid in keyed.find("nanoclaw.gateway.main") if pid != gateway], "the next gateway", 10
    )
    wait_until(lambda: keyed.log().count("gateway.started") == 2, "the next gateway to serve", 10)
    took_seconds = time.monotonic() - killed_at
    model.go_on.set()
    assert "my patience" in chat.settle("asked", 120)
    assert chat.outcome("asked") == "replied"
    assert took_seconds < 1.0 or os.getloadavg()[0] > 2, f"it took {took_seconds:.2f} s on a quiet machine"
    assert ">again<" in chat.ask("again", "after")
    assert (model.sent_away, {headers.get("x-api-key") for headers in model.headers}) == (0, {KEY}), "the key is there"
    assert holds(successor, KEY.encode())
    assert "gateway" in nanoclaw(keyed, "audit", "verify"), "exit 0: the chain is whole"


def search_memory(host: LiveHost) -> None:
    assert host.process is not None
    (gateway,) = host.find("nanoclaw.gateway.main")
    assert holds(gateway, KEY.encode()), "the search finds nothing where there is something"
    family = [pid for pid in list_family(host.process.pid) if pid != gateway]
    assert not [pid for pid in family if holds(pid, KEY.encode())]
    assert [pid for pid in host.find("/opt/agent/claude") if holds(pid, PLACEHOLDER)], "no CLI was searched"
    for pid in family:
        for name in ("environ", "cmdline"):
            assert KEY.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    limits = {Path(f"/proc/{pid}/limits").read_text().split("Max core file size")[1].split()[0] for pid in family[1:]}
    assert "0" in limits


def search_files(host: LiveHost) -> None:
    for path in host.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in host.log()
