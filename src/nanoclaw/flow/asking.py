"""1b asking: the one door to everything that is asked of people, and to their answers.

In: every message before it is routed (it may answer a card, or be a pairing code), presses of buttons, what the gates
would ask about.
Out: words for the person who answered; a Deny while a question is open.
Writes: what approvals, strangers, questions, agent requests, access, egress and pairing write, in the caller's
transaction.
Never: lets an answer reach an agent as a message; keeps the text of one.
Fails: with the transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from nanoclaw.channels.base import Click, ClickAnswer, Incoming
from nanoclaw.contract.request import ADD_MCP_SERVER, INSTALL_PACKAGES, REQUEST_ACCESS
from nanoclaw.domain.approval import MOST_TYPED, ApprovalKind, OpenCard, Typed, Unclear, decide_typed
from nanoclaw.domain.card import options_from_json
from nanoclaw.domain.people import UserId
from nanoclaw.flow.access import AccessRequests
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agent_requests import CREATE_AGENT, AgentRequests
from nanoclaw.flow.approvals import Answer, Approvals
from nanoclaw.flow.cards import Cards
from nanoclaw.flow.egress import Egress
from nanoclaw.flow.groups import AgentGroups, no_rules
from nanoclaw.flow.means import Means
from nanoclaw.flow.pairing import Pairing, note_direct_chat
from nanoclaw.flow.purge import ForgetRules
from nanoclaw.flow.questions import ASK_USER, Questions
from nanoclaw.flow.requests import Handler
from nanoclaw.flow.self_change import SelfChange
from nanoclaw.flow.strangers import Replay, Strangers
from nanoclaw.store.chats import Chat
from nanoclaw.store.defaults import CHANNEL as TERMINAL
from nanoclaw.store.tables import Tables

CANCEL = "cancel"
TAKEN = "That answer was taken already. "


@dataclass(frozen=True, slots=True)
class Asked:
    """The parts that ask people, put together once."""

    tables: Tables
    groups: AgentGroups
    cards: Cards
    approvals: Approvals
    strangers: Strangers
    requests: AgentRequests
    questions: Questions
    pairing: Pairing
    access: AccessRequests
    changes: SelfChange
    egress: Egress

    def handlers(self) -> Mapping[str, Handler]:
        """Return what answers agents, by action."""
        return {
            ASK_USER: self.questions.ask,
            CREATE_AGENT: self.requests.create_agent,
            REQUEST_ACCESS: self.access.ask,
            INSTALL_PACKAGES: self.changes.ask_packages,
            ADD_MCP_SERVER: self.changes.ask_server,
        }


def build_asked(means: Means, forget_rules: ForgetRules = no_rules) -> Asked:
    """Put the parts together; `forget_rules` as in flow/groups.py."""
    tables = means.tables
    cards = Cards(tables)
    approvals = Approvals(tables, cards)
    groups = AgentGroups(means, approvals.expire_group, forget_rules=forget_rules)
    strangers = Strangers(tables, approvals, cards, groups)
    requests = AgentRequests(tables, approvals, cards, groups)
    questions = Questions(tables, approvals, cards, requests)
    access = AccessRequests(tables, requests, cards)
    changes = SelfChange(tables, requests, access)
    requests.effects = {**requests.effects, **changes.effects()}
    egress = Egress(tables, approvals, cards, requests, access)
    approvals.endings = {
        ApprovalKind.UNKNOWN_SENDER: strangers.sender_decided,
        ApprovalKind.UNKNOWN_CHAT: strangers.chat_decided,
        ApprovalKind.AGENT_REQUEST: requests.decided,
        ApprovalKind.QUESTION: questions.decided,
        ApprovalKind.EGRESS: egress.decided,
    }
    pairing = Pairing(tables)
    return Asked(tables, groups, cards, approvals, strangers, requests, questions, pairing, access, changes, egress)


class AskPeople:
    """What stage 1 asks people by (flow/receive.Asking)."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._tables = asked.tables
        self.ask_about_sender = asked.strangers.ask_about_sender
        self.ask_about_chat = asked.strangers.ask_about_chat

    def replay_by(self, replay: Replay) -> None:
        """Say what takes a held message once more: stage 1 itself."""
        self._asked.strangers.replay = replay

    def take_answer(
        self,
        connection: sqlite3.Connection,
        channel: str,
        incoming: Incoming,
        user: UserId | None,
        after: Aftermath,
        now: int,
    ) -> str | None:
        """Return words for the person when a message was an answer or a pairing code; None: it is a message."""
        words = self._asked.pairing.take(connection, channel, incoming, user, after, now)
        if words is not None or user is None:
            return words
        chat = self._tables.chats.find(connection, channel, incoming.chat_id)
        self._note_direct_chat(connection, (channel, chat), incoming, user, now)
        if chat is None:
            return None
        message = f"{channel}:{incoming.chat_id}:{incoming.platform_id}"
        before = self._tables.approvals.find_by_message(connection, message)
        if before is not None:
            return TAKEN + self._asked.approvals.describe_end(connection, before)
        wanting = self._tables.approvals.find_wanting_words(connection, user, chat.id, now)
        if wanting is not None:
            given = Answer(wanting.id, wanting.wanted, user, incoming.text.strip(), chat=chat.id, message=message)
            return self._take_words(connection, given, after, now)
        typed = self._find_typed(connection, chat, incoming, user)
        if typed is None:
            return None
        if isinstance(typed, Unclear):
            return typed.words
        answer = Answer(typed.approval, typed.value, user, typed.text, chat=chat.id, message=message)
        return self._asked.approvals.decide(connection, answer, after, now).words

    def click(
        self,
        connection: sqlite3.Connection,
        channel: str,
        click: Click,
        user: UserId | None,
        after: Aftermath,
        now: int,
    ) -> ClickAnswer:
        """Take the press of a button."""
        chat = self._tables.chats.find(connection, channel, click.chat_id)
        answer = Answer(click.approval, click.value, user, click.text, chat=chat.id if chat else None)
        return self._asked.approvals.decide(connection, answer, after, now)

    def _take_words(self, connection: sqlite3.Connection, given: Answer, after: Aftermath, now: int) -> str:
        if given.text.casefold() == CANCEL:
            self._tables.approvals.set_words(connection, given.approval, None, given.message)
            return "Cancelled. The question is still open."
        return self._asked.approvals.decide(connection, given, after, now).words

    def _find_typed(
        self, connection: sqlite3.Connection, chat: Chat, incoming: Incoming, user: UserId
    ) -> Typed | Unclear | None:
        if len(incoming.text) > MOST_TYPED or not self._tables.approvals.has_open(connection):
            return None
        thread = incoming.thread_id or ""
        standing = self._tables.outbox.standing_cards(connection, chat.id, thread, user)
        if not standing:
            return None
        latest = self._tables.outbox.last_said(connection, chat.id, thread)
        cards = [
            OpenCard(card.approval, card.code, options_from_json(card.options), card.mine, card.approval == latest)
            for card in standing
        ]
        return decide_typed(incoming.text, cards)

    def _note_direct_chat(
        self,
        connection: sqlite3.Connection,
        place: tuple[str, Chat | None],
        incoming: Incoming,
        user: UserId,
        now: int,
    ) -> None:
        """Remember where a known person can be written to; a chat that is not known is made for approvers alone."""
        channel, chat = place
        if incoming.is_group or channel == TERMINAL:
            return
        if chat is not None:
            self._tables.people.note_dm(connection, user, channel, chat.id, now)
        elif self._tables.people.has_role(connection, user):
            note_direct_chat(connection, self._tables, (channel, incoming), user, now)
