"""HTTP/1.1 over an inherited listening socket: one thread a connection, keep-alive, h11 for the grammar.

In:     a listening TCP socket; a person's own connections number a handful.
Never:  reads a file, a secret or the environment; connects anywhere.
Fails:  one bad connection is closed and the others go on. Ends when the process that started it ends.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Iterator

import h11

from nanoclaw.rehearsal.api import Reply, answer
from nanoclaw.rehearsal.stream import PING

LARGEST_BODY_BYTES = 32 * 1024 * 1024  # the API's own limit
_PING_SECONDS = 5.0


def serve(listener: socket.socket, parent_pid: int) -> None:
    """Serve until the parent process is gone (its pidfd becomes readable)."""
    parent = os.pidfd_open(parent_pid)
    listener.setblocking(False)
    while True:
        readable, _, _ = select.select([listener, parent], [], [])
        if parent in readable:
            return
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        connection.setblocking(True)
        threading.Thread(target=_serve_connection, args=(connection,), daemon=True).start()


def _serve_connection(connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        state = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
        try:
            while _serve_request(connection, state):
                state.start_next_cycle()
        except (OSError, h11.ProtocolError):
            return  # the other side went away or speaks no HTTP; nobody is left to tell


def _serve_request(connection: socket.socket, state: h11.Connection) -> bool:
    """Read one request and answer it; False when the connection is done."""
    request = _next_event(connection, state)
    if not isinstance(request, h11.Request):
        return False
    body = bytearray()
    while isinstance(event := _next_event(connection, state), h11.Data):
        body += event.data
        if len(body) > LARGEST_BODY_BYTES:
            return False
    if not isinstance(event, h11.EndOfMessage):
        return False
    reply = answer(request.method.decode(), request.target.decode(), bytes(body), lambda: secrets.token_hex(10))
    if reply.status == 0:
        time.sleep(reply.delay_seconds)
        return False
    for data in _reply_bytes(state, reply, head_only=request.method == b"HEAD"):
        connection.sendall(data)
    return state.our_state is h11.DONE and state.their_state is h11.DONE


def _next_event(connection: socket.socket, state: h11.Connection) -> object:
    while (event := state.next_event()) is h11.NEED_DATA:
        if state.they_are_waiting_for_100_continue:
            connection.sendall(state.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        state.receive_data(connection.recv(65536))
    return event


def _reply_bytes(state: h11.Connection, reply: Reply, *, head_only: bool) -> Iterator[bytes]:
    """Yield the reply's bytes, waiting where the reply asks for it; a waiting stream is kept alive with pings."""
    headers = [(name, value) for name, value in reply.headers]
    if reply.streamed:
        yield _send(state, h11.Response(status_code=reply.status, headers=headers))
        yield _send(state, h11.Data(data=reply.first + PING))
        for _ in _wait(reply.delay_seconds):
            yield _send(state, h11.Data(data=PING))
        yield _send(state, h11.Data(data=b"".join(reply.rest)))
    else:
        for _ in _wait(reply.delay_seconds):
            pass
        body = reply.first + b"".join(reply.rest)
        headers.append(("content-length", str(len(body))))
        yield _send(state, h11.Response(status_code=reply.status, headers=headers))
        if not head_only:
            yield _send(state, h11.Data(data=body))
    yield _send(state, h11.EndOfMessage())


def _wait(seconds: float) -> Iterator[None]:
    """Sleep, waking every few seconds to let the caller show a sign of life."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _PING_SECONDS))
        yield


def _send(state: h11.Connection, event: h11.Event) -> bytes:
    return state.send(event) or b""
