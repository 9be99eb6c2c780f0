"""7g strangers: whether somebody unknown may write to an agent, and which agent an unknown chat belongs to.

In: a message the gates did not let through, held; later the answer of an approver.
Out: a Deny for now; after a yes the same message once more through stages 2 to 4, in the same transaction.
Writes: `approvals`; after a yes `users`, `agent_group_members`, `messaging_groups`, wirings, destinations; after a no
for good `blocked_senders` or `messaging_groups.denied_at`.
Never: shows the stranger's text to anybody; keeps it once it is decided; asks twice about the same while it is open.
Fails: Refused (a name that cannot be, an assistant that is gone): the question stays open.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict

from nanoclaw.channels.base import Accepted, Incoming
from nanoclaw.domain.approval import STRANGER_LIFE_MS, ApprovalKind, ApprovalState
from nanoclaw.domain.card import Option, one_line
from nanoclaw.domain.people import UserId
from nanoclaw.domain.verdict import Deny
from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy, SenderScope, UnknownSenderPolicy
from nanoclaw.errors import Refused
from nanoclaw.flow.admit import Sender
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.approvals import Approvals, End
from nanoclaw.flow.cards import Cards
from nanoclaw.flow.groups import AgentGroups
from nanoclaw.store.approvals import NewApproval
from nanoclaw.store.chats import ALWAYS, Chat, WiringRules
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.tables import Tables

MOST_OF_CHAT = 10  # open questions about strangers of one chat
MOST_OF_ALL = 50
MOST_OFFERED = 5  # assistants on the card of an unknown chat
ALLOW = Option("approve", "Allow")
NOT_NOW = Option("deny", "Deny")
NEVER = Option("deny_for_good", "Deny for good")
NEW_AGENT = Option("new_agent", "New assistant", takes_text=True)
REJECT = Option("reject", "Reject for good")
CONNECT = "connect:"
IN_A_GROUP = WiringRules(
    EngageMode.MENTION_STICKY, sender_scope=SenderScope.KNOWN, ignored=IgnoredMessagePolicy.ACCUMULATE
)
ASKED_WORDS = "Somebody is asked whether you may write here; your message waits for the answer."
CROWDED = Deny("too_many_open", "Too many people wait for an answer here. Please try again later.")

Replay = Callable[[sqlite3.Connection, str, Incoming, Aftermath, int], Accepted]


class Strangers:
    """Asks about unknown senders and chats. `replay` takes a held message once more."""

    def __init__(self, tables: Tables, approvals: Approvals, cards: Cards, groups: AgentGroups) -> None:
        self._tables = tables
        self._approvals = approvals
        self._cards = cards
        self._groups = groups
        self.replay: Replay = _nowhere

    def ask_about_sender(
        self,
        connection: sqlite3.Connection,
        place: tuple[Chat, str],
        sender: Sender,
        incoming: Incoming,
        after: Aftermath,
        now: int,
    ) -> Deny:
        """Open the question whether an unknown sender may write to an agent group in a chat."""
        chat, agent_group = place
        subject = f"{chat.id}:{sender.handle}"
        asked = Deny("unknown_sender_asked", ASKED_WORDS)
        if self._tables.approvals.find_open(connection, ApprovalKind.UNKNOWN_SENDER, subject) is not None:
            return asked
        group = self._tables.groups.get(connection, agent_group)
        where = "a direct chat" if not chat.is_group else f"the group {one_line(chat.name or chat.platform_id)}"
        who = f"{one_line(incoming.sender_name)} ({one_line(sender.handle)})"
        new = NewApproval(
            kind=ApprovalKind.UNKNOWN_SENDER,
            subject=subject,
            title="A new sender",
            text=f"{who} wrote to {group.name} in {where} on {sender.channel}. May they?",
            options=(ALLOW, NOT_NOW, NEVER),
            payload=_hold(sender.channel, incoming),
            expires_at=now + STRANGER_LIFE_MS,
            agent_group=agent_group,
            chat=chat.id,
            channel=sender.channel,
        )
        return self._ask(connection, new, asked, after, now)

    def ask_about_chat(
        self,
        connection: sqlite3.Connection,
        channel: str,
        sender: Sender,
        incoming: Incoming,
        after: Aftermath,
        now: int,
    ) -> Deny:
        """Open the question which agent answers in a chat that nobody has connected."""
        subject = f"{channel}:{incoming.chat_id}"
        asked = Deny("unknown_chat_asked", "No agent is connected to this chat yet; somebody is asked about it.")
        if self._tables.approvals.find_open(connection, ApprovalKind.UNKNOWN_CHAT, subject) is not None:
            return asked
        offered = self._tables.groups.list_all(connection)[:MOST_OFFERED]
        who = f"{one_line(incoming.sender_name)} ({one_line(sender.handle)})"
        name = one_line(incoming.chat_name or incoming.chat_id)
        wrote = f"called an assistant in the group {name}" if incoming.is_group else "wrote in a direct chat"
        chat = self._tables.chats.find(connection, channel, incoming.chat_id)
        new = NewApproval(
            kind=ApprovalKind.UNKNOWN_CHAT,
            subject=subject,
            title="A new chat",
            text=f"{who} {wrote} on {channel}. Who answers there?",
            options=(
                *(Option(f"{CONNECT}{group.id}", f"Connect to {one_line(group.name)}") for group in offered),
                NEW_AGENT,
                REJECT,
            ),
            payload=_hold(channel, incoming),
            expires_at=now + STRANGER_LIFE_MS,
            chat=chat.id if chat else None,
            channel=channel,
        )
        return self._ask(connection, new, asked, after, now)

    def sender_decided(self, connection: sqlite3.Connection, end: End, after: Aftermath, now: int) -> str:
        """Let an unknown sender in and take their message, or keep them out."""
        approval = end.approval
        if approval.chat is None or approval.agent_group is None or end.option is None:
            return ""
        channel, incoming = _held(approval.payload)
        name = one_line(incoming.sender_name)
        if end.state is not ApprovalState.APPROVED:
            if end.option == NEVER:
                self._check_unknown(connection, approval.chat, (channel, incoming.sender))
                self._tables.chats.block(connection, approval.chat, incoming.sender, end.by, now)
            return f"{name} may not write there{', and nobody is asked again' if end.option == NEVER else ''}."
        self._admit(connection, (channel, incoming), approval.agent_group, end.by, now)
        return f"{name} may write there now.{self._take_held(connection, channel, incoming, after, now)}"

    def chat_decided(self, connection: sqlite3.Connection, end: End, after: Aftermath, now: int) -> str:
        """Connect an unknown chat and take the message, or refuse it for good."""
        if end.option is None:
            return ""
        channel, incoming = _held(end.approval.payload)
        if end.option == REJECT:
            self._tables.chats.deny(connection, channel, incoming.chat_id, now, is_group=incoming.is_group)
            return "Nobody answers in that chat, and nobody is asked again."
        if end.option == NEW_AGENT:
            group = self._groups.acting_for(f"user:{end.by}").create(connection, end.text, now, after)
        else:
            group = self._tables.groups.get(connection, end.option.value.removeprefix(CONNECT))
            if group.archived_at is not None:
                raise Refused(f"{group.name} was put away.")
        self._connect(connection, (channel, incoming), group, now)
        after.groups[group.id] = None
        self._admit(connection, (channel, incoming), group.id, end.by, now)
        return f"{group.name} answers in that chat now.{self._take_held(connection, channel, incoming, after, now)}"

    def _ask(self, connection: sqlite3.Connection, new: NewApproval, asked: Deny, after: Aftermath, now: int) -> Deny:
        open_now = self._tables.approvals.count_open(connection, session=None, agent_group=None, chat=new.chat)
        if open_now.of_strangers >= MOST_OF_ALL or (new.chat is not None and open_now.of_chat >= MOST_OF_CHAT):
            return CROWDED
        approval = self._approvals.open(connection, new, now)
        self._cards.send_to_approvers(connection, approval, after, now)
        return asked

    def _connect(self, connection: sqlite3.Connection, held: tuple[str, Incoming], group: AgentGroup, now: int) -> None:
        channel, incoming = held
        chats = self._tables.chats
        policy = UnknownSenderPolicy.REQUEST_APPROVAL
        chat = chats.find(connection, channel, incoming.chat_id)
        if chat is None:
            chat = chats.add(connection, channel, incoming.chat_id, now, is_group=incoming.is_group)
        name = incoming.chat_name if incoming.is_group else incoming.sender_name
        chats.rename(connection, chat.id, one_line(name or incoming.chat_id))
        chats.open_up(connection, chat.id, policy)
        chat = chats.get(connection, chat.id)
        if any(wiring.agent_group == group.id for wiring in chats.wirings(connection, chat.id)):
            return
        chats.wire(connection, chat, group.id, now, IN_A_GROUP if incoming.is_group else ALWAYS)

    def _admit(
        self,
        connection: sqlite3.Connection,
        held: tuple[str, Incoming],
        agent_group: str,
        by: UserId | None,
        now: int,
    ) -> None:
        channel, incoming = held
        people = self._tables.people
        user = people.find_by_identity(connection, channel, incoming.sender)
        if user is None:
            user = people.add(connection, one_line(incoming.sender_name), channel, incoming.sender, now)
        people.add_member(connection, user, agent_group, now, by=by)

    def _check_unknown(self, connection: sqlite3.Connection, chat: str, account: tuple[str, str]) -> None:
        """Refuse to keep somebody out of a whole chat whom another of its assistants knows."""
        people = self._tables.people
        user = people.find_by_identity(connection, *account)
        for wiring in self._tables.chats.wirings(connection, chat):
            if people.standing(connection, user, wiring.agent_group).is_known:
                raise Refused(f"{one_line(wiring.agent_name)} knows them, so they cannot be kept out of this chat.")

    def _take_held(
        self, connection: sqlite3.Connection, channel: str, incoming: Incoming, after: Aftermath, now: int
    ) -> str:
        accepted = self.replay(connection, channel, incoming, after, now)
        if accepted.message:
            return " The message was passed on."
        return f" The message was not passed on. {accepted.refused}".rstrip()


def _hold(channel: str, incoming: Incoming) -> str:
    return json.dumps({"channel": channel, "message": asdict(incoming)}, ensure_ascii=False)


def _held(payload: str) -> tuple[str, Incoming]:
    held = json.loads(payload)
    return held["channel"], Incoming(**held["message"])


def _nowhere(connection: sqlite3.Connection, channel: str, incoming: Incoming, after: Aftermath, now: int) -> Accepted:
    raise Refused("The held message cannot be passed on: the host is not ready.")
