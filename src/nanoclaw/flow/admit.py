"""3 admit: whether this sender's message may reach this agent.

In: the chat's policy, the wiring's scope, how the sender stands to the agent group, whether they were denied for good.
Out: a Verdict.
Writes: of a message that was refused one count in `refusals` and one entry in `audit`: time, chat, handle, reason.
Never: keeps a byte of a refused sender's text; lets a missing answer mean yes.
Fails: closed. Who asks about an Ask is stage 1's business; where nobody is asked it is a Deny.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.people import Standing, UserId
from nanoclaw.domain.verdict import Allow, Deny, Verdict
from nanoclaw.domain.wiring import UNKNOWN_WORDS, SenderScope, decide_admission
from nanoclaw.store.audit import Entry
from nanoclaw.store.chats import Chat, Wiring
from nanoclaw.store.refusals import Refusal
from nanoclaw.store.tables import Tables

MOST_HANDLE = 200  # characters of a platform's id of a person or chat that are kept of who was refused


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote: the platform's handle and the user it belongs to, if any."""

    channel: str
    handle: str
    user: UserId | None


def decide_verdict(chat: Chat, wiring: Wiring, standing: Standing, *, blocked: bool) -> Verdict:
    """Decide whether a sender may reach an agent: a denial for good first, then the chat's policy, then the scope."""
    if blocked:
        return Deny("sender_blocked")
    verdict = decide_admission(chat.unknown_senders, standing)
    if isinstance(verdict, Allow) and wiring.sender_scope is SenderScope.KNOWN and not standing.is_known:
        return Deny("sender_scope_known", UNKNOWN_WORDS)
    return verdict


def judge(connection: sqlite3.Connection, tables: Tables, chat: Chat, wiring: Wiring, sender: Sender) -> Verdict:
    """Load what the verdict needs and decide it."""
    standing = tables.people.standing(connection, sender.user, wiring.agent_group)
    blocked = tables.chats.is_blocked(connection, chat.id, sender.handle)
    return decide_verdict(chat, wiring, standing, blocked=blocked)


def record_refusal(
    connection: sqlite3.Connection, tables: Tables, sender: Sender, where: tuple[str, str], denial: Deny, now: int
) -> None:
    """Count and audit a refusal; `where` is the chat and what the audit calls it by: the chat again, or the message."""
    chat, subject = where[0][:MOST_HANDLE], where[1][:MOST_HANDLE]
    handle = sender.handle[:MOST_HANDLE]
    tables.refusals.count(connection, Refusal(sender.channel, chat, handle, denial.reason), now)
    tables.audit.append(
        connection,
        Entry(
            at=now,
            event="message.refused",
            actor=f"{sender.channel}:{handle}",
            subject=subject,
            verdict="deny",
            reason=denial.reason,
        ),
    )
