"""One HTTP request to the Messages API and the answer to it, as data.

In:     method, path, body.
Out:    `Reply`: status, headers, then either a whole body or a stream with a delay before its content.
Fails:  in the API's own JSON shape; a request it would refuse is refused with the status it would use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nanoclaw.rehearsal.conversation import parse_conversation
from nanoclaw.rehearsal.decide import Action, Answer, Failure, decide_action
from nanoclaw.rehearsal.json_value import Json, dump_json, get_list, get_text, parse_json
from nanoclaw.rehearsal.sidecall import find_side_answer
from nanoclaw.rehearsal.stream import error_body, rest_events, start_event, whole_message

Headers = tuple[tuple[str, str], ...]
_JSON = ("content-type", "application/json")
_EVENTS = ("content-type", "text/event-stream; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: `first`, then after `delay_seconds` the chunks of `rest`. `status` 0 closes the connection."""

    status: int
    headers: Headers
    first: bytes = b""
    delay_seconds: float = 0.0
    rest: Iterable[bytes] = ()
    streamed: bool = False


def answer(method: str, target: str, body: bytes, new_id: Callable[[], str]) -> Reply:
    """Answer one request. `new_id` returns a fresh random word of letters and digits."""
    path = target.partition("?")[0]
    if method == "GET" and path == "/":
        return Reply(200, (_JSON,), b'{"rehearsal":true}')
    if method != "POST" or path not in ("/v1/messages", "/v1/messages/count_tokens"):
        return _error(404, f"{method} {path}: the rehearsal model serves POST /v1/messages only", new_id)
    try:
        request = parse_json(body)
    except ValueError as error:
        return _error(400, f"The request body is not valid JSON: {error}", new_id)
    if missing := _find_missing(request, path):
        return _error(400, f"{missing}: Field required", new_id)
    if path.endswith("count_tokens"):
        return Reply(200, (_JSON,), dump_json({"input_tokens": _tokens(body)}).encode())
    return _reply(request, _decide(request, new_id()), _tokens(body), new_id)


def _decide(request: Json, nonce: str) -> Action:
    side = find_side_answer(request)
    return Answer(side) if side is not None else decide_action(parse_conversation(request), nonce)


def _reply(request: Json, action: Action, tokens: int, new_id: Callable[[], str]) -> Reply:
    if isinstance(action, Failure):
        return _failure(action, new_id)
    message_id, model = f"msg_{new_id()}", get_text(request, "model")
    if isinstance(request, dict) and request.get("stream") is True:
        start = start_event(message_id, model, tokens)
        return Reply(200, (_EVENTS, _request_id(new_id)), start, action.delay_seconds, rest_events(action), True)
    whole = whole_message(action, message_id, model, tokens)
    return Reply(200, (_JSON, _request_id(new_id)), b"", action.delay_seconds, iter((whole,)))


def _failure(failure: Failure, new_id: Callable[[], str]) -> Reply:
    delay = failure.delay_seconds
    if failure.kind == "nothing":
        return Reply(0, (), delay_seconds=delay)
    if failure.kind == "garbage":
        return Reply(200, (_EVENTS,), b"", delay, iter((b"event: \x00\xff\ndata: {not json\n\n<html>502</html>",)))
    if not failure.kind.isdecimal() or not 400 <= int(failure.kind) <= 599:
        return _error(400, f"fail: {failure.kind} is no failure I know; try 401, 429, 500, garbage, nothing", new_id)
    reply = _error(int(failure.kind), f"the rehearsal was asked to fail with {failure.kind}", new_id)
    return Reply(reply.status, reply.headers, b"", delay, iter((reply.first,)))


def _error(status: int, message: str, new_id: Callable[[], str]) -> Reply:
    """Build an error; like the API, say whether a retry can help, and when."""
    retry = status in (408, 409, 429) or status >= 500
    advice: Headers = (("x-should-retry", "true"), ("retry-after", "1")) if retry else (("x-should-retry", "false"),)
    request_id = _request_id(new_id)
    return Reply(status, (_JSON, request_id, *advice), error_body(status, message, request_id[1]))


def _request_id(new_id: Callable[[], str]) -> tuple[str, str]:
    return ("request-id", f"req_{new_id()}")


def _find_missing(request: Json, path: str) -> str:
    if not isinstance(request, dict):
        return "body"
    needed = ("model", "messages") if path.endswith("count_tokens") else ("model", "max_tokens", "messages")
    if any(name not in request for name in needed):
        return next(name for name in needed if name not in request)
    return "" if get_list(request, "messages") else "messages"


def _tokens(body: bytes) -> int:
    """Guess a number of tokens: four bytes each."""
    return max(1, len(body) // 4)
