"""What the host and the gateway say to each other, and the socket they say it on.

One message per packet of a SOCK_SEQPACKET pair, JSON checked by msgspec, listeners riding along as SCM_RIGHTS.

In: packets of the other side. Out: typed messages in the order they were sent. Never: blocks, or grows without bound.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from nanoclaw.gateway.vault_words import KeepPassphrase as KeepPassphrase
from nanoclaw.gateway.vault_words import Token as Token
from nanoclaw.gateway.vault_words import TokenWanted as TokenWanted
from nanoclaw.gateway.vault_words import Unlock as Unlock
from nanoclaw.gateway.vault_words import VaultEvent as VaultEvent
from nanoclaw.gateway.vault_words import VaultMessage as VaultMessage
from nanoclaw.gateway.vault_words import VaultState as VaultState

BUILDS = "@builds"  # stands as the folder of boxes that build packages: no agent group can have it
PACKET_BYTES = 64 * 1024
DESCRIPTORS = 8
QUEUE_LIMIT = 10_000


class Listen(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway, with the listening sockets of one box: calls that arrive on them are this session's."""

    session: str
    fence: int
    group: str
    folder: str = ""


class Unlisten(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: the box is gone; its listeners and connections are closed."""

    session: str
    fence: int


class TurnOpened(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: calls of this run are allowed from now on and charged to `charge`.

    That is the user (or, unknown, the sender) of the turn's first trigger row, or `task:ID`; `attempt` is that row's.
    """

    session: str
    fence: int
    charge: str
    attempt: int = 1


class TurnClosed(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: no new calls of this run; those under way end by themselves."""

    session: str
    fence: int


class RehearsalAt(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: where the rehearsal model listens on 127.0.0.1, None when it does not."""

    port: int | None


class HostSettings(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway, at its start: the operator's time zone (IANA), by which hours, days and months are counted.

    `mirrors` are URLs that boxes which build packages may fetch from, beside what the set `packages` names.
    """

    timezone: str
    mirrors: tuple[str, ...] = ()


class GroupGone(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: an agent group is erased and its folder may be another's; answered by `GroupForgotten`."""

    folder: str


class HoldAsked(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: a held call is put to people, under this approval; `code` is its short name on their cards."""

    digest: str
    group: str
    approval: str
    code: str


class HoldVerdict(StrEnum):
    """What a person said of a held call."""

    ALLOW = "allow"
    DENY = "deny"


class HoldDecided(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: the answer to a held call, in time or late; sent again until `HoldTaken` says it arrived.

    A yes lets the very same call go once until `expires_at` (epoch milliseconds). `approval` is "" where nobody was
    asked; `words` are for the agent.
    """

    digest: str
    group: str
    approval: str
    verdict: HoldVerdict
    words: str = ""
    expires_at: int = 0


class AddRule(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: a person allowed these calls for good; sent again until `RuleAdded` says what became of it.

    `folder` "" is every agent group. `like` names the rule whose other terms it takes over (port, key, rate), "" none.
    """

    approval: str
    folder: str
    host: str
    methods: tuple[str, ...]
    paths: tuple[str, ...]
    by: str
    like: str = ""


HoldMessage = HoldAsked | HoldDecided | AddRule


HostMessage = (
    VaultMessage | Listen | Unlisten | TurnOpened | TurnClosed | RehearsalAt | HostSettings | GroupGone | HoldMessage
)


def parse_host_message(data: bytes) -> HostMessage:
    """Return what the host sent. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=HostMessage)


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host, at its start and again when the vault was unlocked: it serves. `ca_pem` is the certificate that
    boxes are to trust, "" while the vault is locked."""

    model_key: bool
    ca_pem: str = ""


class ModelKey(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: a model key was set or removed."""

    present: bool


class CallRefused(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: a call was refused (already in the audit). No query string, no body."""

    session: str
    fence: int
    group: str
    method: str
    host: str
    path: str
    rule: str
    reason: str


class CallFinished(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: an allowed call ended; `status` is what the client was told, 0 when it was told nothing."""

    session: str
    fence: int
    group: str
    charge: str
    status: int
    model: str
    input_tokens: int
    output_tokens: int
    took_ms: int


class RulesChanged(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host, after Ready and at every change: the names that rules allow by name, for each box's /etc/hosts.

    By folder, "" for the groups that are not named. `part` 0 begins a generation, the next parts add to it.
    """

    generation: int
    hosts: dict[str, list[str]]
    part: int = 0


class GroupForgotten(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: no rule names this folder any more; `error` says why some still do, "" when none does."""

    folder: str
    error: str = ""


class HoldOpened(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: a call waits for a person's word. `digest` is over all of it, body included.

    What people read has secrets blotted out: `address` is all of the URL, `preview` the beginning of the body, or what
    it is. `path` is the one a rule could name, "" when none can name it.
    """

    digest: str
    session: str
    fence: int
    group: str
    folder: str
    rule: str
    method: str
    host: str
    path: str
    address: str
    preview: str


class HoldTaken(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: the answer to a held call arrived and is kept; `reached`: the call was still waiting for it."""

    approval: str
    reached: bool


class RuleAdded(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: the rule of an approval is in force in this generation, or `error` says why there is none."""

    approval: str
    generation: int
    error: str = ""


HoldEvent = HoldOpened | HoldTaken | RuleAdded


GatewayEvent = VaultEvent | Ready | ModelKey | CallRefused | CallFinished | RulesChanged | GroupForgotten | HoldEvent


def parse_gateway_event(data: bytes) -> GatewayEvent:
    """Return what the gateway sent. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=GatewayEvent)


Incoming = TypeVar("Incoming")
Packet = tuple[bytes, list[int]]


class ControlChannel(Generic[Incoming]):
    """One end of the SOCK_SEQPACKET pair on an event loop; sends and receives without ever blocking.

    What cannot be sent at once waits in order, at most `QUEUE_LIMIT` messages; more means that the other side is
    gone or hangs, and the channel is closed. `on_closed` is called once, not from inside `send`.
    """

    def __init__(
        self,
        sock: socket.socket,
        parse: Callable[[bytes], Incoming],
        on_message: Callable[[Incoming, list[socket.socket]], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self._socket = sock
        self._parse = parse
        self._encoder = msgspec.json.Encoder()
        self._on_message = on_message
        self._on_closed = on_closed
        self._waiting: deque[Packet] = deque()
        self._loop = asyncio.get_running_loop()
        self._open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: msgspec.Struct, sockets: Sequence[socket.socket] = ()) -> None:
        """Send, or queue when the other side is slow. The sockets stay the caller's. Silent on a closed channel."""
        if not self._open:
            return
        data = self._encoder.encode(message)
        descriptors = [sock.fileno() for sock in sockets]
        if not self._waiting and self._send_now((data, descriptors)):
            return
        if len(self._waiting) >= QUEUE_LIMIT:
            self._loop.call_soon(self._fail, "the other side reads no messages")
            return
        if not self._waiting:
            self._loop.add_writer(self._socket.fileno(), self._writable)
        self._waiting.append((data, [os.dup(number) for number in descriptors]))

    def close(self) -> None:
        """Close the socket; `on_closed` is not called."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        while self._waiting:
            _close_all(self._waiting.popleft()[1])

    def _send_now(self, packet: Packet) -> bool:
        """Return False when it would block; an other side that is gone counts as sent (the reader reports it)."""
        data, descriptors = packet
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([data], rights)
        except BlockingIOError:
            return False
        except OSError as error:
            self._loop.call_soon(self._fail, f"sending failed: {error.strerror}")
        return True

    def _writable(self) -> None:
        while self._waiting:
            if not self._send_now(self._waiting[0]):
                return
            _close_all(self._waiting.popleft()[1])
        if self._open:
            self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        room = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(PACKET_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(f"receiving failed: {error.strerror}")
            return
        sockets = _received_sockets(ancillary)
        try:
            message = self._understand(data, flags)
        except ValueError as error:
            for sock in sockets:
                sock.close()
            self._fail(str(error))
            return
        self._on_message(message, sockets)

    def _understand(self, data: bytes, flags: int) -> Incoming:
        """Return the message; raises ValueError when there is none."""
        if not data:
            raise ValueError("the other side closed the connection")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("a message was longer than its limit")
        try:
            return self._parse(data)
        except msgspec.DecodeError as error:
            raise ValueError(f"a message was not understood: {error}") from None

    def _fail(self, reason: str) -> None:
        if self._open:
            self.close()
            self._on_closed(reason)


def _received_sockets(ancillary: Sequence[tuple[int, int, bytes]]) -> list[socket.socket]:
    """Return the sockets that rode along."""
    sockets: list[socket.socket] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            sockets += [socket.socket(fileno=number) for number in numbers]
    return sockets


def _close_all(descriptors: Sequence[int]) -> None:
    for number in descriptors:
        os.close(number)
