"""A real box, a call that waits for its person, and the answer on the terminal."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import pytest

from nanoclaw.gateway import admin_words
from nanoclaw.gateway.client import ask_admin
from nanoclaw.gateway.egress_words import CallJudged, EgressApply, EgressList, EgressTest, RuleList, RulesChange
from tests.live import PATIENCE_SECONDS, Chat, LiveHost, wait_until

pytestmark = pytest.mark.ci  # real boxes, gateways killed and started again: twenty seconds

RULES = """\
[[rule]]
name = "shop"
group = "main"
host = "127.0.0.1"
port = {port}
scheme = "http"
action = "ask"
allow_private = true
"""


class Shop:
    """A shop on this machine that takes every payment, and remembers them."""

    def __init__(self) -> None:
        paid = self.paid = list[str]()

        class Till(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Take a payment."""
                paid.append(self.path + " " + self.rfile.read(int(self.headers["content-length"])).decode())
                self.send_response(200)
                self.send_header("content-length", "4")
                self.end_headers()
                self.wfile.write(b"paid")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Till)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def payment(self, amount: int) -> str:
        """What an agent types to pay, as the rehearsal model understands it."""
        through = "--noproxy '' --proxy http://127.0.0.1:3128"
        return f"run: curl -sS {through} --max-time 110 -d amount={amount} http://127.0.0.1:{self.port}/pay 2>&1; echo"


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    try:
        yield shop
    finally:
        shop.close()


Answer = TypeVar("Answer")


def ask(host: LiveHost, request: admin_words.AdminRequest, kind: type[Answer]) -> Answer:
    return ask_admin(host.home / "run" / "gateway.sock", request, kind)


def reads(chat: Chat, pattern: str) -> str:
    """Read on until a text fits, and return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := [text for text in chat.texts() if re.search(pattern, text)]):
        assert time.monotonic() < deadline, f"waited in vain for {pattern}; heard {chat.texts()}"
        chat.read_for(0.1)
    return found[-1]


@pytest.fixture
def chat(host: LiveHost, shop: Shop) -> Chat:
    host.start()
    ask(host, EgressApply(RULES.format(port=shop.port)), RulesChange)
    return Chat(host)


def test_curl_in_a_box_waits_until_the_owner_says_1_and_then_gets_its_answer(chat: Chat, shop: Shop) -> None:
    chat.say(shop.payment(3), "pay")
    card = reads(chat, "Andy wants to call POST 127.0.0.1/pay")
    assert f"The call: POST http://127.0.0.1:{shop.port}/pay" in card and "What it sends: amount=3" in card
    assert shop.paid == [] and chat.messages["pay"] not in chat.outcomes
    chat.say("1", "yes")
    assert "paid" in chat.settle("pay")
    assert shop.paid == ["/pay amount=3"]


def test_curl_reads_a_no_in_words(chat: Chat, shop: Shop) -> None:
    chat.say(shop.payment(3), "pay")
    reads(chat, "Andy wants to call")
    chat.say("no", "no")
    shown = chat.settle("pay")
    assert "said no to this call" in shown and "permission_error" in shown and shop.paid == []
    assert "short while ago" in chat.ask(shop.payment(3), "again")


def test_always_is_a_rule_that_lets_the_next_call_go_unasked(chat: Chat, shop: Shop, host: LiveHost) -> None:
    chat.say(shop.payment(3), "pay")
    reads(chat, "Andy wants to call")
    chat.say("3", "always")
    assert "paid" in chat.settle("pay")
    reads(chat, "from now on without asking")
    assert "paid" in chat.ask(shop.payment(4), "again")
    assert shop.paid == ["/pay amount=3", "/pay amount=4"]
    assert "/pay" in repr(ask(host, EgressList(), RuleList))


def test_a_gateway_killed_while_a_call_waits_loses_neither_the_question_nor_the_yes(
    chat: Chat, shop: Shop, host: LiveHost
) -> None:
    chat.say(shop.payment(3), "pay")
    reads(chat, "Andy wants to call")
    (gateway,) = host.find("gateway.main")
    os.kill(gateway, signal.SIGKILL)
    assert "curl" in chat.settle("pay") and shop.paid == []
    wait_until(lambda: [pid for pid in host.find("gateway.main") if pid != gateway], "the next gateway")
    card = reads(chat, "Andy wants to call")
    code = re.search(r"`([a-z][0-9]+) 1`", card)
    assert code is not None
    chat.say(f"{code[1]} 1", "yes")
    reads(chat, "Approved by")
    wait_until(lambda: "HoldTaken" in host.log(), "the gateway to have the answer")
    assert "paid" in chat.ask(shop.payment(3), "again")
    assert shop.paid == ["/pay amount=3"]
    assert sum("1. Allow once" in text for text in chat.texts()) == 1, "one card in all"
    assert ask(host, admin_words.AuditVerify(), admin_words.Verification).broken_at is None


def test_an_agent_asks_for_access_and_has_it_after_a_1(chat: Chat, host: LiveHost) -> None:
    wanted = {"host": "api.example.org", "methods": ["GET"], "paths": ["/v1/**"], "reason": "To read the weather."}
    said = chat.ask(f"tool: mcp__nanoclaw__request_access {json.dumps(wanted)}", "ask")
    assert "A person is asked" in said
    assert "GET api.example.org/v1/**" in reads(chat, "Andy asks to reach api.example.org")
    code = re.search(r"`([a-z][0-9]+) 1`", reads(chat, "Andy asks to reach"))
    assert code is not None
    chat.say(f"{code[1]} 1", "yes")
    reads(chat, "and in force: GET api.example.org/v1/")
    for url, verdict in (("https://api.example.org/v1/x", "allow"), ("https://api.example.org/v2", "deny")):
        assert ask(host, EgressTest(url, "main"), CallJudged).verdict == verdict
