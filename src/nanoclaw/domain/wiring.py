"""Which chats wake which agents, when, and for whom; and what a chat's gate does with strangers."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

from nanoclaw.domain.verdict import Allow, Ask, Deny, Verdict

AgentGroupId = NewType("AgentGroupId", str)
MessagingGroupId = NewType("MessagingGroupId", str)
WiringId = NewType("WiringId", str)


class EngageMode(StrEnum):
    """When a message engages the agent. Pattern `.` means always."""

    PATTERN = "pattern"
    MENTION = "mention"
    MENTION_STICKY = "mention-sticky"


class SessionMode(StrEnum):
    """Which messages share a session."""

    SHARED = "shared"
    PER_THREAD = "per-thread"
    AGENT_SHARED = "agent-shared"


class SenderScope(StrEnum):
    """Whose messages engage the agent."""

    ALL = "all"
    KNOWN = "known"


class IgnoredMessagePolicy(StrEnum):
    """What becomes of a message that did not engage the agent."""

    DROP = "drop"
    ACCUMULATE = "accumulate"


class UnknownSenderPolicy(StrEnum):
    """What a chat does with somebody who is no member of the agent group."""

    STRICT = "strict"
    REQUEST_APPROVAL = "request_approval"
    PUBLIC = "public"


def decide_admission(policy: UnknownSenderPolicy, *, known: bool) -> Verdict:
    """Decide whether a sender's message may reach an agent. `known`: owner, admin or member of the agent group."""
    if known:
        return Allow("member")
    match policy:
        case UnknownSenderPolicy.PUBLIC:
            return Allow("public")
        case UnknownSenderPolicy.REQUEST_APPROVAL:
            return Ask("unknown_sender")
        case UnknownSenderPolicy.STRICT:
            return Deny("unknown_sender_strict")
