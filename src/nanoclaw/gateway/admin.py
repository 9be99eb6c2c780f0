"""The operator's socket: secrets are set and listed, the audit is shown and checked. Root and the host's user only.

In: JSON lines, one request each (admin_words.py). Out: one `AdminReply` a line. Writes: the vault, the ledger.
Never: shows a value. Fails: a plain sentence in the reply; a peer of another user is closed without one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from nanoclaw.errors import NanoClawError
from nanoclaw.gateway import admin_words
from nanoclaw.gateway.admin_egress import EgressDesk
from nanoclaw.gateway.cashier import Cashier, MoneyRequest
from nanoclaw.gateway.custody import Custody, VaultRequest
from nanoclaw.gateway.ledger import Ledger

IDLE_SECONDS = 30.0
_PEER = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED, unix(7)


@dataclass(frozen=True, slots=True)
class AdminDesk:
    """What requests work on."""

    custody: Custody
    ledger: Ledger
    allowed_uid: int
    describe: Callable[[], admin_words.GatewayStatus]
    cashier: Cashier
    egress: EgressDesk


async def serve_admin(desk: AdminDesk, sock: socket.socket) -> None:
    """Serve one accepted connection until it ends or is idle for 30 s."""
    uid = peer_uid(sock)
    if uid not in {0, desk.allowed_uid}:
        sock.close()
        return
    reader, writer = await asyncio.open_connection(sock=sock, limit=admin_words.ADMIN_LINE_BYTES)
    try:
        while line := await _read_line(reader):
            writer.write(msgspec.json.encode(await _answer(desk, line, uid)) + b"\n")
            await writer.drain()
    except (OSError, TimeoutError, ValueError):
        pass  # gone, idle, or a line beyond every request's length
    finally:
        writer.close()


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(IDLE_SECONDS):
        return await reader.readline()


def peer_uid(sock: socket.socket) -> int:
    """Return the uid of the process at the other end of a unix socket."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return _PEER.unpack(raw)[1]


async def _answer(desk: AdminDesk, line: bytes, uid: int) -> admin_words.AdminReply:
    try:
        request = msgspec.json.decode(line, type=admin_words.AdminRequest)
    except msgspec.DecodeError as error:
        return admin_words.AdminReply(ok=False, error=f"The gateway did not understand this request: {error}.")
    try:
        result = await _perform(desk, request, uid)
    except NanoClawError as error:
        return admin_words.AdminReply(ok=False, error=str(error))
    return admin_words.AdminReply(ok=True, result=msgspec.Raw(msgspec.json.encode(result)))


async def _perform(desk: AdminDesk, request: admin_words.AdminRequest, uid: int) -> object:
    if isinstance(request, MoneyRequest):
        return await desk.cashier.perform(request, uid)
    if isinstance(request, VaultRequest):
        return await desk.custody.perform(request, uid)
    match request:
        case admin_words.AuditList(limit=limit, session=session, group=group, event=event):
            return await asyncio.to_thread(desk.ledger.list_newest, limit, session, group, event)
        case admin_words.AuditRows(after=after, limit=limit):
            return await asyncio.to_thread(desk.ledger.rows_after, after, limit)
        case admin_words.AuditVerify(until=until):
            return await asyncio.to_thread(desk.ledger.verify, until)
        case admin_words.Status():
            return desk.describe()
        case _:
            return await desk.egress.perform(request, uid)
