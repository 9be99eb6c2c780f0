"""For random people, rights, wirings, policies and messages: nothing of whom the policy refuses reaches an agent.

The oracle is written from the rules in words (issue 3, items 2 and 3), on plain sets, and shares nothing with the code.
Grants, revocations and denials for good come in any order between the messages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.channels.base import Incoming
from nanoclaw.domain.people import Role, UserId
from nanoclaw.domain.wiring import (
    AgentGroupId,
    EngageMode,
    IgnoredMessagePolicy,
    SenderScope,
    SessionMode,
    UnknownSenderPolicy,
)
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.receive import Intake
from nanoclaw.log import open_log
from nanoclaw.store.chats import WiringRules
from tests.flow.cast import Asks
from tests.store.stage import Stage, open_stage

CHANNEL = "scripted"
AGENTS = ("Andy", "Bob")
PEOPLE = ("mum", "kid", "mallory")
CHATS = ("family", "work")
TEXTS = ("hi", "@andy hi", "@bob and @andy", "/status", "/clear now", "/compact", "/stop", "/clearx", "")

rules = st.builds(
    WiringRules,
    engage=st.sampled_from([EngageMode.PATTERN, *EngageMode]),
    pattern=st.sampled_from([".", ".", "hi", "("]),
    session_mode=st.sampled_from(SessionMode),
    sender_scope=st.sampled_from(SenderScope),
    ignored=st.sampled_from(IgnoredMessagePolicy),
    priority=st.integers(-1, 1),
)
wirings = st.dictionaries(st.tuples(st.sampled_from(CHATS), st.sampled_from(AGENTS)), rules, min_size=1)
policies = st.fixed_dictionaries({chat: st.sampled_from(UnknownSenderPolicy) for chat in CHATS})
rights = st.sampled_from(["member", "group admin", "member", "admin", "owner"])
facts = st.tuples(st.sampled_from(TEXTS), st.booleans(), st.booleans(), st.sampled_from([None, "t1"]), st.booleans())
says = st.tuples(st.just("says"), st.sampled_from(PEOPLE), st.sampled_from(CHATS), facts)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.sampled_from(PEOPLE[:2]), rights, st.sampled_from(AGENTS)),
        st.tuples(st.just("revoke"), st.sampled_from(PEOPLE[:2]), rights, st.sampled_from(AGENTS)),
        st.tuples(st.just("block"), st.sampled_from(PEOPLE), st.sampled_from(CHATS), st.none()),
        *[says] * 4,
    ),
    min_size=10,
    max_size=40,
)


@dataclass
class Oracle:
    """Who may reach whom, in the words of the issue."""

    wirings: dict[tuple[str, str], WiringRules]
    policies: dict[str, UnknownSenderPolicy]
    everywhere: set[tuple[str, str]] = field(default_factory=set)  # (person, owner or admin)
    of_agent: set[tuple[str, str, str]] = field(default_factory=set)  # (person, member or group admin, agent)
    blocked: set[tuple[str, str]] = field(default_factory=set)

    def knows(self, agent: str, person: str) -> bool:
        ranks = {right for who, right in self.everywhere if who == person}
        return bool(ranks) or any(who == person and of == agent for who, _, of in self.of_agent)

    def may_reach(self, person: str, chat: str, agent: str) -> bool:
        if (chat, agent) not in self.wirings or (person, chat) in self.blocked:
            return False
        if self.knows(agent, person):
            return True
        scope = self.wirings[(chat, agent)].sender_scope
        return self.policies[chat] == "public" and scope == "all"

    def may_command(self, person: str, agent: str, command: str) -> bool:
        if command in ("/stop", "/status", "/help"):
            return self.knows(agent, person)
        rank = {right for who, right in self.everywhere if who == person}
        return bool(rank) or (person, "group admin", agent) in self.of_agent


class Play:
    """The real intake over a real store, and the oracle beside it."""

    def __init__(self, wired: dict[tuple[str, str], WiringRules], policies: dict[str, UnknownSenderPolicy]) -> None:
        self.stage: Stage = open_stage()
        self.intake = Intake(self.stage.tables, Asks(), open_log("error", StringIO()))
        self.oracle = Oracle(wired, policies)
        self.said = 0
        connection, tables = self.stage.connection, self.stage.tables
        self.agents = {name: tables.groups.add(connection, name, name.lower(), 0) for name in AGENTS}
        self.people = {name: tables.people.add(connection, name, CHANNEL, name, 0) for name in PEOPLE[:2]}
        self.chats = {
            name: tables.chats.add(connection, CHANNEL, name, 0, is_group=True, unknown_senders=policies[name])
            for name in CHATS
        }
        for (chat, agent), of in wired.items():
            tables.chats.wire(connection, self.chats[chat], self.agents[agent], 0, of)

    def grant(self, person: str, right: str, agent: str) -> None:
        people, connection = self.stage.tables.people, self.stage.connection
        user, group = self.people[person], self.agents[agent]
        if right == "member":
            people.add_member(connection, user, group, 0)
        else:
            role = Role.OWNER if right == "owner" else Role.ADMIN
            people.grant(connection, user, role, 0, agent_group=group if right == "group admin" else None)
        self._note(self.oracle.everywhere.add, self.oracle.of_agent.add, person, (right, agent))

    def revoke(self, person: str, right: str, agent: str) -> None:
        user, group = self.people[person], self.agents[agent]
        if right == "member":
            self._delete("DELETE FROM agent_group_members WHERE user_id = ? AND agent_group_id = ?", user, group)
        elif right == "group admin":
            self._delete("DELETE FROM user_roles WHERE user_id = ? AND agent_group_id = ?", user, group)
        else:
            where = "DELETE FROM user_roles WHERE user_id = ? AND agent_group_id IS NULL AND role = ?"
            self._delete(where, user, right)
        self._note(self.oracle.everywhere.discard, self.oracle.of_agent.discard, person, (right, agent))

    def block(self, person: str, chat: str, _: None) -> None:
        self.stage.tables.chats.block(self.stage.connection, self.chats[chat].id, person, None, 0)
        self.oracle.blocked.add((person, chat))

    def says(self, person: str, chat: str, what: tuple[str, bool, bool, str | None, bool]) -> None:
        text, is_group, is_mention, thread, is_replay = what
        self.said += 1
        marked = f"{text} #{self.said}"
        incoming = Incoming(
            f"p{self.said}", chat, person, person, marked, 0, is_group=is_group, is_mention=is_mention, thread_id=thread
        )
        take = self.intake.take_one if is_replay else self.intake.take
        before = self.count("refusals"), self.count("audit")
        self.stage.connection.execute("BEGIN")
        take(self.stage.connection, CHANNEL, incoming, Aftermath(), 0)
        self.stage.connection.execute("COMMIT")
        self.check(person, chat, marked, before)

    def check(self, person: str, chat: str, text: str, before: tuple[int, int]) -> None:
        rows = self.rows(text)
        allowed = {agent for agent in AGENTS if self.oracle.may_reach(person, chat, agent)}
        always = {agent for (place, agent), of in self.oracle.wirings.items() if place == chat and of.pattern == "."}
        always = {agent for agent in always if self.oracle.wirings[(chat, agent)].engage == "pattern"}
        assert allowed & always <= {row["name"] for row in rows} <= allowed
        if not allowed:
            assert text not in "\n".join(self.stage.connection.iterdump())
        command = text.split()[0].lower() if text.startswith("/") else ""
        for row in rows:
            refused = row["outcome"] == "refused"
            if command in ("/stop", "/status", "/help", "/clear", "/compact", "/context", "/cost", "/files"):
                assert refused is not self.oracle.may_command(person, row["name"], command)
            else:
                assert row["state"] == "queued" and row["content"] is None
        counted, audited = self.count("refusals") - before[0], self.count("audit") - before[1]
        assert counted or not any(row["outcome"] == "refused" for row in rows)
        assert counted == audited <= 1  # once for a message, whatever the number of agents
        assert rows or counted or not self.stage.tables.chats.wirings(self.stage.connection, self.chats[chat].id)

    def rows(self, text: str) -> list[sqlite3.Row]:
        query = (
            "SELECT g.name, i.state, i.outcome, i.content FROM inbox i JOIN inbound b ON b.id = i.inbound_id"
            " JOIN sessions s ON s.id = i.session_id JOIN agent_groups g ON g.id = s.agent_group_id WHERE b.text = ?"
        )
        return self.stage.connection.execute(query, (text,)).fetchall()

    def count(self, table: str) -> int:
        queries = {"refusals": "SELECT coalesce(sum(count), 0) FROM refusals", "audit": "SELECT count(*) FROM audit"}
        return self.stage.connection.execute(queries[table]).fetchone()[0]

    def _delete(self, statement: str, user: UserId, other: AgentGroupId | str) -> None:
        self.stage.connection.execute(statement, (user, other) if statement.count("?") == 2 else (user,))

    def _note(
        self, everywhere: Callable[[Any], None], of_agent: Callable[[Any], None], person: str, what: tuple[str, str]
    ) -> None:
        right, agent = what
        if right in ("owner", "admin"):
            everywhere((person, right))
        else:
            of_agent((person, right, agent))


@settings(max_examples=150, deadline=None)
@given(wired=wirings, policy=policies, script=steps)
def test_no_message_of_a_person_the_policy_refuses_reaches_an_agent_in_any_order_of_grants_and_revocations(
    wired: dict[tuple[str, str], WiringRules],
    policy: dict[str, UnknownSenderPolicy],
    script: list[tuple[Any, ...]],
) -> None:
    play = Play(wired, policy)
    for verb, *arguments in script:
        getattr(play, verb)(*arguments)
