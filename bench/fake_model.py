"""A model that answers at once, in a process of its own, and says when each request came and was answered.

Also serves the runner's own MCP endpoint, so that the bare CLI is started with the same flags as in a box.
Started by `FakeModel`; run as a program it prints its two ports, then a line `RECEIVED ANSWERED` (monotonic ns) a call.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

REPLY = "pong"
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ModelCall:
    """When a request had come whole, and when its answer had been written; monotonic seconds."""

    received_at: float
    answered_at: float

    @property
    def took_seconds(self) -> float:
        """The model's share of a turn."""
        return self.answered_at - self.received_at


class FakeModel:
    """The process, for `with`."""

    def __init__(self) -> None:
        argv = [sys.executable, "-I", str(Path(__file__))]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        ports = self._read_line().split()
        self.port, self.tools_port = int(ports[0]), int(ports[1])

    def _read_line(self) -> bytes:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the fake model ended; see its last words above")
        return line

    def wait_for_call(self) -> ModelCall:
        """Return the next call, in order; blocks until it is answered."""
        received, answered = self._read_line().split()
        return ModelCall(int(received) / 1e9, int(answered) / 1e9)

    def __enter__(self) -> FakeModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


def answer_bytes(request: bytes) -> bytes:
    """Return a whole streamed answer in one chunk."""
    body = json.loads(request)
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = {"id": f"msg_{secrets.token_hex(10)}", "type": "message", "role": "assistant", "content": []}
    message |= {"model": body.get("model"), "stop_reason": None, "stop_sequence": None, "usage": usage}
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": REPLY}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


async def serve_model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every POST of one connection at once; anything else is not found."""

    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").lower().split("\r\n")
            length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
            body = await reader.readexactly(length)
            received = time.monotonic_ns()
            is_call = head.startswith(b"POST ") and b"/v1/messages" in head.split(b"\r\n", 1)[0]
            content = answer_bytes(body) if is_call else b""
            status = b"200 OK" if is_call else b"404 Not Found"
            kind = b"content-type: text/event-stream\r\ncontent-length: " + str(len(content)).encode()
            writer.write(b"HTTP/1.1 " + status + b"\r\n" + kind + b"\r\n\r\n" + content)
            await writer.drain()
            if is_call:
                print(received, time.monotonic_ns(), flush=True)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Serve until stdin ends."""

    from nanoclaw.contract.message import ToolAnswer
    from nanoclaw.runner.mcp import ToolServer
    from nanoclaw.runner.tools import build_tools

    class Desk:
        """Nobody listens."""

        async def send_message(self, text: str, to: str | None) -> str:
            """Pretend to send."""
            return "Sent."

        async def send_file(self, path: str, to: str | None, text: str, name: str | None) -> str:
            """Pretend to send."""
            return "Sent."

        async def ask(self, action: str, arguments: dict[str, object], seconds: float = 0.0) -> ToolAnswer:
            """Pretend to ask."""
            return ToolAnswer("done", "")

    server = await asyncio.start_server(serve_model, "127.0.0.1", 0, limit=1 << 26)
    tools_socket = socket.create_server(("127.0.0.1", 0))
    tools_socket.setblocking(False)
    tools = ToolServer(build_tools(Desk(), 1800.0))
    await tools.start(tools_socket)
    print(server.sockets[0].getsockname()[1], tools_socket.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main())
