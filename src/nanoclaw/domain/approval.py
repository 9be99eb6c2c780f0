"""Questions put to a person: one table, one life."""

from __future__ import annotations

from enum import StrEnum


class ApprovalState(StrEnum):
    """open -> approved | denied | expired; everything open expires."""

    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


class ApprovalKind(StrEnum):
    """What is asked."""

    UNKNOWN_SENDER = "unknown_sender"
    UNKNOWN_CHAT = "unknown_chat"
    AGENT_REQUEST = "agent_request"
    EGRESS = "egress"
    QUESTION = "question"
