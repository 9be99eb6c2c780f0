"""3 admit: whether this sender's message may reach this agent.

In: the chat's policy, the wiring's scope, whether the sender is known.
Out: a Verdict.
Writes: on Deny one count in `refusals` and one entry in `audit`: time, chat, handle, reason.
Never: keeps a byte of a refused sender's text; lets a missing answer mean yes.
Fails: closed. Ask is a Deny until somebody can be asked (approvals, a later issue).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.people import UserId
from nanoclaw.domain.verdict import Allow, Ask, Deny, Verdict
from nanoclaw.domain.wiring import SenderScope, decide_admission
from nanoclaw.store.audit import Entry
from nanoclaw.store.chats import Chat, Wiring
from nanoclaw.store.refusals import Refusal
from nanoclaw.store.tables import Tables


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote: the platform's handle and the user it belongs to, if any."""

    channel: str
    handle: str
    user: UserId | None


def decide_verdict(chat: Chat, wiring: Wiring, *, known: bool) -> Verdict:
    """Decide whether a sender may reach an agent: the chat's policy first, then the wiring's scope."""
    verdict = decide_admission(chat.unknown_senders, known=known)
    if isinstance(verdict, Allow) and wiring.sender_scope is SenderScope.KNOWN and not known:
        return Deny("sender_scope_known")
    return verdict


def judge(connection: sqlite3.Connection, tables: Tables, chat: Chat, wiring: Wiring, sender: Sender) -> Verdict:
    """Load what the verdict needs and decide it."""
    standing = tables.people.standing(connection, sender.user, wiring.agent_group)
    return decide_verdict(chat, wiring, known=standing.is_known)


def record_refusal(
    connection: sqlite3.Connection, tables: Tables, sender: Sender, chat: str, verdict: Deny | Ask, now: int
) -> str:
    """Count and audit a refusal; return what the person is told ('' = nothing)."""
    reason = verdict.reason if isinstance(verdict, Deny) else f"{verdict.kind}_nobody_to_ask"
    tables.refusals.count(connection, Refusal(sender.channel, chat, sender.handle, reason), now)
    tables.audit.append(
        connection,
        Entry(
            at=now,
            event="message.refused",
            actor=f"{sender.channel}:{sender.handle}",
            subject=chat,
            verdict="deny",
            reason=reason,
        ),
    )
    return verdict.words if isinstance(verdict, Deny) else ""
