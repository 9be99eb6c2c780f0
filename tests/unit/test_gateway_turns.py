"""What costs the most for its size (tiny chunks, tiny frames) is done in small parts, and others run in between.

Turns of the loop are counted, not time: a machine that is busy changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import h11

from nanoclaw.gateway.boxes import Limits
from nanoclaw.gateway.frames import Frames
from nanoclaw.gateway.line import Line
from nanoclaw.gateway.redact import Redactor
from nanoclaw.gateway.turns import Turns
from nanoclaw.gateway.upgrade import Direction, WebSocket
from nanoclaw.gateway.upstream import Endpoint, UpstreamError, UpstreamPool
from nanoclaw.gateway.wanted import SecretWatch
from tests.flow.gateway_bench import answers
from tests.flow.gateway_stand import StandIn

CHUNKS = b"1\r\na\r\n" * 10_000
FEWEST = 10


class Script:
    """Gives all it has at once, then the end; keeps nothing of what is written."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def read(self, count: int, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def write(self, data: bytes, /) -> None:
        pass

    async def drain(self) -> None:
        pass

    def write_eof(self) -> None:
        pass


async def turns_during(work: Coroutine[Any, Any, None]) -> int:
    """Return how often something else could run meanwhile."""
    turns = 0
    task = asyncio.ensure_future(work)
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    task.result()
    return turns


async def test_of_many_busy_connections_of_a_box_one_goes_on_in_each_turn() -> None:
    turns = Turns()
    gone_on: list[int] = []

    async def be_busy(number: int) -> None:
        for _ in range(3):
            await turns.take()
            gone_on.append(number)

    tasks = [asyncio.ensure_future(be_busy(number)) for number in range(10)]
    tasks[5].cancel()
    most = 0
    while not all(task.done() for task in tasks):
        before = len(gone_on)
        await asyncio.sleep(0)
        most = max(most, len(gone_on) - before)
    assert most == 1
    assert gone_on == [number for number in range(10) if number != 5] * 3


async def test_tiny_frames_of_a_web_socket_let_others_run() -> None:
    script = Script(b"\x81\x00" * 32_768)
    wanted = SecretWatch(lambda: (b"a secret of sixteen",))()
    frames = Frames(lambda: Redactor(wanted), masked=False)
    direction = Direction(script, script, frames, lambda _: None)
    assert await turns_during(WebSocket(Limits(), lambda: True, Turns()).carry(direction)) > FEWEST


async def test_a_request_in_tiny_chunks_lets_others_run() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    script = Script(head, CHUNKS + b"0\r\n\r\n")
    line = Line(script, script, Limits())

    async def read() -> None:
        assert await line.next_request() is not None
        body, whole = await line.hold(1024 * 1024)
        assert (len(body), whole) == (10_000, True)

    assert await turns_during(read()) > FEWEST


async def test_what_is_left_of_a_refused_request_in_tiny_chunks_lets_others_run() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    line = Line(Script(head, CHUNKS + b"0\r\n\r\n"), Script(), Limits())

    async def drain() -> None:
        assert await line.next_request() is not None
        await line.send(h11.Response(status_code=403, headers=[(b"content-length", b"0")]))
        await line.send(h11.EndOfMessage())
        assert await line.start_next()

    assert await turns_during(drain()) > FEWEST


async def test_an_answer_in_tiny_chunks_lets_others_run() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    upstream = StandIn(answers(head + CHUNKS + b"0\r\n\r\n"))
    async with upstream.listening() as port:
        pool = UpstreamPool()
        connection = await pool.acquire(Endpoint("127.0.0.1", port, tls=False, allow_private=True), 5)
        await connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
        await connection.send(h11.EndOfMessage())
        await connection.read_head(5)
        await asyncio.sleep(0.05)  # all of it is here

        async def read() -> None:
            while await connection.read_body(5):
                pass

        assert await turns_during(read()) > FEWEST
        connection.abort()
        pool.close()


async def test_answers_that_are_always_yet_to_come_end() -> None:
    upstream = StandIn(answers(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000))
    async with upstream.listening() as port:
        pool = UpstreamPool()
        connection = await pool.acquire(Endpoint("127.0.0.1", port, tls=False, allow_private=True), 5)
        await connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
        await connection.send(h11.EndOfMessage())
        said = ""
        try:
            await connection.read_head(5)
        except UpstreamError as error:
            said = str(error)
        assert "yet to come" in said
        connection.abort()
        pool.close()


async def test_hosts_that_are_called_once_leave_nothing_behind() -> None:
    upstream = StandIn(answers(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"))
    async with upstream.listening() as port:
        pool = UpstreamPool()
        for number in range(3):
            endpoint = Endpoint("127.0.0.1", port, tls=False, allow_private=True, whose=str(number))
            connection = await pool.acquire(endpoint, 5)
            await connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
            await connection.send(h11.EndOfMessage())
            await connection.read_head(5)
            assert await connection.read_body(5) == b""
            pool.release(connection)
        assert vars(pool)["_idle"] == {}
        pool.close()
