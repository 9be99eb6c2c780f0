"""Real implementations with a script: a clock turned by hand, a chat platform, the host's side of a gateway.

The sandbox's counterpart is scripted_box.py.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from nanoclaw.channels.base import Accepted, Click, ClickAnswer, Incoming, Outgoing, Receipt, Sink
from nanoclaw.errors import PlatformError
from nanoclaw.gateway import control
from nanoclaw.gateway.client import Grant

FIRST_MS = 1_700_000_000_000


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now_ms: int = FIRST_MS) -> None:
        self._now_ms = now_ms
        self._monotonic = 1000.0

    def now_ms(self) -> int:
        """Return wall time in epoch milliseconds."""
        return self._now_ms

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now_ms += round(seconds * 1000)
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back, as an operator or NTP does; the monotonic one stays."""
        self._now_ms -= round(seconds * 1000)


@dataclass(slots=True)
class _Trouble:
    """What a chat's platform does instead of sending."""

    errors: deque[PlatformError] = field(default_factory=deque[PlatformError])
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()


class ScriptedChannel:
    """A chat platform (channels/base.Channel) with buttons, whose messages can be changed.

    It remembers what it was sent and fails as it is told.
    """

    def __init__(self, name: str = "scripted") -> None:
        self._name = name
        self._troubles: dict[str, _Trouble] = {}
        self._count = 0
        self._sink: Sink | None = None
        self.asked: list[Outgoing] = []  # everything it was asked to send, each time
        self.sent: list[Outgoing] = []
        self.typed: list[tuple[str, bool]] = []
        self._shown: dict[str, Outgoing] = {}  # by platform id: what people see, in order

    @property
    def name(self) -> str:
        """The channel's name, as in `messaging_groups.channel_type`."""
        return self._name

    @property
    def is_connected(self) -> bool:
        """Whether what people say would be heard."""
        return self._sink is not None

    def connect(self, sink: Sink) -> None:
        """Say where `receive` hands in messages; `run` does it too."""
        self._sink = sink

    async def run(self, sink: Sink, stop: asyncio.Event) -> None:
        """Listen until `stop` is set."""
        self.connect(sink)
        try:
            await stop.wait()
        finally:
            self._sink = None

    async def receive(self, *batch: Incoming, cursor: str | None = None) -> list[Accepted]:
        """Hand in what people said, as one batch. Raises StoreError: the platform would repeat it."""
        if self._sink is None:
            raise RuntimeError("the channel has no sink yet: call connect() or run()")
        return await self._sink.accept(batch, cursor)

    async def press(self, chat_id: str, sender: str, label: str, *, text: str = "") -> ClickAnswer:
        """Press the button with this label on the last card of a chat that had one, whatever became of it since."""
        if self._sink is None:
            raise RuntimeError("the channel has no sink yet: call connect() or run()")
        for card in reversed([sent.card for sent in self.sent if sent.chat_id == chat_id and sent.card is not None]):
            for option in card.options:
                if option.label == label:
                    click = Click(chat_id, sender, sender.title(), card.approval, option.value, text)
                    return await self._sink.click(click)
        raise AssertionError(f"no card of {chat_id} has a button {label!r}")

    def buttons(self, chat_id: str) -> list[str]:
        """Return the labels of every button that people see in a chat now."""
        cards = [shown.card for shown in self._shown.values() if shown.chat_id == chat_id and shown.card is not None]
        return [option.label for card in cards for option in card.options]

    def fail(self, chat_id: str, times: int, *, retry_after_seconds: float | None = None) -> None:
        """Fail the next `times` sends to a chat in a way that may pass."""
        error = PlatformError("the platform is not reachable", retry_after_seconds=retry_after_seconds)
        self._trouble(chat_id).errors.extend([error] * times)

    def refuse(self, chat_id: str, times: int = 1) -> None:
        """Fail the next `times` sends to a chat for good."""
        self._trouble(chat_id).errors.extend([PlatformError("the chat is gone", permanent=True)] * times)

    def block(self, chat_id: str) -> None:
        """Let sends to a chat hang until `unblock`."""
        self._trouble(chat_id).open.clear()

    def unblock(self, chat_id: str) -> None:
        """Let what hangs go on."""
        self._trouble(chat_id).open.set()

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Send one message; raises PlatformError as scripted."""
        self.asked.append(outgoing)
        trouble = self._trouble(outgoing.chat_id)
        await trouble.open.wait()
        if trouble.errors:
            raise trouble.errors.popleft()
        self.sent.append(outgoing)
        if outgoing.edits in self._shown:
            self._shown[outgoing.edits] = outgoing
            return Receipt(outgoing.edits)
        self._count += 1
        receipt = Receipt(f"{self._name}-{self._count}")
        self._shown[receipt.platform_id] = outgoing
        return receipt

    async def typing(self, chat_id: str, thread_id: str | None, active: bool) -> None:
        """Remember the typing indicator."""
        self.typed.append((chat_id, active))

    def heard(self, chat_id: str) -> list[str]:
        """Return the texts that people see in a chat, oldest first."""
        return [shown.text for shown in self._shown.values() if shown.chat_id == chat_id]

    def _trouble(self, chat_id: str) -> _Trouble:
        return self._troubles.setdefault(chat_id, _Trouble())


class OpeningChannel(ScriptedChannel):
    """A platform that lets us write first (channels/base.OpensDirectChats), unless `closed` to a handle."""

    def __init__(self, name: str = "opening") -> None:
        super().__init__(name)
        self.opened: list[str] = []  # each try
        self.closed: set[str] = set()
        self.is_down = False

    async def open_direct_chat(self, handle: str) -> str | None:
        """Return the direct chat `dm-<handle>`. Raises PlatformError while the platform is down."""
        self.opened.append(handle)
        if self.is_down:
            raise PlatformError("the platform is not reachable")
        return None if handle in self.closed else f"dm-{handle}"


class RecordingGateway:
    """The part of gateway/client.py that the data path uses; remembers every word in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int]] = []
        self.charges: list[str] = []
        self.attempts: list[int] = []
        self.open: set[tuple[str, int]] = set()
        self.listening: set[tuple[str, int]] = set()
        self.holds: list[control.HoldMessage] = []
        self._refusals: deque[OSError] = deque()

    def refuse_next_listen(self, error: OSError) -> None:
        """Let the next `listen` fail."""
        self._refusals.append(error)

    def tell(self, message: control.HoldMessage) -> None:
        """Hear what became of a held call or a proposed rule."""
        self.holds.append(message)

    async def listen(self, grant: Grant, sockets: Sequence[socket.socket]) -> None:
        """Take a box's listeners. Raises OSError as scripted."""
        if self._refusals:
            raise self._refusals.popleft()
        self.told.append(("listen", grant.session, grant.fence))
        self.listening.add((grant.session, grant.fence))

    async def unlisten(self, session: str, fence: int) -> None:
        """Forget a box."""
        self.told.append(("unlisten", session, fence))
        self.listening.discard((session, fence))

    def open_turn(self, session: str, fence: int, charge: str, attempt: int = 1) -> None:
        """Allow a run's calls."""
        self.attempts.append(attempt)
        self.told.append(("open_turn", session, fence))
        self.charges.append(charge)
        self.open.add((session, fence))

    def close_turn(self, session: str, fence: int) -> None:
        """Allow no new calls of a run."""
        self.told.append(("close_turn", session, fence))
        self.open.discard((session, fence))
