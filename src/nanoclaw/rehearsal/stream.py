"""Answers in the Messages API's own bytes: server-sent events, or one JSON object.

Shapes and their order: Anthropic's API reference, "Streaming Messages" and "Errors".
"""

from __future__ import annotations

from collections.abc import Iterator

from nanoclaw.rehearsal.decide import Answer, Call
from nanoclaw.rehearsal.json_value import Json, JsonObject, dump_json

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_PIECE_CHARACTERS = 4000
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def start_event(message_id: str, model: str, input_tokens: int) -> bytes:
    """Return `message_start`."""
    message = _message(message_id, model, [], None, _usage(input_tokens, 1))
    return _event("message_start", {"message": message})


def rest_events(action: Answer | Call) -> Iterator[bytes]:
    """Yield everything after `message_start`: one content block (none for an empty answer) and the end."""
    if isinstance(action, Call):
        block: JsonObject = {"type": "tool_use", "id": action.id, "name": action.tool, "input": {}}
        yield _event("content_block_start", {"index": 0, "content_block": block})
        for piece in _pieces(dump_json(action.arguments)):
            yield _delta({"type": "input_json_delta", "partial_json": piece})
        yield _event("content_block_stop", {"index": 0})
    elif action.text:
        yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        for piece in _pieces(action.text):
            yield _delta({"type": "text_delta", "text": piece})
        yield _event("content_block_stop", {"index": 0})
    stop: JsonObject = {"stop_reason": _stop_reason(action), "stop_sequence": None}
    yield _event("message_delta", {"delta": stop, "usage": {"output_tokens": _output_tokens(action)}})
    yield _event("message_stop", {})


def whole_message(action: Answer | Call, message_id: str, model: str, input_tokens: int) -> bytes:
    """Return the answer to a request that asked for no stream."""
    content: list[Json] = []
    if isinstance(action, Call):
        content.append({"type": "tool_use", "id": action.id, "name": action.tool, "input": action.arguments})
    elif action.text:
        content.append({"type": "text", "text": action.text})
    usage = _usage(input_tokens, _output_tokens(action))
    return dump_json(_message(message_id, model, content, _stop_reason(action), usage)).encode()


def error_body(status: int, message: str, request_id: str) -> bytes:
    """Return an error in the API's JSON shape."""
    kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error: JsonObject = {"type": kind, "message": message}
    return dump_json({"type": "error", "error": error, "request_id": request_id}).encode()


def _message(
    message_id: str, model: str, content: list[Json], stop_reason: str | None, usage: JsonObject
) -> JsonObject:
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(input_tokens: int, output_tokens: int) -> JsonObject:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }


def _stop_reason(action: Answer | Call) -> str:
    return "tool_use" if isinstance(action, Call) else "end_turn"


def _output_tokens(action: Answer | Call) -> int:
    """Guess a number of tokens: four characters each."""
    return max(1, len(dump_json(action.arguments) if isinstance(action, Call) else action.text) // 4)


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE_CHARACTERS):
        yield text[start : start + _PIECE_CHARACTERS]


def _delta(delta: JsonObject) -> bytes:
    return _event("content_block_delta", {"index": 0, "delta": delta})


def _event(name: str, fields: JsonObject) -> bytes:
    return f"event: {name}\ndata: {dump_json({'type': name, **fields})}\n\n".encode()
