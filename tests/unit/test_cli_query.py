"""`nanoclaw query`: a person's own SELECT over the store's file, which can change nothing and ends in time."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from nanoclaw.cli.query import command, name_columns
from nanoclaw.clock import SystemClock
from nanoclaw.config import load_config
from nanoclaw.errors import Refused
from nanoclaw.store.migrate import open_store
from nanoclaw.store.query import MOST_ROWS, MOST_SECONDS, query_file
from nanoclaw.testing.fakes import ManualClock


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "nanoclaw.db"
    open_store(path, 0).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO users (id, name, created_at) VALUES ('1', 'Zoë 🦊', 1700000000000)")
    connection.close()
    return path


def test_a_select_answers_with_names_and_rows(database: Path) -> None:
    found = query_file(database, "SELECT name, 1.5 AS half, NULL AS empty, x'00ff' AS raw FROM users", SystemClock())
    assert found.columns == ("name", "half", "empty", "raw")
    assert found.rows == (("Zoë 🦊", 1.5, None, b"\x00\xff"),) and not found.cut


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM users",
        "UPDATE users SET name = 'x'",
        "INSERT INTO users (id, name, created_at) VALUES ('2', 'b', 1)",
        "DROP TABLE users",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "ATTACH '/tmp/other.db' AS other",
        "ATTACH 'file:/etc/passwd?mode=rw' AS other",
        "PRAGMA writable_schema = ON",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "VACUUM INTO '/tmp/copy.db'",
        "BEGIN IMMEDIATE",
        "SELECT load_extension('/tmp/evil.so')",
        "WITH gone AS (SELECT 1) DELETE FROM users",
        "SELECT 1; DELETE FROM users",
        "",
        "-- nothing",
        "SELEKT",
        "SELECT * FROM nowhere",
        "SELECT '\0'",
        "SELECT zeroblob(999999999)",
    ],
)
def test_whatever_is_no_select_is_refused_in_words_and_changes_nothing(database: Path, statement: str) -> None:
    before = database.read_bytes()
    with pytest.raises(Refused) as refused:
        query_file(database, statement, SystemClock())
    assert refused.value.reason.endswith(".") and "not authorized" not in refused.value.reason
    assert database.read_bytes() == before


def test_a_query_without_end_is_stopped(database: Path) -> None:
    class Hurrying(ManualClock):
        def monotonic(self) -> float:
            self.advance(MOST_SECONDS / 5)
            return super().monotonic()

    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(Refused, match="longer than 10 seconds"):
        query_file(database, endless, Hurrying())


def test_a_long_answer_is_cut_and_says_so(database: Path) -> None:
    many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n"
    found = query_file(database, many, SystemClock())
    assert (len(found.rows), found.cut) == (MOST_ROWS, True)


def test_columns_of_one_name_hide_no_value() -> None:
    assert name_columns(("id", "id", "id_2", "id")) == ("id", "id_2", "id_2_2", "id_3")


def test_the_command_prints_a_table_or_one_json_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "home"))
    paths = load_config().paths
    open_store(paths.database, 0).close()
    printed = CliRunner().invoke(command, ["SELECT 'a' AS name, 2 AS n, 'b' AS name", "--json"], standalone_mode=False)
    assert json.loads(printed.stdout) == [{"name": "a", "n": 2, "name_2": "b"}]
    printed = CliRunner().invoke(command, ["SELECT 'a' AS name, 1.5 AS n"], standalone_mode=False)
    assert printed.stdout.splitlines() == ["name  n", "a     1.5"]
