"""Asks a host over its admin socket; blocking, for commands."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from nanoclaw.admin.request import REPLY_BYTES, Reply, Request
from nanoclaw.admin.table import Table
from nanoclaw.errors import NanoClawError, OperatorError, Refused

TIMEOUT_SECONDS = 60.0  # erasing a group is the longest of what may be asked


def ask_host(path: Path, request: Request) -> Table | None:
    """Return the host's answer, None when no host listens. Raises Refused with its words, OperatorError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT_SECONDS)
        try:
            sock.connect(str(path))
        except PermissionError as error:
            raise OperatorError(f"{path} belongs to another user. Run this as the user who runs the host") from error
        except OSError:
            return None
        try:
            sock.sendall(msgspec.json.encode(request) + b"\n")
            with sock.makefile("rb") as stream:
                line = stream.readline(REPLY_BYTES)
        except OSError as error:
            raise NanoClawError("the host did not answer in time. Look at `./nanoclaw.sh logs`") from error
    try:
        reply = msgspec.json.decode(line, type=Reply)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NanoClawError("the host's answer was cut off. Look at `./nanoclaw.sh logs`") from error
    if not reply.ok or reply.table is None:
        raise Refused(reply.error)
    return reply.table
