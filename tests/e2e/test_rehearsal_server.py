"""The rehearsal process over real sockets, as a plain HTTP client sees it."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.rehearsal_driver import running_rehearsal

BETA = "/v1/messages?beta=true"
STARTER = """
import os, socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", 0))
argv = [sys.executable, "-I", "-m", "nanoclaw.rehearsal", str(listener.fileno()), str(os.getpid())]
child = subprocess.Popen(argv, env={}, pass_fds=[listener.fileno()])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running_rehearsal() as number:
        yield number


@pytest.fixture
def client(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    yield connection
    connection.close()


def request(text: str, **fields: Any) -> str:
    body = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **fields}
    return json.dumps(body)


def post(
    client: http.client.HTTPConnection, body: str | bytes, path: str = "/v1/messages?beta=true"
) -> tuple[int, Any]:
    client.request("POST", path, body, {"content-type": "application/json"})
    response = client.getresponse()
    return response.status, json.loads(response.read())


def test_a_stream_has_the_events_of_the_api_in_order(client: http.client.HTTPConnection) -> None:
    client.request("POST", "/v1/messages", request("say: hello", stream=True))
    response = client.getresponse()
    assert response.getheader("content-type", "").startswith("text/event-stream")
    events = [block.split("\n") for block in response.read().decode().strip().split("\n\n")]
    assert [event[0].removeprefix("event: ") for event in events] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    data = [json.loads(event[1].removeprefix("data: ")) for event in events]
    assert data[0]["message"]["usage"]["input_tokens"] > 0
    assert data[3]["delta"] == {"type": "text_delta", "text": "hello"}
    assert data[5]["delta"]["stop_reason"] == "end_turn"


def test_one_connection_carries_several_requests(client: http.client.HTTPConnection) -> None:
    for number in range(3):
        status, message = post(client, request(f"say: {number}"))
        assert (status, message["content"][0]["text"]) == (200, str(number))


def test_a_tool_call_comes_without_a_stream_too(client: http.client.HTTPConnection) -> None:
    _, message = post(client, request("run: date", tools=[{"name": "Bash"}]))
    assert message["stop_reason"] == "tool_use"
    assert message["content"][0]["input"]["command"] == "date"


def test_tokens_of_a_request_are_counted(client: http.client.HTTPConnection) -> None:
    status, counted = post(client, request("hello " * 100), "/v1/messages/count_tokens")
    assert status == 200
    assert counted["input_tokens"] > 100


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{broken", 400, "invalid_request_error"),
        (b"\xff\xfe\x00", 400, "invalid_request_error"),
        (b"[" * 200_000, 400, "invalid_request_error"),
        (b"[]", 400, "invalid_request_error"),
        (b'{"model": "x", "max_tokens": 1, "messages": []}', 400, "invalid_request_error"),
        (request("fail: 401").encode(), 401, "authentication_error"),
        (request("fail: 429").encode(), 429, "rate_limit_error"),
        (request("fail: 500").encode(), 500, "api_error"),
        (request("fail: 529").encode(), 529, "overloaded_error"),
        (request("fail: what").encode(), 400, "invalid_request_error"),
    ],
)
def test_an_error_has_the_shape_of_the_api(
    client: http.client.HTTPConnection, body: bytes, status: int, kind: str
) -> None:
    found, error = post(client, body)
    assert (found, error["type"], error["error"]["type"]) == (status, "error", kind)
    assert post(client, request("say: still here"))[0] == 200


def test_an_unknown_path_is_not_found(client: http.client.HTTPConnection) -> None:
    status, error = post(client, "{}", "/v1/complete")
    assert (status, error["error"]["type"]) == (404, "not_found_error")


def test_nothing_is_a_closed_connection(client: http.client.HTTPConnection) -> None:
    client.request("POST", "/v1/messages", request("fail: nothing", stream=True))
    with pytest.raises(http.client.RemoteDisconnected):
        client.getresponse()


def test_bytes_that_are_no_http_hurt_nobody_else(port: int, client: http.client.HTTPConnection) -> None:
    with socket.create_connection(("127.0.0.1", port)) as bad:
        bad.sendall(b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n")
        assert bad.recv(100) == b""
    assert post(client, request("say: fine"))[0] == 200


def test_it_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-I", "-c", STARTER], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = os.pidfd_open(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert_ends(child)


def assert_ends(pidfd: int) -> None:
    """Wait until the process of a pidfd has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = poll.poll(10_000)
    os.close(pidfd)
    assert ended
