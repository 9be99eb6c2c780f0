"""The audit is a chain on the disk: it goes on after a restart, and every change to a row shows."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nanoclaw.clock import SystemClock
from nanoclaw.errors import OperatorError
from nanoclaw.gateway.audit_row import START_HASH, Entry, Event
from nanoclaw.gateway.budget import Planned, Reservation, Spent
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.ledger_file import LedgerError
from nanoclaw.gateway.ledger_read import Used
from nanoclaw.gateway.policy import Caller, Rule
from nanoclaw.gateway.usage import Usage

BOX = Caller("s1", 3, "main", "main")
MODEL = Rule("model", "api.anthropic.com", model="anthropic")
RESERVATION = Reservation(Planned(BOX, "owner", MODEL, b"", 9, attempt=2), "claude-x", 100, 50, 777)
V1 = Path(__file__).parent.parent / "fixtures" / "ledger_v1.sql"
V1_HEAD = "246a0ae4b292e28a881460560072aa6c327608023983cae9e8444bfb37e1bbfc"


def entry(path: str = "/v1/messages", event: Event = Event.REFUSED, **fields: int | str) -> Entry:
    return Entry(event, BOX, method="POST", host="api.anthropic.com", path=path, **fields)  # type: ignore[arg-type]


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def reserved(path: Path) -> list[tuple[int, str, str, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT call, folder, model, cost_micros FROM reservations").fetchall()


def schema(path: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger(path, SystemClock())
    opened.open()
    yield opened
    opened.close()


async def test_an_entry_is_on_the_disk_when_record_returns(ledger: Ledger, path: Path) -> None:
    assert await ledger.record(entry()) == 1
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT session, fence, agent_group, path, hash FROM audit").fetchone()
    assert row == ("s1", 3, "main", "/v1/messages", ledger.head)


async def test_many_entries_at_once_keep_their_order_and_one_chain(ledger: Ledger) -> None:
    numbers = await asyncio.gather(*(ledger.record(entry(f"/{number}")) for number in range(600)))
    assert numbers == list(range(1, 601))
    verified = ledger.verify()
    assert (verified.rows, verified.head, verified.broken_at) == (600, ledger.head, None)
    assert [row.path for row in ledger.list_newest(2, None)] == ["/598", "/599"]


async def test_a_head_of_before_is_found_where_it_was(ledger: Ledger) -> None:
    await ledger.record(entry("/1"))
    before = ledger.head
    await ledger.record(entry("/2"))
    found = ledger.verify(until=1)
    assert (found.rows, found.head, found.broken_at) == (1, before, None)


async def test_the_chain_goes_on_after_a_restart(ledger: Ledger, path: Path) -> None:
    await ledger.record(entry())
    ledger.close()
    again = Ledger(path, SystemClock())
    again.open()
    assert again.head == ledger.head
    assert await again.record(entry()) == 2
    assert again.verify().broken_at is None
    again.close()


def test_an_empty_ledger_verifies(ledger: Ledger) -> None:
    assert ledger.verify().head == START_HASH
    assert ledger.list_newest(10, None) == []


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit SET host = 'evil.test' WHERE seq = 2", 2),
        ("UPDATE audit SET took_ms = 9 WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 2", 3),
        ("UPDATE audit SET hash = replace(hash, 'a', 'b') || '' WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 1", 2),
    ],
)
async def test_a_changed_or_removed_row_breaks_the_chain_at_its_place(
    ledger: Ledger, path: Path, statement: str, broken_at: int
) -> None:
    for number in range(4):
        await ledger.record(entry(f"/aaaa{number}"))
    change(path, statement.replace("replace(hash, 'a', 'b') || ''", "'" + "c" * 64 + "'"))
    assert ledger.verify().broken_at == broken_at


async def test_no_query_string_and_no_control_character_is_kept(ledger: Ledger) -> None:
    await ledger.record(entry("/v1/x\x1b?key=secret", reason="r" * 1000))
    row = ledger.list_newest(1, None)[0]
    assert row.path == "/v1/x*"
    assert len(row.reason) == 500


async def test_rows_of_one_session_can_be_listed_alone(ledger: Ledger) -> None:
    await ledger.record(entry("/a"))
    await ledger.record(Entry(Event.CHANGED, Caller("", 0, ""), rule="vault.set"))
    assert [row.path for row in ledger.list_newest(0, "s1")] == ["/a"]
    assert len(ledger.list_newest(10**9, None)) == 2


async def test_usage_belongs_to_the_call_that_it_finishes(ledger: Ledger) -> None:
    number = await ledger.record(entry(event=Event.ALLOWED, charge="owner"))
    used = Usage("claude-x", 10, 20, 3, 4)
    spent = Spent(RESERVATION, used, 9, estimated=False)
    ledger.submit(entry(event=Event.FINISHED, charge="owner", call=number, status=200), spent).result(5)
    assert ledger.list_usage() == [Used(number, "owner", 9, estimated=False, attempt=2, usage=used)]


async def test_a_reservation_stands_with_its_call_and_goes_with_its_end(ledger: Ledger, path: Path) -> None:
    number = await ledger.record(entry(event=Event.ALLOWED), RESERVATION)
    assert reserved(path) == [(number, "main", "claude-x", 777)]
    spent = Spent(RESERVATION, Usage("claude-x", 10, 20), 9, estimated=False)
    ledger.submit(entry(event=Event.FINISHED, call=number), spent).result(5)
    assert reserved(path) == []
    assert [(used.call, used.cost_micros) for used in ledger.list_usage()] == [(number, 9)]
    assert ledger.read("sum_spending", since=0) == [("main", "", 9, 30)]


async def test_a_call_that_a_crash_cut_off_counts_as_what_was_reserved(ledger: Ledger, path: Path) -> None:
    number = await ledger.record(entry(event=Event.ALLOWED, charge="owner"), RESERVATION)
    ledger.close()
    again = Ledger(path, SystemClock())
    again.open()
    used = Used(number, "owner", 777, estimated=True, attempt=2, usage=Usage("claude-x", 100, 50))
    assert (again.list_usage(), reserved(path)) == ([used], [])
    assert again.read("sum_spending", since=0) == [("main", "owner", 777, 150)]
    again.close()


async def test_a_grant_is_kept_once_for_an_approval_and_used_once(ledger: Ledger) -> None:
    assert await ledger.add_grant("digest", "main", "A1", 100)
    assert not await ledger.add_grant("digest", "main", "A1", 900)
    assert not await ledger.take_grant("digest", "other", 50)
    assert not await ledger.take_grant("another", "main", 50)
    taken = await asyncio.gather(*(ledger.take_grant("digest", "main", 50) for _ in range(20)))
    assert taken.count(True) == 1
    assert not await ledger.add_grant("digest", "main", "A1", 900)
    assert not await ledger.take_grant("digest", "main", 50)


async def test_a_grant_is_worth_nothing_once_it_has_expired(ledger: Ledger) -> None:
    assert await ledger.add_grant("digest", "main", "A1", 100)
    assert not await ledger.take_grant("digest", "main", 100)
    assert await ledger.add_grant("digest", "main", "A2", 300)
    assert await ledger.take_grant("digest", "main", 100)


async def test_a_grant_that_was_used_stays_used_after_a_restart(ledger: Ledger, path: Path) -> None:
    assert await ledger.add_grant("digest", "main", "A1", 100)
    assert await ledger.take_grant("digest", "main", 50)
    ledger.close()
    again = Ledger(path, SystemClock())
    again.open()
    assert not await again.take_grant("digest", "main", 50)
    again.close()


async def test_a_ledger_of_the_first_version_goes_on_with_its_chain_and_its_usage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.executescript(V1.read_text(encoding="utf-8"))
    ledger = Ledger(path, SystemClock())
    ledger.open()
    assert (ledger.rows, ledger.head) == (6, V1_HEAD)
    assert [(used.charge, used.usage.input_tokens, used.estimated) for used in ledger.list_usage()] == [
        ("U1", 100, True),
        ("U1", 100, True),
    ]
    assert ledger.read("sum_spending", since=0) == [("", "U1", 0, 254)]
    assert await ledger.record(entry()) == 7
    assert ledger.verify().broken_at is None
    ledger.close()


def test_a_new_ledger_has_the_schema_of_an_upgraded_one(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.executescript(V1.read_text(encoding="utf-8"))
    upgraded = Ledger(tmp_path / "old.db", SystemClock())
    upgraded.open()
    upgraded.close()
    assert schema(path) == schema(tmp_path / "old.db")


async def test_rows_after_a_number_are_read_in_order(ledger: Ledger) -> None:
    for number in range(5):
        await ledger.record(entry(f"/{number}"))
    assert [row.path for row in ledger.rows_after(2, 2)] == ["/2", "/3"]
    assert ledger.rows_after(5, 2) == []


async def test_an_entry_that_cannot_be_written_is_an_error_and_the_next_one_is_tried_again(
    ledger: Ledger, path: Path
) -> None:
    await ledger.record(entry())
    change(path, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(LedgerError, match="cannot be written: disk full"):
        await ledger.record(entry())
    change(path, "DROP TRIGGER full")
    assert await ledger.record(entry()) == 2
    assert ledger.verify().broken_at is None


async def test_a_ledger_locked_by_another_is_an_error_not_a_hang(ledger: Ledger, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            await ledger.record(entry())
        other.execute("ROLLBACK")
    assert await ledger.record(entry()) == 1


async def test_an_entry_whose_asker_went_away_is_written_all_the_same(ledger: Ledger, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        held = ledger.submit(entry("/held"))
        gone = ledger.submit(entry("/gone"))
        assert gone.cancel() or not held.done()
        other.execute("ROLLBACK")
    held.result(5)
    await ledger.record(entry("/last"))
    assert [row.path for row in ledger.list_newest(5, None)] == ["/held", "/gone", "/last"]


async def test_a_ledger_that_is_gone_is_an_error_for_who_reads_it(ledger: Ledger, path: Path) -> None:
    await ledger.record(entry())
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(LedgerError, match="cannot be read"):
        ledger.verify()


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(OperatorError, match=r"ledger\.db cannot be used"):
        Ledger(path, SystemClock()).open()


def test_a_ledger_of_a_newer_version_is_refused(path: Path) -> None:
    change(path, "PRAGMA user_version = 3")
    with pytest.raises(OperatorError, match="newer NanoClaw"):
        Ledger(path, SystemClock()).open()


def test_closing_a_ledger_that_never_opened_is_harmless(path: Path) -> None:
    Ledger(path, SystemClock()).close()
