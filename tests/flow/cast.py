"""Who plays in the routing tests: several agents, people with rights, chats wired to some of them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nanoclaw.domain.people import Role, UserId
from nanoclaw.domain.verdict import Deny
from nanoclaw.domain.wiring import AgentGroupId, EngageMode, UnknownSenderPolicy, WiringId
from nanoclaw.flow.receive import Intake, NobodyAsked
from nanoclaw.store.chats import WiringRules
from tests.flow.world import CHANNEL, Chat, World

MENTION = WiringRules(engage=EngageMode.MENTION)
STICKY = WiringRules(engage=EngageMode.MENTION_STICKY)


@dataclass
class Cast:
    """Agents and people of one world, by name."""

    world: World
    agents: dict[str, AgentGroupId] = field(default_factory=dict)
    people: dict[str, UserId] = field(default_factory=dict)
    wirings: dict[tuple[str, str], WiringId] = field(default_factory=dict)

    async def agent(self, name: str) -> AgentGroupId:
        """Return the agent of this name; it is made when there is none."""
        if name not in self.agents:
            tables, now = self.world.tables, self.world.clock.now_ms()
            folder = f"agent-{len(self.agents)}"
            self.agents[name] = await self.world.store.write(
                lambda connection: tables.groups.add(connection, name, folder, now)
            )
        return self.agents[name]

    async def person(self, handle: str, *, member: str = "", admin: str = "", role: Role | None = None) -> UserId:
        """Make a person: a member or an admin of one agent group, or with a role over all."""
        member_of = await self.agent(member) if member else None
        admin_of = await self.agent(admin) if admin else None

        def make(connection: sqlite3.Connection) -> UserId:
            tables, now = self.world.tables, self.world.clock.now_ms()
            user = tables.people.add(connection, handle.title(), CHANNEL, handle, now)
            if member_of is not None:
                tables.people.add_member(connection, user, member_of, now)
            if admin_of is not None:
                tables.people.grant(connection, user, Role.ADMIN, now, agent_group=admin_of)
            if role is not None:
                tables.people.grant(connection, user, role, now)
            return user

        self.people[handle] = await self.world.store.write(make)
        return self.people[handle]

    async def chat(
        self,
        name: str,
        *agents: tuple[str, WiringRules],
        is_group: bool = True,
        policy: UnknownSenderPolicy = UnknownSenderPolicy.STRICT,
    ) -> Chat:
        """Return a chat that is wired to these agents."""
        groups = {agent: await self.agent(agent) for agent, _ in agents}

        def make(connection: sqlite3.Connection) -> None:
            tables, now = self.world.tables, self.world.clock.now_ms()
            chat = tables.chats.find(connection, CHANNEL, name) or tables.chats.add(
                connection, CHANNEL, name, now, is_group=is_group, unknown_senders=policy
            )
            for agent, rules in agents:
                self.wirings[(name, agent)] = tables.chats.wire(connection, chat, groups[agent], now, rules)

        await self.world.store.write(make)
        return Chat(self.world, name, is_group=is_group)

    async def given(self) -> list[tuple[Any, ...]]:
        """(text, agent, why it was routed, why it was admitted) of every inbox row, in order."""
        return await self.world.rows(
            "SELECT b.text, g.name, i.routed_by, i.admitted_by FROM inbox i JOIN inbound b ON b.id = i.inbound_id"
            " JOIN sessions s ON s.id = i.session_id JOIN agent_groups g ON g.id = s.agent_group_id ORDER BY i.id"
        )

    async def who(self, text: str) -> list[str]:
        """The agents that have a text, those that only overhear it in brackets."""
        rows = await self.given()
        return [f"({agent})" if rule == "context" else agent for said, agent, rule, _ in rows if said == text]

    async def refusals(self) -> list[tuple[Any, ...]]:
        return await self.world.rows("SELECT handle, reason, count FROM refusals ORDER BY handle, reason")

    async def audited(self) -> list[tuple[Any, ...]]:
        return await self.world.rows("SELECT event, actor, reason FROM audit ORDER BY n")


class Asks(NobodyAsked):
    """Notes who would be asked about, as flow/approvals.py is asked."""

    def __init__(self) -> None:
        self.senders: list[tuple[str, str]] = []  # (handle, agent group)
        self.chats: list[str] = []
        self.answers: dict[str, str] = {}  # text -> what it is answered with

    def take_answer(self, connection: Any, channel: Any, incoming: Any, user: Any, after: Any, now: Any) -> str | None:
        return self.answers.get(incoming.text)

    def ask_about_sender(self, connection: Any, place: Any, sender: Any, incoming: Any, after: Any, now: Any) -> Deny:
        self.senders.append((sender.handle, place[1]))
        return Deny("unknown_sender_asked", "I have asked whether I may talk to you.")

    def ask_about_chat(self, connection: Any, channel: Any, sender: Any, incoming: Any, after: Any, now: Any) -> Deny:
        self.chats.append(incoming.chat_id)
        return Deny("unknown_chat_asked", "I have asked which agent is for this chat.")


Asked = TypeVar("Asked", bound=NobodyAsked)


def connect(world: World, asks: Asked) -> Asked:
    """Let the world's channel hand its messages to an intake that asks so, or asks nobody."""
    world.intake = Intake(world.tables, asks, world.means.log)
    world.channel.connect(world.receiver(world.carrier.carry))
    return asks


def bytes_below(home: Path) -> bytes:
    """Everything on disk below a home, the database's log included."""
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
