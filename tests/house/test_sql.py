"""SQL: one table one writing module, nothing built from strings, states the same in Python, SQL and prose."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum

import pytest

from nanoclaw.domain.approval import ApprovalKind, ApprovalState
from nanoclaw.domain.group import BuildState
from nanoclaw.domain.people import Role
from nanoclaw.domain.schedule import TaskRunState, TaskState
from nanoclaw.domain.session import RunState
from nanoclaw.domain.turn import DeliveryState, InboxState, Outcome
from tests.house.source import PACKAGE, ROOT, Module, dotted, hold, planted, product, sql_files

WRITES = re.compile(
    r"\b(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|REPLACE\s+INTO|UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM)\s+(\w+)", re.IGNORECASE
)
COMMENT = re.compile(r"--[^\n]*")
TABLE = re.compile(r"^CREATE TABLE (\w+) \((.*?)^\)", re.MULTILINE | re.DOTALL)
STATES = re.compile(r"CHECK \((?:\w+ IS NULL OR )?(\w+) IN \(('[^)]*)\)\)")
EXECUTES = ("execute", "executemany")
SCRIPTS = {
    "store/migrate.py",
    "sandbox/mailbox.py",
    "sandbox/inbound.py",
    "gateway/ledger_file.py",
}  # run whole .sql files, between BEGIN and COMMIT of their own

# (table, column) -> the enumeration it mirrors. Every state and outcome column of the store stands here.
MIRRORED: dict[tuple[str, str], type[StrEnum]] = {
    ("inbox", "state"): InboxState,
    ("inbox", "outcome"): Outcome,
    ("outbox", "state"): DeliveryState,
    ("sessions", "run_state"): RunState,
    ("approvals", "state"): ApprovalState,
    ("approvals", "kind"): ApprovalKind,
    ("tasks", "state"): TaskState,
    ("task_runs", "state"): TaskRunState,
    ("user_roles", "role"): Role,
    ("package_builds", "state"): BuildState,
}
# Heading of ARCHITECTURE.md, "States" -> what its table's first column must list.
DRAWN: dict[str, type[StrEnum]] = {
    "inbox": InboxState,
    "delivery": DeliveryState,
    "run": RunState,
    "approval": ApprovalState,
    "outcome": Outcome,
    "package build": BuildState,
}


def writers(files: dict[str, str]) -> dict[str, set[str]]:
    """Return table -> the .sql files that write it; the schema and its migrations are not writers."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, text in files.items():
        if path.startswith("store/") and "migrations/" not in path and not path.endswith("schema.sql"):
            for table in WRITES.findall(COMMENT.sub("", text)):
                if table.upper() != "SET":
                    found[table].add(path)
    return found


def checks(schema: str) -> dict[tuple[str, str], set[str]]:
    """Return (table, column) -> the words its CHECK allows."""
    return {
        (table, column): set(re.findall(r"'([^']*)'", words))
        for table, body in TABLE.findall(schema)
        for column, words in STATES.findall(body)
    }


def drawn_states(page: str) -> dict[str, set[str]]:
    """Return heading (lower case) -> the code words of its table's first column."""
    sections = re.split(r"^#+ +(.+?) *$", page, flags=re.MULTILINE)
    return {
        heading.strip("`").lower(): set(re.findall(r"^\| *`([\w-]+)` *\|", body, re.MULTILINE))
        for heading, body in zip(sections[1::2], sections[2::2], strict=True)
    }


def dynamic_sql_offences(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        if node.func.attr == "executescript" and module.path not in SCRIPTS:
            yield module.at(node, "executescript: only migrations and new mailboxes run whole scripts")
        if node.func.attr in EXECUTES and is_built(node.args[0]):
            yield module.at(node, f"{dotted(node.func)} of a string that is built: use parameters")


def is_built(node: ast.expr) -> bool:
    """Whether a string is put together from parts that are not all literals."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return True
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join")


def test_a_table_with_two_writing_files_is_seen() -> None:
    two = {
        "store/a.sql": "-- name: x!\nUPDATE inbox SET a = 1;",
        "store/b.sql": "INSERT OR IGNORE INTO inbox (a) VALUES (1);",
    }
    assert writers(two) == {"inbox": {"store/a.sql", "store/b.sql"}}
    assert writers({"store/a.sql": "-- never DELETE FROM inbox\nSELECT 1 FROM outbox;"}) == {}


def test_every_table_of_the_store_has_one_writing_file() -> None:
    twice = (f"{table}: {', '.join(sorted(by))}" for table, by in sorted(writers(sql_files()).items()) if len(by) > 1)
    hold(twice, "one table, one writing module: move the statement to the table's home and call that")


def test_sql_built_from_strings_is_seen() -> None:
    assert list(dynamic_sql_offences(planted('c.execute(f"SELECT {x}")')))
    assert list(dynamic_sql_offences(planted('c.execute("SELECT " + x)')))
    assert list(dynamic_sql_offences(planted('c.execute("SELECT {}".format(x))')))
    assert list(dynamic_sql_offences(planted("c.executescript(text)")))
    assert not list(dynamic_sql_offences(planted("c.executescript(text)", "store/migrate.py")))
    assert not list(dynamic_sql_offences(planted('c.execute("SELECT ?", (x,))')))
    assert not list(dynamic_sql_offences(planted("c.execute(PUT_RUN, row)")))


def test_no_sql_is_built_from_strings() -> None:
    hold((o for m in product() for o in dynamic_sql_offences(m)), "parameters only")


def test_a_state_missing_in_sql_or_in_prose_is_seen() -> None:
    schema = "CREATE TABLE inbox (\n  state TEXT CHECK (state IN ('queued', 'done')),\n  n INTEGER\n) STRICT;\n"
    assert checks(schema) == {("inbox", "state"): {"queued", "done"}}
    page = "## States\n\n### Inbox\n\n| state | means |\n|---|---|\n| `queued` | waits |\n| `done` | over |\n"
    assert drawn_states(page)["inbox"] == {"queued", "done"} != set(InboxState)


@pytest.mark.parametrize("place", sorted(MIRRORED), ids=".".join)
def test_the_states_of_a_column_equal_the_enumeration_in_domain(place: tuple[str, str]) -> None:
    assert checks((PACKAGE / "store/schema.sql").read_text(encoding="utf-8")).get(place) == set(MIRRORED[place])


def test_every_state_column_of_the_schema_mirrors_an_enumeration() -> None:
    columns = checks((PACKAGE / "store/schema.sql").read_text(encoding="utf-8"))
    unknown = (f"{table}.{column}" for table, column in columns if column.endswith(("state", "outcome")))
    hold(
        (place for place in unknown if tuple(place.split(".")) not in MIRRORED), "declare it in domain/ and in MIRRORED"
    )


@pytest.mark.parametrize("heading", sorted(DRAWN))
def test_the_states_drawn_in_the_architecture_page_equal_the_enumeration(heading: str) -> None:
    drawn = drawn_states((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert drawn.get(heading) == set(DRAWN[heading])
