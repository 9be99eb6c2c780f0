"""The schema: what the file says is what the migrations make, and a database that cannot be trusted is refused."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import aiosql
import pytest

from nanoclaw.domain.approval import ApprovalKind, ApprovalState
from nanoclaw.domain.people import Role
from nanoclaw.domain.session import RunState
from nanoclaw.domain.turn import DeliveryState, InboxState, Outcome
from nanoclaw.errors import OperatorError
from nanoclaw.store import migrate as migrations
from nanoclaw.store.db import open_connection
from nanoclaw.store.migrate import Migration, load_migrations, migrate, open_store, read_version
from tests.store.stage import open_stage

SCHEMA = Path(migrations.__file__).with_name("schema.sql")


def shape(connection: sqlite3.Connection) -> dict[str, str]:
    """Every table and index, with comments and white space taken out of its text."""
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {name: re.sub(r" ?([,)])", r"\1", " ".join(re.sub(r"--[^\n]*", "", sql).split())) for name, sql in rows}


def test_the_schema_file_equals_all_migrations_applied(tmp_path: Path) -> None:
    with closing(open_connection(tmp_path / "a.db")) as migrated, closing(sqlite3.connect(":memory:")) as written:
        migrate(migrated, load_migrations(), 0, tmp_path / "a.db")
        written.executescript(SCHEMA.read_text(encoding="utf-8"))
        assert dict(shape(migrated).items()) == shape(written)
        assert len(shape(written)) > 20


def test_every_table_is_strict(tmp_path: Path) -> None:
    connection = open_stage().connection
    tables = connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    assert [name for name, strict in tables if not strict and not name.startswith("sqlite_")] == []


@pytest.mark.parametrize(
    ("table", "column", "states"),
    [
        ("inbox", "state", InboxState),
        ("inbox", "outcome", Outcome),
        ("outbox", "state", DeliveryState),
        ("sessions", "run_state", RunState),
        ("approvals", "state", ApprovalState),
        ("approvals", "kind", ApprovalKind),
        ("user_roles", "role", Role),
    ],
)
def test_a_state_nobody_declared_is_refused(table: str, column: str, states: type) -> None:
    stage = open_stage()
    stage.says()
    stage.start()
    text = shape(stage.connection)[table]
    allowed = re.search(rf"CHECK \({column} IN \(([^)]*)\)\)", text)
    assert allowed is not None
    assert {value.strip().strip("'") for value in allowed[1].split(",")} == {str(state) for state in states}  # type: ignore[attr-defined]


def test_a_row_in_a_state_that_contradicts_itself_is_refused() -> None:
    stage = open_stage()
    stage.says()
    stage.start()
    for change in (
        "UPDATE inbox SET state = 'lost'",
        "UPDATE inbox SET state = 'done'",  # without an outcome
        "UPDATE inbox SET outcome = 'replied'",  # without being over
        "UPDATE inbox SET run = NULL",  # claimed by nobody
        "UPDATE inbox SET seq = 3",  # the agent's numbers are odd
        "UPDATE sessions SET run_state = 'paused'",
        "UPDATE inbox SET session_id = 'nobody'",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            stage.connection.execute(change)


def test_a_store_is_made_once_and_opened_again_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "nanoclaw.db"
    open_store(path, 5).close()
    before = path.read_bytes()
    open_store(path, 6).close()
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_database_of_a_newer_nanoclaw_is_refused_and_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "nanoclaw.db"
    open_store(path, 0).close()
    with closing(open_connection(path)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99, 'from_the_future', 0)")
    before = path.read_bytes()
    with pytest.raises(OperatorError, match=r"newer NanoClaw \(schema 99.*git pull"):
        open_store(path, 0)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"\x00" * 8192, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_in_plain_words_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "nanoclaw.db"
    path.write_bytes(content)
    with pytest.raises(OperatorError, match=r"damaged.*nothing was changed.*mv ") as caught:
        open_store(path, 0)
    assert str(path) in str(caught.value) and path.read_bytes() == content


def test_a_page_of_noise_in_the_middle_is_found_before_anything_is_done(tmp_path: Path) -> None:
    path = tmp_path / "nanoclaw.db"
    open_store(path, 0).close()
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 12 * 4096] = b"\xaa" * (9 * 4096)
    path.write_bytes(content)
    with pytest.raises(OperatorError, match="damaged"):
        open_store(path, 0)
    assert path.read_bytes() == bytes(content)


def test_a_database_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nanoclaw.db"
    open_store(path, 0).close()
    path.write_bytes(path.read_bytes()[: 5 * 4096])
    with pytest.raises(OperatorError, match="damaged"):
        open_store(path, 0)


def test_a_place_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "nanoclaw.db").mkdir()
    with pytest.raises(OperatorError, match=r"cannot be opened.*yours and writable"):
        open_store(tmp_path / "nanoclaw.db", 0)


def test_a_migration_that_breaks_in_the_middle_leaves_nothing_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "nanoclaw.db"
    steps = load_migrations()
    with closing(open_connection(path)) as connection:
        migrate(connection, steps, 0, path)
        before = shape(connection)
    broken = Migration(
        len(steps) + 1, "broken", "CREATE TABLE half (a INTEGER) STRICT; CREATE TABLE half (a INTEGER) STRICT;"
    )
    with closing(open_connection(path)) as connection, pytest.raises(sqlite3.OperationalError):
        migrate(connection, [*steps, broken], 0, path)
    with closing(open_connection(path)) as connection:
        assert shape(connection) == before and read_version(connection) == len(steps)


def test_migrations_go_forward_one_by_one_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "nanoclaw.db"
    first = load_migrations()[:1]
    steps = [*first, Migration(2, "second", "CREATE TABLE second (a INTEGER) STRICT;")]
    with closing(open_connection(path)) as connection:
        assert migrate(connection, steps[:1], 0, path) == 1
        assert migrate(connection, steps, 0, path) == 1
        assert migrate(connection, steps, 0, path) == 0
        assert read_version(connection) == 2


def test_a_gap_in_the_numbers_of_the_migrations_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").touch()
    (tmp_path / "0003_third.sql").touch()
    with pytest.raises(ValueError, match="out of order"):
        load_migrations(tmp_path)


def test_the_pragmas_are_those_the_design_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "nanoclaw.db"
    open_store(path, 0).close()
    with closing(open_connection(path)) as connection:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert connection.execute(f"PRAGMA {pragma}").fetchone()[0] == value


# Queries of every message or every second: none of them may read what is over and done.
HOT = {
    "inbox.sql": ("claim_rows", "list_claimed", "count_claimed", "has_waiting_trigger", "find_by_seq", "finish_row"),
    "outbox.sql": ("list_lanes", "take_next", "set_unknown", "resend_unknown"),
    "sessions.sql": ("list_due", "list_live", "find_session"),
    "inbound.sql": ("find_accepted",),
}
OVER_AND_DONE = re.compile(
    r"SCAN (inbox|i|held|outbox|inbound|s)$|SCAN \w+ USING INDEX sqlite_autoindex|inbox_2 \(session_id=\?(?! AND seq=)"
)


@pytest.mark.parametrize(("file", "query"), [(file, query) for file, queries in HOT.items() for query in queries])
def test_no_query_on_the_path_reads_what_is_over_and_done(file: str, query: str) -> None:
    connection = open_stage().connection
    queries = aiosql.from_path(SCHEMA.with_name(file), "sqlite3", mandatory_parameters=False)
    sql = getattr(queries, query).sql
    parameters = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    assert [step for step in plan if OVER_AND_DONE.search(step)] == [], plan
