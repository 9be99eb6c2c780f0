"""Every noun of the store in one hand, made once by host.py and passed to the stages."""

from __future__ import annotations

from dataclasses import dataclass

from nanoclaw.store.approvals import Approvals
from nanoclaw.store.audit import Audit
from nanoclaw.store.builds import Builds
from nanoclaw.store.chats import Chats
from nanoclaw.store.groups import Groups
from nanoclaw.store.inbound import Inbound
from nanoclaw.store.inbox import Inbox
from nanoclaw.store.left_out import LeftOutMounts
from nanoclaw.store.listings import Listings
from nanoclaw.store.outbox import Outbox
from nanoclaw.store.pairing import Pairing
from nanoclaw.store.people import NewId, People
from nanoclaw.store.proofs import Proofs
from nanoclaw.store.refusals import Refusals
from nanoclaw.store.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Tables:
    """The writing modules of the store; each owns its tables."""

    people: People
    groups: Groups
    chats: Chats
    sessions: Sessions
    inbound: Inbound
    inbox: Inbox
    outbox: Outbox
    refusals: Refusals
    audit: Audit
    approvals: Approvals
    pairing: Pairing
    builds: Builds
    proofs: Proofs
    left_out: LeftOutMounts
    listings: Listings


def build_tables(new_id: NewId) -> Tables:
    """Load the queries of every noun."""
    return Tables(
        people=People(new_id),
        groups=Groups(new_id),
        chats=Chats(new_id),
        sessions=Sessions(new_id),
        inbound=Inbound(new_id),
        inbox=Inbox(new_id),
        outbox=Outbox(new_id),
        refusals=Refusals(new_id),
        audit=Audit(),
        approvals=Approvals(new_id),
        pairing=Pairing(new_id),
        builds=Builds(new_id),
        proofs=Proofs(new_id),
        left_out=LeftOutMounts(),
        listings=Listings(),
    )
