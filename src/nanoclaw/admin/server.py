"""The admin socket of a host: `run/ncl.sock`, 0600, for root and the host's own user.

In: request lines. Out: one reply line each. Writes: what the desk does, in a transaction; `audit` (who was refused).
Never: answers somebody else (access.py decides), runs what the table of verbs does not have.
Fails: a plain sentence in the reply; the connection of a peer that is denied is closed after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import msgspec

from nanoclaw.admin.access import decide_access, find_peer_uid
from nanoclaw.admin.call import OPERATOR, Call, check_request
from nanoclaw.admin.desk import Desk
from nanoclaw.admin.request import LINE_BYTES, Reply, Request
from nanoclaw.admin.table import Table
from nanoclaw.admin.verb import Access
from nanoclaw.clock import Clock
from nanoclaw.domain.verdict import Allow, Deny, Verdict
from nanoclaw.errors import NanoClawError, OperatorError
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.log import Log
from nanoclaw.store.audit import Entry
from nanoclaw.store.db import Store
from nanoclaw.store.tables import Tables

IDLE_SECONDS = 30.0

Spawn = Callable[[Coroutine[Any, Any, None]], object]


@dataclass(frozen=True, slots=True)
class Back:
    """What is behind the desk: the store, and how an aftermath is carried out."""

    store: Store
    tables: Tables
    clock: Clock
    carry: Callable[[Aftermath], None]


class AdminServer:
    """A service: serves until `stop` is set; connections go through `spawn`."""

    def __init__(self, path: Path, desk: Desk, back: Back, host_uid: int, log: Log, spawn: Spawn) -> None:
        self._path = path
        self._desk = desk
        self._back = back
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
        try:
            call = check_request(request, OPERATOR, self._back.clock.now_ms())
            await self._desk.prepare(call, self._back.store.read)
            table = await self._carry_out(call)
            await self._desk.finish(call, table)
        except (NanoClawError, OSError) as error:  # OSError: the disk below a folder that is erased
            return Reply(ok=False, error=str(error))
        return Reply(ok=True, table=table)

    async def _carry_out(self, call: Call) -> Table:
        after = Aftermath()

        def work(connection: Connection) -> Table:
            return self._desk.run(connection, call, after)

        if call.verb.access is not Access.WRITE:
            return await self._back.store.read(work)
        table = await self._back.store.write(work)
        self._back.carry(after)
        return table

    async def _refuse(self, uid: int | None, verdict: Verdict) -> None:
        self._log.warning("admin.denied", uid=uid if uid is not None else "unknown")
        reason = verdict.reason if isinstance(verdict, Deny) else ""
        entry = Entry(self._back.clock.now_ms(), "ncl.refused", f"uid:{uid}", "", "deny", reason)
        await self._back.store.write(lambda connection: self._back.tables.audit.append(connection, entry))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = find_peer_uid(writer.get_extra_info("socket"))
        verdict = decide_access(uid, self._host_uid)
        try:
            if not isinstance(verdict, Allow):
                await self._refuse(uid, verdict)
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
