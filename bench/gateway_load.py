"""The two ends of bench/gateway.py, each a process: an upstream that answers at once, a client that counts.

`python gateway_load.py upstream CERTIFICATE` prints its port and serves TLS until its stdin ends.
`python gateway_load.py client` reads one JSON job a line on stdin and prints its result as one JSON line.
Plain sockets and epoll, one thread: a call costs each end about 0.05 ms, so that neither is what is measured.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

HOST = "api.anthropic.com"
PATH = "/v1/messages"
CALLS_A_BOX = 950  # then the next box is used: a box may make 1,000 calls at once, then 10 a second (gateway/boxes.py)
EVENTS, EVENT_SECONDS = 100, 0.01
STREAM_WORD = b'"stream": true'
ANSWER = json.dumps(
    {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "pong " * 60}], "usage": {"input_tokens": 500, "output_tokens": 60},
    }
).encode()  # fmt: skip
ANSWER_HEAD = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n".encode()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
QUESTION = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "ping " * 400}]}


def read_length(head: bytes) -> int:
    """Return the Content-Length of a head, 0 without one."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


class Upstream:
    """Answers every whole request on every connection, one after the other."""

    def __init__(self, certificate: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._poll = select.epoll()
        self._lines: dict[int, tuple[ssl.SSLSocket, bytearray]] = {}

    def serve(self) -> None:
        """Serve until stdin ends."""
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(sys.stdin, select.EPOLLIN)
        while True:
            for number, _ in self._poll.poll():
                if number == sys.stdin.fileno():
                    return
                if number == self._listener.fileno():
                    self._accept()
                else:
                    self._read(number)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            line = self._context.wrap_socket(sock, server_side=True)
        except OSError:
            return  # the client went
        line.setblocking(False)
        self._lines[line.fileno()] = (line, bytearray())
        self._poll.register(line, select.EPOLLIN)

    def _read(self, number: int) -> None:
        line, data = self._lines[number]
        try:
            while True:
                piece = line.recv(65536)
                if not piece:
                    raise ConnectionResetError
                data += piece
        except ssl.SSLWantReadError:
            pass
        except OSError:
            self._poll.unregister(number)
            del self._lines[number]
            line.close()
            return
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) < end + 4 + read_length(bytes(data[:end])):
            return
        wants_stream = STREAM_WORD in data
        data.clear()
        if wants_stream:
            threading.Thread(target=self._stream, args=(line,), daemon=True).start()
        else:
            line.send(ANSWER_HEAD + ANSWER)

    def _stream(self, line: ssl.SSLSocket) -> None:
        """Send events that say when they were sent, on the clock that every process here shares."""
        line.send(STREAM_HEAD)
        for _ in range(EVENTS):
            time.sleep(EVENT_SECONDS)
            event = b'event: content_block_delta\ndata: {"sent": %d}\n\n' % time.monotonic_ns()
            line.send(b"%x\r\n%s\r\n" % (len(event), event))
        line.send(b"0\r\n\r\n")


@dataclass(frozen=True, slots=True)
class Way:
    """How calls get there: straight by TLS, by the gateway's route, or through CONNECT at the gateway."""

    kind: str  # "direct", "reverse", "connect"
    ports: list[int]  # of the upstream, or of as many boxes as there is need of
    ca_pem: str

    def request(self, *, stream: bool = False) -> bytes:
        """Return the bytes of one call."""
        body = json.dumps({**QUESTION, "stream": stream}).encode()
        path, host = ("/anthropic" + PATH, "127.0.0.1:3128") if self.kind == "reverse" else (PATH, HOST)
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nx-api-key: placeholder\r\ncontent-type: application/json\r\n"
        return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body

    def connect(self, port: int) -> socket.socket:
        """Return a connection ready for calls."""
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.kind == "reverse":
            return sock
        if self.kind == "connect":
            sock.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
            answer = sock.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"CONNECT was refused: {answer!r}")
        context = ssl.create_default_context(cadata=self.ca_pem)
        return context.wrap_socket(sock, server_hostname=HOST)


class Client:
    """Makes calls over kept connections, each box used for no more calls than it may make at once."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._ports = iter(way.ports)
        self._request = way.request()
        self._left: dict[int, int] = {}

    def connect(self) -> socket.socket:
        """Return a connection to the next box."""
        sock = self._way.connect(self._way.ports[0] if self._way.kind == "direct" else next(self._ports))
        self._left[sock.fileno()] = CALLS_A_BOX
        return sock

    def call_one_by_one(self, calls: int) -> list[float]:
        """Return how long each call took in ms; the first of each connection is not counted."""
        took: list[float] = []
        while len(took) < calls:
            with self.connect() as sock:
                took += [self._call(sock) for _ in range(min(CALLS_A_BOX, calls - len(took) + 1))][1:]
        return took

    def _call(self, sock: socket.socket) -> float:
        began = time.perf_counter()
        sock.sendall(self._request)
        data = b""
        while not is_whole(data):
            piece = sock.recv(65536)
            if not piece:
                raise SystemExit(f"the connection ended after {data!r}")
            data += piece
        if not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a call failed: {data!r}")
        return (time.perf_counter() - began) * 1000

    def call_side_by_side(self, calls: int, connections: int) -> float:
        """Return how many calls were answered a second."""
        poll = select.epoll()
        lines: dict[int, tuple[socket.socket, bytearray]] = {}

        def open_line() -> None:
            sock = self.connect()
            sock.setblocking(False)
            lines[sock.fileno()] = (sock, bytearray())
            poll.register(sock, select.EPOLLIN)
            sock.send(self._request)

        done, begun = 0, time.perf_counter()
        for _ in range(connections):
            open_line()
        while done < calls:
            for number, _ in poll.poll(5):
                sock, data = lines[number]
                if not self._take(sock, data):
                    continue
                done += 1
                data.clear()
                self._left[number] -= 1
                if self._left[number] > 0 or self._way.kind == "direct":
                    sock.send(self._request)
                    continue
                poll.unregister(number)
                lines.pop(number)[0].close()
                open_line()
        took = time.perf_counter() - begun
        for sock, _ in lines.values():
            sock.close()
        return done / took

    def _take(self, sock: socket.socket, data: bytearray) -> bool:
        try:
            while piece := sock.recv(65536):
                data += piece
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        if data and not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a call failed: {bytes(data)!r}")
        return is_whole(bytes(data))

    def delays_of_events(self) -> list[float]:
        """Return how long each event of a stream was on its way, in ms."""
        with self.connect() as sock:
            sock.sendall(self._way.request(stream=True))
            return list(self._read_events(sock))

    def _read_events(self, sock: socket.socket) -> Iterator[float]:
        data = b""
        while not data.endswith(b"\r\n0\r\n\r\n"):
            piece = sock.recv(65536)
            came_at = time.monotonic_ns()
            if not piece:
                raise SystemExit(f"the stream ended after {data[-200:]!r}")
            data += piece
            for part in piece.split(b'{"sent": ')[1:]:
                yield (came_at - int(part.partition(b"}")[0])) / 1e6


def is_whole(data: bytes) -> bool:
    """Whether data is one whole answer with a Content-Length."""
    end = data.find(b"\r\n\r\n")
    return end >= 0 and len(data) >= end + 4 + read_length(data[:end])


def work(job: dict[str, object]) -> object:
    """Do one job of the bench."""
    client = Client(Way(str(job["kind"]), list(job["ports"]), str(job["ca_pem"])))  # type: ignore[call-overload]
    calls, connections = int(str(job["calls"])), int(str(job["connections"]))
    if connections > 1:
        return client.call_side_by_side(calls, connections)
    return client.call_one_by_one(calls) if calls else client.delays_of_events()


def main() -> None:
    """Be one of the two ends."""
    if sys.argv[1] == "upstream":
        upstream = Upstream(sys.argv[2])
        print(upstream.port, flush=True)
        upstream.serve()
        return
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
