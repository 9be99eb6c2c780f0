"""7e cards: the question of an approval goes to whoever may answer it, and its end to everybody who got it.

In: an approval that was opened or has ended.
Out: deliveries with a card, in the direct chats of its approvers; when it ends, what takes the cards' place.
Writes: `outbox`, `messaging_groups` (the terminal's own chat is there already), in the caller's transaction.
Never: writes a question about a stranger into a group; sends one person two cards of a question; changes a card before
the question has ended.
Fails: with the transaction. Who cannot be reached gets the card when they can be (flow/chase.py).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.approval import ApprovalKind
from nanoclaw.domain.card import Card, card_to_json, render_card
from nanoclaw.domain.people import UserId
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.approvals import Approval
from nanoclaw.store.defaults import CHANNEL as TERMINAL
from nanoclaw.store.defaults import CHAT as TERMINAL_CHAT
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.tables import Tables


@dataclass(frozen=True, slots=True)
class CardPlace:
    """Where a card goes. With a session it keeps its place among what that agent says there."""

    chat: str
    thread: str | None = None
    user: str | None = None
    session: str | None = None
    run: int = 0
    reply_to: str | None = None


class Cards:
    """Sends cards and what takes their place."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def send_to_approvers(self, connection: sqlite3.Connection, approval: Approval, after: Aftermath, now: int) -> int:
        """Send the card to every approver who can be reached and has none; return how many have one now."""
        for user, chat in self.list_unserved(connection, approval):
            self.send(connection, approval, CardPlace(chat, user=user), after, now)
        cards = len(self._tables.outbox.cards(connection, approval.id))
        if cards < len(self._tables.people.approvers(connection, approval.agent_group)):
            after.reach = True
        return cards

    def list_unserved(self, connection: sqlite3.Connection, approval: Approval) -> list[tuple[UserId, str]]:
        """Return the approvers who have no card of a question and can be reached, in order, and where."""
        served = {card.user for card in self._tables.outbox.cards(connection, approval.id)}
        people = self._tables.people.approvers(connection, approval.agent_group)
        found = [(user, self.find_direct_chat(connection, user, approval.channel)) for user in people]
        return [(user, chat) for user, chat in found if user not in served and chat is not None]

    def send(
        self, connection: sqlite3.Connection, approval: Approval, place: CardPlace, after: Aftermath, now: int
    ) -> None:
        """Send a card to one place."""
        card = Card(approval.id, approval.code, approval.title, approval.text, approval.options)
        self._deliver(connection, (card, render_card(card)), place, None, after, now)

    def end(self, connection: sqlite3.Connection, approval: Approval, words: str, after: Aftermath, now: int) -> None:
        """Put how a question ended in the place of all its cards, or below them where nothing can be changed."""
        title = approval.title.rstrip(".")
        card = Card(approval.id, approval.code, approval.title, words)
        for sent in self._tables.outbox.cards(connection, approval.id):
            if not sent.failed:
                place = CardPlace(sent.chat, sent.thread, sent.user, sent.session, sent.run)
                self._deliver(connection, (card, f"{title}: {words}"), place, sent.id, after, now)

    def find_direct_chat(self, connection: sqlite3.Connection, user: UserId, prefer: str) -> str | None:
        """Return a chat where nobody but this user reads, on the preferred channel if there is one."""
        found = dict(self._tables.people.dms(connection, user))
        if any(channel == TERMINAL for channel, _ in self._tables.people.identities(connection, user)):
            chat = self._tables.chats.find(connection, TERMINAL, TERMINAL_CHAT)
            found |= {TERMINAL: chat.id} if chat is not None else {}
        return found.get(prefer) or next(iter(found.values()), None)

    def _deliver(
        self,
        connection: sqlite3.Connection,
        what: tuple[Card, str],
        place: CardPlace,
        edits: str | None,
        after: Aftermath,
        now: int,
    ) -> None:
        card, text = what
        delivery = NewDelivery(
            session=place.session,
            run=place.run,
            seq=None,
            turn=None,
            reply_to=place.reply_to,
            chat=place.chat,
            thread=place.thread,
            text=text,
            notice=place.session is None,  # the host's own words; a question is its agent's
            card=card_to_json(card),
            approval=card.approval,
            user=place.user,
            edits=edits,
        )
        self._tables.outbox.add(connection, delivery, now)
        after.lanes[Lane(place.session, place.chat, place.thread or "")] = None
        after.chats[place.chat] = None


def is_put_to_approvers(approval: Approval) -> bool:
    """Return whether a question goes to the direct chats of approvers; a question of an agent goes to its own chat."""
    return approval.kind is not ApprovalKind.QUESTION
