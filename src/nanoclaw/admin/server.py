"""The admin socket of a host: `run/ncl.sock`, 0600, for root and the host's own user.

In: request lines. Out: one reply line each. Writes: nothing itself; a resource may.
Never: answers somebody else (access.py decides), runs a verb that its resource does not name.
Fails: a plain sentence in the reply; the connection of a peer that is denied is closed after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nanoclaw.admin.access import decide_access, find_peer_uid
from nanoclaw.admin.request import LINE_BYTES, Reply, Request, Resource
from nanoclaw.domain.verdict import Allow
from nanoclaw.errors import NanoClawError, OperatorError
from nanoclaw.log import Log

IDLE_SECONDS = 30.0

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class AdminServer:
    """A service: serves until `stop` is set; connections go through `spawn`."""

    def __init__(self, path: Path, resources: Sequence[Resource], host_uid: int, log: Log, spawn: Spawn) -> None:
        self._path = path
        self._resources = {resource.name: resource for resource in resources}
        self._host_uid = host_uid
        self._log = log
        self._spawn = spawn
        self._open: set[asyncio.StreamWriter] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until `stop` is set. Raises OperatorError when the socket cannot be made."""

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._open.add(writer)
            self._spawn(self._serve(reader, writer))

        server = await asyncio.start_unix_server(connected, sock=_open_socket(self._path), limit=LINE_BYTES)
        try:
            await stop.wait()
        finally:
            server.close()
            for writer in self._open:
                writer.close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def answer(self, request: Request) -> Reply:
        """Answer one request of somebody who may ask."""
        resource = self._resources.get(request.resource)
        if resource is None or request.verb not in resource.verbs:
            known = ", ".join(f"{known.name} {'|'.join(known.verbs)}" for known in self._resources.values())
            return Reply(ok=False, error=f"There is no `ncl {request.resource} {request.verb}`. There is: {known}")
        try:
            return Reply(ok=True, table=await resource.answer(request))
        except NanoClawError as error:
            return Reply(ok=False, error=str(error))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = find_peer_uid(writer.get_extra_info("socket"))
        verdict = decide_access(uid, self._host_uid)
        try:
            if not isinstance(verdict, Allow):
                self._log.warning("admin.denied", uid=uid if uid is not None else "unknown")
                writer.write(_encode(Reply(ok=False, error="Only root and the host's user may ask.")))
                return
            async with asyncio.timeout(IDLE_SECONDS):
                while line := await reader.readline():
                    writer.write(_encode(await self._answer_line(line)))
                    await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # gone, idle, or a line beyond every request's length
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer_line(self, line: bytes) -> Reply:
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Reply(ok=False, error=f"The host did not understand this request: {error}.")
        return await self.answer(request)


def _encode(reply: Reply) -> bytes:
    return msgspec.json.encode(reply) + b"\n"


def _open_socket(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)  # nobody can connect before it listens, and it does not listen yet
    except OSError as error:
        listener.close()
        raise OperatorError(
            f"cannot make the socket {path}: {error.strerror}. Check that its folder is yours"
        ) from error
    return listener
