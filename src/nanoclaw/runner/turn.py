"""The bookkeeping of a turn: what was pushed and is unanswered, which tools are open, when a turn hangs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nanoclaw.contract.message import RunSettings
from nanoclaw.runner.mailbox import Ack, Row


@dataclass(frozen=True, slots=True)
class Work:
    """One push to the provider. `rows` are finished by the result that covers `uuid`, the trigger row is the last.

    A follow-up of the harness (a nudge, a report) carries the rows of the push it asks about again.
    """

    uuid: str
    rows: tuple[Row, ...]
    answered: bool = False  # something was already sent for these rows
    nudged: bool = False
    reported: bool = False
    command: str = ""  # a command of the provider's own instead of a prompt

    @property
    def reply_to(self) -> int:
        """Seq of the row a reply belongs to."""
        return self.rows[-1].seq


@dataclass(frozen=True, slots=True)
class OpenTool:
    """A tool call without a result yet; `since` in seconds of the runner's clock."""

    name: str
    since: float


@dataclass(slots=True)
class Turn:
    """The mutable state of the running turn; times in seconds of the runner's clock."""

    fence: int
    number: int = 0
    open: dict[str, Work] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)  # uuids the provider says it works on
    tools: dict[str, OpenTool] = field(default_factory=dict)
    began_at: float = 0.0
    event_at: float = 0.0
    sent: bool = False  # send_message was used since the last result

    @property
    def id(self) -> str:
        """The turn's name: fence and number."""
        return f"{self.fence}-{self.number}"

    @property
    def idle(self) -> bool:
        """Nothing is unanswered."""
        return not self.open

    def push(self, work: Work, now: float) -> None:
        """Note a push."""
        if self.idle:
            self._begin(now)
        self.open[work.uuid] = work

    def take(self, covers: tuple[str, ...], now: float) -> list[Work]:
        """Remove and return what a result covers, in the order it was pushed; the next turn begins."""
        covered = [self.open.pop(uuid) for uuid in list(self.open) if uuid in covers]
        if self.sent:
            covered = [answered(work) for work in covered]
        if self.open:
            self._begin(now)
        self.tools.clear()
        self.sent = False
        return covered

    def current(self) -> Work | None:
        """What the provider works on now: what it last said it started, else the oldest push."""
        for uuid in reversed(self.started):
            if uuid in self.open:
                return self.open[uuid]
        return next(iter(self.open.values()), None)

    def _begin(self, now: float) -> None:
        self.number += 1
        self.began_at = self.event_at = now
        self.started = [uuid for uuid in self.started if uuid in self.open]


def answered(work: Work) -> Work:
    """The same work with the note that something was sent for it."""
    return replace(work, answered=True)


def decide_hang(turn: Turn, settings: RunSettings, now: float) -> str | None:
    """Say in plain words why the turn hangs, or None (rules: architecture section 6)."""
    if turn.idle:
        return None
    if now - turn.began_at >= settings.turn_seconds:
        return f"the turn took longer than {settings.turn_seconds:g} s"
    if turn.tools:
        oldest = min(turn.tools.values(), key=lambda tool: tool.since)
        if now - oldest.since >= settings.tool_seconds:
            return f"the tool {oldest.name} took longer than {settings.tool_seconds:g} s"
        return None
    if now - turn.event_at >= settings.idle_seconds:
        return f"nothing came from the agent for {settings.idle_seconds:g} s"
    return None


def acks_for(works: list[Work], state: str) -> list[Ack]:
    """One ack per row of these works."""
    return [Ack(row.seq, row.attempt, state) for work in works for row in work.rows]
