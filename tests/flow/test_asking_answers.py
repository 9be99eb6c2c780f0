"""Who may answer, and who was first."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoclaw.domain.approval import APPROVE, DENY, LIFE_MS, ApprovalKind
from nanoclaw.domain.people import Role, UserId
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.approvals import Answer, Approvals, End
from nanoclaw.flow.cards import Cards
from nanoclaw.store.approvals import NewApproval
from tests.flow.people import audited, direct, home_with_terminal, local, main_group, person, states
from tests.flow.world import CHANNEL, OPERATOR, Home, World, open_world
from tests.store.stage import Stage, open_stage


async def ask(world: World, subject: str = "s1", *, everybody: bool = False) -> str:
    """Open a question of the agent group `main` and send its cards."""
    after = Aftermath()

    def work(connection):  # type: ignore[no-untyped-def]
        new = NewApproval(
            kind=ApprovalKind.AGENT_REQUEST,
            subject=subject,
            title=f"May it? {subject}",
            text="",
            options=(APPROVE, DENY),
            payload=json.dumps({"action": "nothing", "payload": ""}),
            expires_at=world.clock.now_ms() + LIFE_MS,
            agent_group=None if everybody else main_group(connection, world),
            channel=CHANNEL,
        )
        approval = world.asked.approvals.open(connection, new, world.clock.now_ms())
        world.asked.cards.send_to_approvers(connection, approval, after, world.clock.now_ms())
        return approval.id

    approval = await world.store.write(work)
    world.carrier.carry(after)
    await world.quiet()
    return approval


def effect_of(world: World) -> list[str]:
    """Have the action `nothing` note who approved it."""
    done: list[str] = []

    def effect(connection, payload, end, after, now) -> str:  # type: ignore[no-untyped-def]
        done.append(end.by)
        return "Nothing was done."

    world.asked.requests.effects = {**world.asked.requests.effects, "nothing": effect}
    return done


async def test_scoped_admins_global_admins_and_owners_get_one_card_each_in_a_direct_chat(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await person(world, "sam", Role.ADMIN, scoped=True)
        await person(world, "gil", Role.ADMIN)
        await person(world, "olga", Role.OWNER)
        await person(world, "bob")
        await ask(world)
        rows = await world.rows(
            "SELECT m.platform_id FROM outbox o JOIN messaging_groups m ON m.id = o.messaging_group_id ORDER BY o.id"
        )
        assert [chat for (chat,) in rows] == ["sam-dm", "gil-dm", "local", "olga-dm"]


async def test_the_card_goes_to_the_channel_the_question_came_from(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        olga = await person(world, "olga", Role.OWNER)

        def elsewhere(connection):  # type: ignore[no-untyped-def]
            chat = world.tables.chats.add(connection, "opening", "olga-elsewhere", 0, is_group=False)
            world.tables.people.note_dm(connection, olga, "opening", chat.id, world.clock.now_ms() + 1)

        await world.store.write(elsewhere)
        await ask(world)
        assert len(world.channel.heard("olga-dm")) == 1 and world.home.others["opening"].sent == []


async def test_a_platform_that_lets_us_write_first_is_asked_to_until_it_does(tmp_path: Path) -> None:
    home = home_with_terminal(tmp_path)
    opening = home.others["opening"]
    opening.is_down = True  # type: ignore[attr-defined]
    async with open_world(home) as world:
        olga = await person(world, "olga", Role.OWNER, reachable=False)
        await world.change("INSERT INTO identities VALUES ('opening', 'olga7', ?, 'Olga', 1)", olga)
        await ask(world)
        assert opening.sent == []
    opening.is_down = False  # type: ignore[attr-defined]
    async with open_world(home) as world:  # nothing of it was in memory alone
        await world.after(61)
        assert len(opening.heard("dm-olga7")) == 1
        assert (await opening.press("dm-olga7", "olga7", "Approve")).taken


async def test_the_first_answer_wins_and_everybodys_cards_say_so(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        done = effect_of(world)
        await person(world, "gil", Role.ADMIN)
        olga = await person(world, "olga", Role.OWNER)
        await ask(world)
        first = await direct(world, "olga-dm").presses("Approve", "olga")
        second = await direct(world, "gil-dm").presses("Deny", "gil")
        again = await direct(world, "olga-dm").presses("Approve", "olga")
        assert first.taken and not second.taken and not again.taken
        assert second.words == again.words == "This was decided before. Approved by Olga."
        assert done == [olga]
        await world.quiet()
        for chat in ("gil-dm", "olga-dm"):
            assert world.channel.heard(chat) == ["May it? s1: Approved by Olga."] and not world.channel.buttons(chat)
        assert local(world).heard == ["May it? s1: Approved by Olga."]


async def test_two_approvers_at_once_are_one_first_and_one_second(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        done = effect_of(world)
        gil, olga = await person(world, "gil", Role.ADMIN), await person(world, "olga", Role.OWNER)
        approval = await ask(world)

        def decide(value: str, by: UserId):  # type: ignore[no-untyped-def]
            return world.store.write(
                lambda c: world.asked.approvals.decide(c, Answer(approval, value, by), Aftermath(), 1)
            )

        answers = await asyncio.gather(decide("approve", gil), decide("approve", olga))
        assert [answer.taken for answer in answers] == [True, False] and done == [gil]


async def test_a_stranger_who_presses_changes_nothing_and_is_written_down(tmp_path: Path) -> None:
    """Reference 13.2, defect 9."""
    async with open_world(tmp_path) as world:
        done = effect_of(world)
        await person(world, "olga", Role.OWNER)
        await person(world, "bob")
        await ask(world)
        before = world.channel.heard("olga-dm")
        for sender in ("mallory", "bob"):
            assert not (await direct(world, "olga-dm").presses("Approve", sender)).taken
        assert world.channel.heard("olga-dm") == before and done == [] and (await states(world))[0][1] == "open"
        rows = await world.rows("SELECT actor, reason FROM audit WHERE event = 'card.refused' ORDER BY n")
        assert rows[0] == ("stranger", "not_an_approver") and rows[1][1] == "not_an_approver"


async def test_a_role_that_was_taken_while_the_question_was_open_does_not_count(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        done = effect_of(world)
        olga = await person(world, "olga", Role.OWNER)
        await ask(world)
        await world.change("DELETE FROM user_roles WHERE user_id = ?", olga)
        answer = await direct(world, "olga-dm").presses("Approve", "olga")
        assert not answer.taken and done == [] and await audited(world, "card.refused") == ["card.refused"]


async def test_a_scoped_admin_does_not_decide_for_another_agent_or_for_all(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        sam = await person(world, "sam", Role.ADMIN, scoped=True)
        approval = await ask(world, everybody=True)
        answer = await world.store.write(
            lambda c: world.asked.approvals.decide(c, Answer(approval, "approve", sam), Aftermath(), 1)
        )
        assert not answer.taken


async def test_typed_answers_with_several_open_questions_need_the_code(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        done = effect_of(world)
        first = await ask(world, "s1")
        await ask(world, "s2")
        codes = [code for (code,) in await world.rows("SELECT code FROM approvals ORDER BY id")]
        terminal = local(world)
        words = (await terminal.says("1", "uid:0")).words
        assert words == f"More than one question is open here. To answer it write `{codes[0]} 1` or `{codes[1]} 1`."
        assert done == []
        assert (await terminal.says(f"{codes[0].upper()} yes", "uid:0")).words == "Approved. Nothing was done."
        rows = await world.rows("SELECT id, state FROM approvals ORDER BY id")
        assert rows[0] == (first, "approved") and rows[1][1] == "open"
        assert await world.rows("SELECT text FROM inbound") == []


async def test_a_yes_that_may_be_meant_for_the_agent_never_approves(tmp_path: Path) -> None:
    """An agent could ask for something, and then 'shall I go on?'."""
    async with open_world(home_with_terminal(tmp_path)) as world:
        done = effect_of(world)
        terminal = local(world)
        await ask(world)
        world.script.replies("Shall I go on?")
        await terminal.says("how are you?", "uid:0")
        await world.until(lambda: terminal.heard[-1] == "Shall I go on?")
        await world.quiet()
        assert (await terminal.says("yes", "uid:0")).message, "it is an answer to the agent"
        await world.quiet()
        assert (await terminal.says("1", "uid:0")).words.startswith("Something else was said since the question.")
        assert done == []


async def test_a_typed_answer_counts_only_from_whom_the_card_was_for(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        done = effect_of(world)
        await person(world, "olga", Role.OWNER)
        await ask(world)
        assert (await direct(world, "olga-dm").says("1", OPERATOR)).words == "", "alice has no card here"
        assert done == []


async def test_the_operator_at_the_admin_socket_decides_without_a_card(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        done = effect_of(world)
        approval = await ask(world)
        await world.change("DELETE FROM user_roles")
        answer = await world.store.write(
            lambda c: world.asked.approvals.decide(c, Answer(approval, "approve", None, operator=True), Aftermath(), 1)
        )
        assert answer.taken and done == [None]
        assert await world.rows("SELECT actor FROM audit WHERE event = 'approval.approved'") == [("operator",)]


# -- whoever decides had the right ---------------------------------------------------------------------------------

USERS = 4
GROUPS = 2
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.integers(0, USERS - 1), st.sampled_from(["owner", "admin", "admin0", "admin1"])),
        st.tuples(
            st.just("revoke"), st.integers(0, USERS - 1), st.sampled_from(["owner", "admin", "admin0", "admin1"])
        ),
        st.tuples(st.just("member"), st.integers(0, USERS - 1), st.integers(0, GROUPS - 1)),
        st.tuples(st.just("ask"), st.sampled_from([None, 0, 1]), st.sampled_from([None, *range(USERS)])),
        st.tuples(st.just("click"), st.sampled_from([None, *range(USERS)]), st.integers(0, 9)),
    ),
    max_size=40,
)


class Oracle:
    """Rights as a set of pairs, worked out without the store."""

    def __init__(self) -> None:
        self.roles: set[tuple[int, str]] = set()

    def may(self, user: int | None, group: int | None, asked: int | None) -> bool:
        if user is None:
            return False
        mine = {role for who, role in self.roles if who == user}
        return bool(mine & {"owner", "admin", *([f"admin{group}"] if group is not None else [])}) or user == asked


@pytest.mark.ci  # ten seconds of random answers
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_nobody_without_the_right_ever_decides(steps: list[tuple[str, object, object]]) -> None:
    Play(open_stage()).run(steps)


class Play:
    """One random story over a real store."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.oracle = stage, Oracle()
        self.approvals = Approvals(stage.tables, Cards(stage.tables))
        self.approvals.endings = dict.fromkeys(ApprovalKind, self._ended)
        connection, people = stage.connection, stage.tables.people
        connection.execute("DELETE FROM user_roles")
        self.users = [people.add(connection, f"u{n}", "scripted", f"h{n}", 0) for n in range(USERS)]
        self.groups = [stage.agent_group, stage.tables.groups.add(connection, "Second", "second", 0)]
        self.open: list[tuple[str, int | None, int | None]] = []
        self.ended: set[str] = set()

    def _ended(self, connection: object, end: End, after: Aftermath, now: int) -> str:
        return ""

    def run(self, steps: list[tuple[str, object, object]]) -> None:
        for step in steps:
            getattr(self, step[0])(*step[1:])

    def grant(self, user: int, role: str) -> None:
        group = self.groups[int(role[-1])] if role[-1].isdigit() else None
        kind = Role.OWNER if role == "owner" else Role.ADMIN
        self.stage.tables.people.grant(self.stage.connection, self.users[user], kind, 0, agent_group=group)
        self.oracle.roles.add((user, role))

    def revoke(self, user: int, role: str) -> None:
        group = self.groups[int(role[-1])] if role[-1].isdigit() else None
        kind = "owner" if role == "owner" else "admin"
        self.stage.connection.execute(
            "DELETE FROM user_roles WHERE user_id = ? AND role = ? AND agent_group_id IS ?",
            (self.users[user], kind, group),
        )
        self.oracle.roles.discard((user, role))

    def member(self, user: int, group: int) -> None:
        self.stage.tables.people.add_member(self.stage.connection, self.users[user], self.groups[group], 0)

    def ask(self, group: int | None, asked: int | None) -> None:
        kind = ApprovalKind.AGENT_REQUEST if asked is None else ApprovalKind.QUESTION
        new = NewApproval(
            kind, f"s{len(self.open)}", "t", "", (APPROVE, DENY), "{}", 10**15,
            agent_group=None if group is None else self.groups[group],
            asked=None if asked is None else self.users[asked],
        )  # fmt: skip
        self.open.append((self.approvals.open(self.stage.connection, new, 0).id, group, asked))

    def click(self, user: int | None, which: int) -> None:
        if not self.open:
            return
        approval, group, asked = self.open[which % len(self.open)]
        who = None if user is None else self.users[user]
        answer = self.approvals.decide(self.stage.connection, Answer(approval, "approve", who), Aftermath(), 1)
        expected = approval not in self.ended and self.oracle.may(user, group, asked)
        assert answer.taken is expected
        if answer.taken:
            self.ended.add(approval)
        found = self.stage.tables.approvals.find(self.stage.connection, approval)
        assert found is not None and (found.state == "open") is (approval not in self.ended)


@pytest.mark.parametrize("state", ["approved", "denied", "expired"])
def test_a_question_that_has_ended_ends_no_second_time(state: str) -> None:
    stage = open_stage()
    play = Play(stage)
    play.ask(0, None)
    stage.connection.execute("UPDATE approvals SET state = ?, ended_at = 1", (state,))
    play.grant(0, "owner")
    answer = play.approvals.decide(stage.connection, Answer(play.open[0][0], "deny", play.users[0]), Aftermath(), 1)
    assert not answer.taken and answer.words.startswith("This was decided before.")
