"""7c aftermath: what a transaction leaves to be done once it is committed; every part is a hint.

In: filled by whoever writes to the store: collect, requests, approvals, receive, admin.
Out: hints to deliver, wake and notify; answers into live mailboxes and to the gateway; runs ended or told of new
destinations.
Writes: nothing itself.
Never: holds what is not in the store too: a host that dies before `carry` loses no message (an agent that waits for
an answer dies with it).
Fails: it cannot; the sweep finds what a lost hint meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nanoclaw.contract.message import ToolAnswer
from nanoclaw.domain.session import RunEnd, SessionId
from nanoclaw.gateway import control
from nanoclaw.store.outbox import Lane


@dataclass(frozen=True, slots=True)
class AnswerTo:
    """An answer for an agent that waits: request `seq` of run `fence`."""

    session: str
    fence: int
    seq: int
    answer: ToolAnswer


@dataclass(slots=True)
class Aftermath:
    """What is to be done after the commit."""

    lanes: dict[Lane, None] = field(default_factory=dict[Lane, None])  # have something to deliver
    chats: dict[str, None] = field(default_factory=dict[str, None])  # deliveries or outcomes changed
    wake: dict[SessionId, None] = field(default_factory=dict[SessionId, None])  # rows wait
    answers: list[AnswerTo] = field(default_factory=list[AnswerTo])
    groups: dict[str, None] = field(default_factory=dict[str, None])  # destinations of these agent groups changed
    made: dict[str, None] = field(default_factory=dict[str, None])  # agent groups that need their workspace
    renew: dict[str, None] = field(default_factory=dict[str, None])  # agent groups whose boxes are set up anew
    end: dict[SessionId, RunEnd] = field(default_factory=dict[SessionId, RunEnd])  # live runs to end now
    gateway: list[control.HoldMessage] = field(default_factory=list[control.HoldMessage])  # it is told again at a start
    reach: bool = False  # a card has found no chat yet
    build: bool = False  # packages are to be built
    scrub: bool = False  # held words were removed: their traces in the store's files go too

    def add(self, other: Aftermath) -> None:
        """Take over what another transaction left."""
        self.lanes |= other.lanes
        self.chats |= other.chats
        self.wake |= other.wake
        self.answers += other.answers
        self.groups |= other.groups
        self.made |= other.made
        self.renew |= other.renew
        self.end |= other.end
        self.gateway += other.gateway
        self.reach = self.reach or other.reach
        self.scrub = self.scrub or other.scrub
        self.build = self.build or other.build


@dataclass(frozen=True, slots=True)
class Carrier:
    """Carries an aftermath out; built by host.py from the hints of the stages."""

    deliver: Callable[[Lane], None]
    changed: Callable[[str], None]
    wake: Callable[[SessionId], None]
    answer: Callable[[AnswerTo], None]
    refresh: Callable[[str], None]
    renew: Callable[[str], None]
    end: Callable[[SessionId, RunEnd], None]
    scrub: Callable[[], None]
    scaffold: Callable[[str], None]
    reach: Callable[[], None]
    tell_gateway: Callable[[control.HoldMessage], None]
    build: Callable[[], None] = lambda: None

    def carry(self, after: Aftermath) -> None:
        """Give every hint. Never blocks."""
        for group in after.renew:  # before a row for the new box can be fed to the old one
            self.renew(group)
        for session, why in after.end.items():
            self.end(session, why)
        for lane in after.lanes:
            self.deliver(lane)
        for chat in after.chats:
            self.changed(chat)
        for message in after.gateway:
            self.tell_gateway(message)
        for answer in after.answers:
            self.answer(answer)
        for group in after.groups:
            self.refresh(group)
        for group in after.made:
            self.scaffold(group)
        for session in after.wake:
            self.wake(session)
        for is_wanted, hint in ((after.reach, self.reach), (after.build, self.build), (after.scrub, self.scrub)):
            if is_wanted:
                hint()
