"""A small stand-in for the Messages API, for tests of the claude provider alone; the product has its rehearsal model.

It obeys directives in the newest user texts of a request, their escapes undone: `[[tool NAME {json}]]`,
`[[text WORDS]]`, `[[status CODE]]`, `[[slow SECONDS]]`, `[[garbage]]`, `[[empty]]`, `[[hangup]]`, `[[toolong]]`;
without one it answers `heard: ` and the texts. A request that carries new tool results is answered with them.
"""

from __future__ import annotations

import html
import http.server
import json
import re
import ssl
import threading
import time
from typing import Any

DIRECTIVE = re.compile(r"\[\[(\w+) ?(.*?)\]\]", re.DOTALL)


class FakeModel:
    """Serves on a free loopback port until `close`; keeps every request body."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        model = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else 40 ms of delayed acknowledgement

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
                model.requests.append(body)
                model.headers.append({"path": self.path, **dict(self.headers)})
                model.answer(self, body)

            def do_GET(self) -> None:
                self.send_response(404)
                self.send_header("content-length", "0")
                self.end_headers()

            do_HEAD = do_GET

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def prompts(self) -> str:
        """Everything every request carried, as one text to search in."""
        return json.dumps(self.requests, ensure_ascii=False)

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        """Answer one request by its directives."""
        texts, results = newest(body.get("messages", []))
        directives = [] if results else DIRECTIVE.findall(html.unescape("\n".join(texts)))
        blocks: list[dict[str, Any]] = []
        for word, argument in directives:
            if word == "slow":
                time.sleep(float(argument))
            elif word == "status":
                error = {"type": "error", "error": {"type": "test_error", "message": f"said {argument}"}}
                return send(handler, int(argument), "application/json", json.dumps(error).encode())
            elif word == "toolong":
                error = {
                    "type": "invalid_request_error",
                    "message": "prompt is too long: 250000 tokens > 200000 maximum",
                }
                return send(handler, 400, "application/json", json.dumps({"type": "error", "error": error}).encode())
            elif word == "garbage":
                return send(handler, 200, "text/event-stream", b"\x00\xff not an event stream\n\n")
            elif word == "hangup":
                handler.close_connection = True
                handler.connection.close()
                return None
            elif word == "tool":
                name, _, arguments = argument.partition(" ")
                blocks.append(
                    {"type": "tool_use", "id": f"toolu_{time.time_ns()}", "name": name, "input": arguments or "{}"}
                )
            elif word == "text":
                blocks.append({"type": "text", "text": argument})
            elif word == "empty":
                return send(handler, 200, "text/event-stream", stream(body, []))
        if not blocks:
            said = "tool said: " + " | ".join(results) if results else "heard: " + " / ".join(texts)
            blocks.append({"type": "text", "text": said})
        return send(handler, 200, "text/event-stream", stream(body, blocks))


def newest(messages: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """User texts and tool results since the last assistant message, system reminders left out."""
    texts: list[str] = []
    results: list[str] = []
    for message in messages:
        if message["role"] == "assistant":
            texts, results = [], []
        elif message["role"] == "user":
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            texts += [
                b["text"] for b in blocks if b["type"] == "text" and not b["text"].startswith("<system-reminder>")
            ]
            results += [json.dumps(b.get("content")) for b in blocks if b["type"] == "tool_result"]
    return texts, results


def stream(body: dict[str, Any], blocks: list[dict[str, Any]]) -> bytes:
    """The server-sent events of one answer."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    stopped = {"stop_reason": None, "stop_sequence": None}
    # the CLI takes messages of the same id for one message
    start = {"id": f"msg_{time.time_ns()}", "type": "message", "role": "assistant", "model": body.get("model")}
    start |= {"content": [], "usage": usage, **stopped}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": block["input"]}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    reason = "tool_use" if any(b["type"] == "tool_use" for b in blocks) else "end_turn"
    events.append({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage})
    events.append({"type": "message_stop"})
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


def send(handler: http.server.BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
    """Write one whole response."""
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
