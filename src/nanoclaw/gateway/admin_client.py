"""Asks a gateway's admin socket: one request, one answer. Blocking, for the command line."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TypeVar

import msgspec

from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words

Result = TypeVar("Result")


def ask_admin(
    path: Path, request: admin_words.AdminRequest, kind: type[Result], *, timeout_seconds: float = 10.0
) -> Result:
    """Ask the gateway's admin socket at `path` and return its result as `kind` (see admin_words.py for which).

    Blocking, for the command line. Raises OperatorError: nobody listens, it refused, or it did not answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_seconds)
        try:
            sock.connect(str(path))
            sock.sendall(msgspec.json.encode(request) + b"\n")
            with sock.makefile("rb") as stream:
                line = stream.readline(admin_words.ADMIN_REPLY_BYTES)
        except TimeoutError:
            raise OperatorError("The gateway did not answer in time. Look at `nanoclaw logs`.") from None
        except OSError as error:
            raise OperatorError(
                f"The gateway cannot be reached at {path}: {error.strerror}. Start it with `nanoclaw up`."
            ) from None
    try:
        reply = msgspec.json.decode(line, type=admin_words.AdminReply)
        if reply.ok:
            return msgspec.json.decode(reply.result, type=kind)
    except msgspec.DecodeError:
        raise OperatorError("The gateway closed the connection without an answer. Look at `nanoclaw logs`.") from None
    raise OperatorError(reply.error)
