"""What a call to a model may use, read from its request before it is made. Pure.

In: as much of the body as has come, and its whole length. Out: the model and the most tokens the call may take.
Never: fails on a body it does not understand; what it cannot read it takes to be much.

Estimates, and how far they may be off: text is taken for one token in 3 bytes (English has 4 bytes, code 3, Chinese up
to a token for a character of 3 bytes); pictures and files in base64 for one in 20 bytes; an output without a limit for
16,384 tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

TEXT_BYTES = 3  # of a request, for one token
FILE_BYTES = 20  # of base64, for one token
FILE_LENGTH = 2000  # from this length on a text without a blank is taken for a picture or a file
DEFAULT_OUTPUT = 16_384
MOST_OUTPUT = 1_000_000
MOST_INPUT = 1_000_000  # no model reads more

_FILE = re.compile(rb'"[A-Za-z0-9+/=]{%d,}"' % FILE_LENGTH)
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,128})"')
_LIMIT = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*([0-9]{1,7})')


@dataclass(frozen=True, slots=True)
class Forecast:
    """The most a call may use. `cached`: its prompt may be written to a cache, `hour`: for an hour."""

    model: str
    input_tokens: int
    output_tokens: int
    cached: bool
    hour: bool


class _Request(msgspec.Struct):
    """The Messages API, OpenAI's chat completions and responses: each has its own name for the limit."""

    model: str = ""
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None


def forecast(body: bytes, size: int | None) -> Forecast:
    """Return what a request may use; `body` is its beginning, `size` its length when that is known."""
    try:
        request = msgspec.json.decode(body, type=_Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request = _glean(body)
    limits = (request.max_tokens, request.max_completion_tokens, request.max_output_tokens)
    limit = next((limit for limit in limits if limit is not None and limit > 0), DEFAULT_OUTPUT)
    return Forecast(
        model=request.model[:128],
        input_tokens=estimate_input(body, size),
        output_tokens=min(limit * max(request.n or 1, 1), MOST_OUTPUT),
        cached=b'"cache_control"' in body,
        hour=b'"1h"' in body,
    )


def estimate_input(body: bytes, size: int | None) -> int:
    """Return how many tokens a request may be; what has not come yet is taken to be like text."""
    files = sum(len(found.group()) for found in _FILE.finditer(body))
    text = max(size or 0, len(body)) - files
    return min(-(-text // TEXT_BYTES) + files // FILE_BYTES, MOST_INPUT)


def _glean(body: bytes) -> _Request:
    """Return what the beginning of a request that is not whole says."""
    model, limit = _MODEL.search(body), _LIMIT.search(body)
    return _Request(
        model=model.group(1).decode("latin-1") if model else "",
        max_tokens=int(limit.group(1)) if limit else None,
    )
