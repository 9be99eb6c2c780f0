"""The nouns: settled messages, the outbox's order, people's rights, refusals, the audit chain."""

from __future__ import annotations

import itertools
import sqlite3

import pytest

from nanoclaw.domain.people import Role
from nanoclaw.domain.turn import Outcome
from nanoclaw.domain.wiring import SessionMode
from nanoclaw.store.audit import Entry
from nanoclaw.store.inbox import Claim
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.refusals import Refusal
from tests.store.stage import Stage, open_stage


def finish(stage: Stage, fence: int, seq: int, outcome: Outcome = Outcome.REPLIED, turn: str = "1-1") -> None:
    claim = Claim(stage.session, fence, seq, 1)
    assert stage.tables.inbox.finish(stage.connection, claim, turn, outcome, stage.now)


def deliver(stage: Stage, seq: int | None, text: str, *, turn: str | None = "1-1", reply_to: str | None = None) -> None:
    delivery = NewDelivery(stage.session, 1, seq, turn, reply_to, stage.chat.id, None, text)
    stage.tables.outbox.add(stage.connection, delivery, stage.now)


def settled(stage: Stage, *messages: str) -> list[tuple[str, str]]:
    return stage.tables.inbox.list_settled(stage.connection, messages)


# -- settled ------------------------------------------------------------------------------------------------------


def test_a_message_is_settled_when_its_row_has_an_outcome_and_not_before() -> None:
    stage = open_stage()
    message = stage.says()
    assert settled(stage, message) == []
    fence = stage.start()
    assert settled(stage, message) == []
    finish(stage, fence, 2)
    assert settled(stage, message) == [(message, "replied")]


@pytest.mark.parametrize(
    ("state", "is_settled"),
    [("pending", False), ("sending", False), ("unknown", False), ("sent", True), ("failed", True)],
)
@pytest.mark.parametrize("link", ["turn", "reply_to"])
def test_a_message_is_settled_only_when_every_delivery_of_its_turn_has_ended(
    state: str, is_settled: bool, link: str
) -> None:
    stage = open_stage()
    message = stage.says()
    row = stage.connection.execute("SELECT id FROM inbox").fetchone()["id"]
    finish(stage, stage.start(), 2)
    deliver(stage, 3, "hi", turn="1-1" if link == "turn" else "1-9", reply_to=row if link == "reply_to" else None)
    order = 1 if state == "sent" else None
    stage.connection.execute("UPDATE outbox SET state = ?, sent_order = ?", (state, order))
    assert settled(stage, message) == ([(message, "replied")] if is_settled else [])


def test_a_delivery_of_another_turn_or_session_is_no_hindrance() -> None:
    stage = open_stage()
    other = stage.new_session("other")
    message = stage.says()
    finish(stage, stage.start(), 2)
    deliver(stage, 3, "another turn", turn="1-2")
    stage.tables.outbox.add(
        stage.connection, NewDelivery(other, 1, 3, "1-1", None, stage.chat.id, None, "same turn id"), 0
    )
    assert settled(stage, message) == [(message, "replied")]


@pytest.mark.parametrize("outcomes", list(itertools.product(Outcome, repeat=2)))
def test_a_message_for_two_agents_is_settled_when_both_are_and_the_worst_outcome_counts(
    outcomes: tuple[Outcome, Outcome],
) -> None:
    stage = open_stage()
    other = stage.new_session("other")
    message = stage.says(sessions=(stage.session, other))
    finish(stage, stage.start(), 2, outcomes[0])
    assert settled(stage, message) == []
    stage.session = other
    finish(stage, stage.start(), 2, outcomes[1])
    worst = next(o for o in (Outcome.FAILED, Outcome.REFUSED, Outcome.REPLIED, Outcome.SILENT) if o in outcomes)
    assert settled(stage, message) == [(message, worst)]


def test_settled_answers_only_for_the_messages_it_was_asked_about() -> None:
    stage = open_stage()
    first, second, third = stage.says(), stage.says(), stage.says()
    fence = stage.start()
    for seq in (2, 4):
        finish(stage, fence, seq, Outcome.SILENT)
    assert settled(stage, second, third, "no-such-message") == [(second, "silent")]
    assert settled(stage) == [] and dict(settled(stage, first, second)).keys() == {first, second}


# -- the outbox ---------------------------------------------------------------------------------------------------


def test_a_delivery_that_was_collected_before_is_ignored() -> None:
    stage = open_stage()
    for _ in range(3):
        deliver(stage, 3, "once")
    for _ in range(2):
        deliver(stage, None, "the host's own words have no number")
    texts = [row["text"] for row in stage.connection.execute("SELECT text FROM outbox ORDER BY id")]
    assert texts == ["once", *["the host's own words have no number"] * 2]


def test_a_lane_gives_its_deliveries_one_by_one_in_order() -> None:
    stage = open_stage()
    for number in range(3):
        deliver(stage, 2 * number + 1, f"d{number}")
    lane, outbox = Lane(stage.session, stage.chat.id, ""), stage.tables.outbox
    assert outbox.lanes(stage.connection) == [lane]
    for number in range(3):
        delivery = outbox.take_next(stage.connection, lane, 0)
        assert delivery is not None and (delivery.text, delivery.attempt) == (f"d{number}", 1)
        assert outbox.take_next(stage.connection, lane, 0) is None  # not while this one is being sent
        assert outbox.set_sent(stage.connection, delivery, f"p{number}", 0)
        assert not outbox.set_sent(stage.connection, delivery, "again", 0)
    sent = outbox.list_sent(stage.connection, stage.chat.id, 0, 10)
    assert [(item.order, item.text) for item in sent] == [(1, "d0"), (2, "d1"), (3, "d2")]
    assert [item.text for item in outbox.list_sent(stage.connection, stage.chat.id, 1, 1)] == ["d1"]
    assert [item.text for item in outbox.last_sent(stage.connection, stage.chat.id, 2)] == ["d1", "d2"]
    assert outbox.lanes(stage.connection) == [] and outbox.last_order(stage.connection) == 3


def test_what_was_being_sent_at_a_crash_is_sent_again_only_when_its_channel_says_so() -> None:
    stage = open_stage()
    deliver(stage, 3, "hi")
    lane, outbox = Lane(stage.session, stage.chat.id, ""), stage.tables.outbox
    lost = outbox.take_next(stage.connection, lane, 0)
    assert lost is not None and outbox.set_unknown(stage.connection) == 1
    assert outbox.take_next(stage.connection, lane, 0) is None
    assert not outbox.set_sent(stage.connection, lost, "late", 0)
    assert outbox.resend_unknown(stage.connection, "another channel", mark=True) == 0
    assert outbox.resend_unknown(stage.connection, stage.chat.channel_type, mark=True) == 1
    again = outbox.take_next(stage.connection, lane, 0)
    assert again is not None and (again.attempt, again.maybe_duplicate) == (2, True)


# -- people, chats, sessions --------------------------------------------------------------------------------------


def test_a_role_is_given_once_the_global_one_too() -> None:
    stage = open_stage()
    people = stage.tables.people
    user = people.add(stage.connection, "Bob", "x", "bob", 0)
    assert people.grant(stage.connection, user, Role.ADMIN, 0)
    assert not people.grant(stage.connection, user, Role.ADMIN, 0)
    assert stage.connection.execute("SELECT count(*) FROM user_roles WHERE user_id = ?", (user,)).fetchone()[0] == 1
    with pytest.raises(sqlite3.IntegrityError):  # an owner is always global
        stage.connection.execute(
            "INSERT INTO user_roles VALUES ('r', ?, 'owner', ?, NULL, 0)", (user, stage.agent_group)
        )


def test_owner_admins_and_members_are_known_and_nobody_else() -> None:
    stage = open_stage()
    people, connection, group = stage.tables.people, stage.connection, stage.agent_group
    owner = people.find_owner(connection)
    other = stage.tables.groups.add(connection, "Other", "other", 0)
    users = {name: people.add(connection, name, "x", name, 0) for name in ("admin", "group_admin", "member", "nobody")}
    people.grant(connection, users["admin"], Role.ADMIN, 0)
    connection.execute("INSERT INTO user_roles VALUES ('g', ?, 'admin', ?, NULL, 0)", (users["group_admin"], group))
    connection.execute("INSERT INTO agent_group_members VALUES (?, ?, NULL, 0)", (users["member"], group))
    known = {name for name, user in users.items() if people.standing(connection, user, group).is_known}
    assert known == {"admin", "group_admin", "member"} and people.standing(connection, owner, group).is_known
    known = {name for name, user in users.items() if people.standing(connection, user, other).is_known}
    assert known == {"admin"} and people.standing(connection, owner, other).is_known
    assert not people.standing(connection, None, group).is_known


def test_a_platforms_handle_belongs_to_one_user() -> None:
    stage = open_stage()
    people = stage.tables.people
    people.add(stage.connection, "Bob", "x", "bob", 0)
    with pytest.raises(sqlite3.IntegrityError):
        people.add(stage.connection, "Mallory", "x", "bob", 0)


@pytest.mark.parametrize(
    ("mode", "same"),
    [
        (SessionMode.SHARED, [True, False, True]),
        (SessionMode.PER_THREAD, [False, False, False]),
        (SessionMode.AGENT_SHARED, [True, True, True]),
    ],
)
def test_a_session_is_shared_as_its_mode_says(mode: SessionMode, same: list[bool]) -> None:
    stage = open_stage()
    chat = stage.tables.chats.add(stage.connection, "x", "other", 0, is_group=True).id

    def resolve(chat: str, thread: str | None) -> str:
        return stage.tables.sessions.resolve(stage.connection, stage.agent_group, mode, (chat, thread), 0)

    first = resolve(stage.chat.id, "t1")
    assert [resolve(*at) == first for at in ((stage.chat.id, "t2"), (chat, "t1"), (stage.chat.id, None))] == same
    assert resolve(stage.chat.id, "t1") == first


def test_two_chats_whose_names_look_alike_are_two_destinations() -> None:
    stage = open_stage()
    for platform_id in ("The Family!", "the-family", "+++"):
        chat = stage.tables.chats.add(stage.connection, "x", platform_id, 0, is_group=False)
        stage.tables.chats.wire(stage.connection, chat, stage.agent_group, 0)
    names = [item.name for item in stage.tables.chats.destinations(stage.connection, stage.agent_group)]
    assert sorted(names) == ["local", "the-family", "the-family-2", "unnamed"]


# -- refusals and audit -------------------------------------------------------------------------------------------


def test_refusals_are_counted_for_each_sender_chat_and_reason() -> None:
    stage = open_stage()
    for handle, chat, reason, times in (("mallory", "c1", "r1", 3), ("mallory", "c2", "r1", 1), ("eve", "c1", "r1", 2)):
        for number in range(times):
            stage.tables.refusals.count(stage.connection, Refusal("x", chat, handle, reason), 10 + number)
    rows = stage.connection.execute("SELECT handle, chat, count, first_at, last_at FROM refusals ORDER BY id")
    assert [tuple(row) for row in rows] == [
        ("mallory", "c1", 3, 10, 12),
        ("mallory", "c2", 1, 10, 10),
        ("eve", "c1", 2, 10, 11),
    ]


CHANGES = [
    "UPDATE audit SET verdict = 'allow' WHERE n = 3",
    "UPDATE audit SET reason = reason || ' ' WHERE n = 3",
    "UPDATE audit SET at = at + 1 WHERE n = 3",
    "DELETE FROM audit WHERE n = 3",
    "UPDATE audit SET previous = hash WHERE n = 3",
]


@pytest.mark.parametrize("change", CHANGES)
def test_an_edit_of_the_audit_shows(change: str) -> None:
    stage = open_stage()
    for number in range(5):
        stage.tables.audit.append(stage.connection, Entry(number, "e", "a", "s", "deny", f"r{number}"))
    assert stage.tables.audit.verify(stage.connection) == (5, None)
    assert [row["reason"] for row in stage.tables.audit.last(stage.connection, 2)] == ["r3", "r4"]
    stage.connection.execute(change)
    checked, bad = stage.tables.audit.verify(stage.connection)
    assert bad in (3, 4) and checked == bad - 1 - ("DELETE" in change)


def test_two_entries_cannot_be_taken_for_each_other_by_shifting_text_between_fields() -> None:
    stage = open_stage()
    stage.tables.audit.append(stage.connection, Entry(1, "ab", "c", "s", "deny", "r"))
    stage.connection.execute("UPDATE audit SET event = 'a', actor = 'bc'")
    assert stage.tables.audit.verify(stage.connection) == (0, 1)


def test_a_box_cannot_speak_in_the_hosts_voice_but_its_notice_still_decides_the_outcome() -> None:
    stage = open_stage()
    stage.says()
    row = stage.tables.inbox.claimed(stage.connection, stage.session, stage.start())[0].id
    outbox, lane = stage.tables.outbox, Lane(stage.session, stage.chat.id, "")
    for seq in (3, None):
        words = "the box" if seq else "the host"
        new = NewDelivery(stage.session, 1, seq, "1-1", row, stage.chat.id, None, words, notice=True)
        outbox.add(stage.connection, new, stage.now)
        taken = outbox.take_next(stage.connection, lane, stage.now)
        assert taken is not None
        assert outbox.set_sent(stage.connection, taken, words, stage.now)
    sent = outbox.list_sent(stage.connection, stage.chat.id, 0, 10)
    assert [(item.text, item.notice) for item in sent] == [("the box", False), ("the host", True)]
    assert outbox.what_was_said(stage.connection, stage.session, "1-1", row) == (False, True)
