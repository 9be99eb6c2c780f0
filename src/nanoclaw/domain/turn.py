"""The life of an accepted message and of a delivery; retry rules and outcomes.

inbox     queued -> claimed -> done | dead          queued -> done (what was only overheard, a command of the host)
          claimed -> queued (run over; the next claim is attempt + 1)
delivery  pending -> sending -> sent | failed       after a crash: sending -> unknown -> sent | pending
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nanoclaw.domain.session import RunEnd

MAX_ATTEMPTS = 3  # architecture section 6
BACKOFF_MS = (5_000, 20_000)  # after attempt 1 and 2
DELIVERY_ATTEMPTS = 5
DELIVERY_BACKOFF_MS = (1_000, 5_000, 20_000, 60_000)
LONGEST_BACKOFF_MS = max(BACKOFF_MS)
LONGEST_DELIVERY_BACKOFF_MS = 24 * 60 * 60 * 1000  # whatever a platform asks for: after a day it is asked again


class InboxState(StrEnum):
    """One message for one agent."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    DONE = "done"
    DEAD = "dead"


class DeliveryState(StrEnum):
    """One message of an agent on its way to a chat."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """How an accepted message ended; every accepted message has one in the end."""

    REPLIED = "replied"
    SILENT = "silent"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Requeue:
    """Try again, not before `not_before` (epoch milliseconds)."""

    not_before: int


@dataclass(frozen=True, slots=True)
class Bury:
    """Give up and tell the chat `words`."""

    words: str


def decide_retry(failures: int, end: RunEnd, detail: str, now: int) -> Requeue | Bury:
    """Decide about the oldest trigger row of a run that ended without finishing it; the rows behind it just wait.

    `failures` counts this one, from 1; `now` in epoch milliseconds.
    """
    if failures < MAX_ATTEMPTS:
        return Requeue(now + BACKOFF_MS[failures - 1] if end.blames_agent else now)
    return Bury(f"I gave up on this message after {failures} tries: {describe_end(end, detail)}")


def describe_end(end: RunEnd, detail: str) -> str:
    """Say in plain words why a run ended and what mends it. A limit's detail says it all, with its figures."""
    if end in (RunEnd.MEMORY, RunEnd.DISK) and detail:
        return detail
    words = {
        RunEnd.IDLE: "the sandbox was put to sleep in the middle of it. Please send it again.",
        RunEnd.STOPPED: "the host was stopped each time. Please send it again.",
        RunEnd.STOPPED_BY_PERSON: "somebody stopped it. Please send it again.",
        RunEnd.HOST_DIED: "the host died while it was worked on. Please send it again.",
        RunEnd.AGENT_FAILED: "the agent stopped working.",
        RunEnd.BOX_DIED: "the sandbox ended unexpectedly.",
        RunEnd.FAULT: "what came out of the sandbox could not be trusted, so it was ended.",
        RunEnd.LEASE: "the sandbox gave no sign of life for a minute.",
        RunEnd.STUCK: "the agent worked on it longer than a turn may take.",
        RunEnd.MEMORY: "the agent ran out of memory.",
        RunEnd.DISK: "the agent's files grew over the limit of its workspace. Delete some and send it again.",
        RunEnd.NO_START: "the sandbox could not be started. Run `nanoclaw doctor` to see why.",
    }[end]
    return f"{words} ({detail})" if detail else words


def is_backing_off(not_before: int, now: int) -> bool:
    """Whether a session still waits; a back-off longer than any is from before the clock was set back, and over."""
    return now < not_before <= now + LONGEST_BACKOFF_MS


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """What is known when a row's turn has ended."""

    said: bool  # by the agent
    noticed: bool  # by the harness: why there is no answer
    is_group: bool
    is_mention: bool
    is_command: bool = False
    is_waiting: bool = False  # other agents were asked, and not all of them have ended
    was_heard: bool = False  # whoever waits got something in an earlier turn of this conversation


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """The outcome of a row, and what the host says about it ('' = nothing)."""

    outcome: Outcome
    words: str = ""


def decide_turn_end(facts: TurnFacts) -> TurnEnd:
    """Decide how a finished row ended. Only overheard chat may end silent (architecture section 6)."""
    if facts.said:
        return TurnEnd(Outcome.REPLIED)
    if facts.noticed:
        return TurnEnd(Outcome.FAILED)
    if facts.is_waiting or facts.was_heard:
        return TurnEnd(Outcome.SILENT)  # the end of what was asked wakes this agent again; or all is said
    if facts.is_group and not facts.is_mention and not facts.is_command:
        return TurnEnd(Outcome.SILENT)
    return TurnEnd(Outcome.FAILED, "The agent ended its work without an answer. Ask again, or ask what it did.")


def decide_delivery_retry(attempt: int, now: int, retry_after_seconds: float | None, *, permanent: bool) -> int | None:
    """Return when to send again (epoch milliseconds), or None: give up. `attempt` counts from 1."""
    if permanent or attempt >= DELIVERY_ATTEMPTS:
        return None
    backoff = DELIVERY_BACKOFF_MS[min(attempt, len(DELIVERY_BACKOFF_MS)) - 1]
    asked = int(min((retry_after_seconds or 0) * 1000, LONGEST_DELIVERY_BACKOFF_MS))
    return now + max(backoff, asked)
