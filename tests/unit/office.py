"""A home with people, chats and assistants, and `ncl` at its desk: what is typed is carried out on a real store."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Coroutine
from io import StringIO
from pathlib import Path
from typing import Any

from nanoclaw.admin.call import OPERATOR, Asker, check_request
from nanoclaw.admin.desk import Desk, Hands
from nanoclaw.admin.resources.approvals import by_operator
from nanoclaw.admin.resources.host import HostFacts
from nanoclaw.admin.resources.parts import Machine
from nanoclaw.admin.table import Table
from nanoclaw.admin.words import parse_words
from nanoclaw.boxes import make_folders, make_runtimes
from nanoclaw.config import Config, Paths, Settings
from nanoclaw.domain.people import UserId
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.asking import build_asked
from nanoclaw.flow.means import Means
from nanoclaw.flow.start import Preview
from nanoclaw.ids import UlidSource
from nanoclaw.log import open_log
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.store.db import open_connection
from nanoclaw.store.defaults import Operator, make_defaults
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.migrate import open_store
from nanoclaw.store.tables import build_tables
from nanoclaw.supervise import ThreadBlocking
from nanoclaw.testing.fakes import ManualClock

OPERATOR_HANDLE = "uid:0"


class Office:
    """One home; `after` is what the last change left to be done."""

    def __init__(self, home: Path) -> None:
        for name in ("data", "groups", "compose", "sessions"):
            (home / name).mkdir(exist_ok=True)
        self.paths = Paths(home, home)
        self.clock = ManualClock()
        self.tables = build_tables(UlidSource(self.clock))
        self._store = open_store(self.paths.database, 0)
        self._blocking = ThreadBlocking()
        self.connection = open_connection(self.paths.database)
        make_defaults(self.connection, self.tables, Operator(OPERATOR_HANDLE, "Ada"), self.clock.now_ms())
        python = Interpreter(Path("/usr/bin/python3"))
        config = Config(self.paths, Settings(), "0badcafe", "UTC", "root", home.stat().st_uid)
        log = open_log(stream=StringIO())
        means = Means(config, self._store, self.tables, self.clock, log, _spawn, self._blocking, lambda point: None)
        self.stopped: list[str] = []
        asked = build_asked(means)
        self.groups, self.approvals = asked.groups, asked.approvals
        self.hands = Hands(
            groups=self.groups,
            decide=by_operator(asked.approvals),
            pairing=asked.pairing.create,
            operator=("terminal", OPERATOR_HANDLE),
            preview=no_preview,
            machine=Machine(make_folders(config), config.box_uid, make_runtimes(config, python)),
            facts=lambda: HostFacts(pid=42, started_at=1_000, model="rehearsal", boxes=1),
            request_stop=lambda: self.stopped.append("stop"),
        )
        self.desk = Desk(self.tables, str(home), self.hands)
        self.after = Aftermath()

    def close(self) -> None:
        self.connection.close()
        self._store.close()
        self._blocking.close()

    def ncl(self, *words: str, asker: Asker = OPERATOR) -> Table:
        """Carry out what is typed, in a transaction; one string is split as a shell would."""
        typed = parse_words(shlex.split(words[0]) if len(words) == 1 else words)
        assert not isinstance(typed, str), typed
        call = check_request(typed.request, asker, self.clock.now_ms())
        self.after = Aftermath()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            table = self.desk.run(self.connection, call, self.after)
        except Exception:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return table

    def row(self, *words: str, asker: Asker = OPERATOR) -> dict[str, Any]:
        """The only row of an answer."""
        (row,) = self.table(*words, asker=asker)
        return row

    def table(self, *words: str, asker: Asker = OPERATOR) -> list[dict[str, Any]]:
        """The rows of an answer by column."""
        answer = self.ncl(*words, asker=asker)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(query, values)]

    def events(self) -> list[tuple[str, str]]:
        """(event, actor) of every audit entry."""
        return [(event, actor) for event, actor in self.rows("SELECT event, actor FROM audit ORDER BY n")]

    def user(self, name: str = "Bob", handle: str = "bob") -> UserId:
        return self.tables.people.add(self.connection, name, "telegram", handle, self.clock.now_ms())

    def session(self, group: str, thread: str = "t") -> str:
        session = f"0SESSION{thread.upper():0>18}"[:26]
        self.connection.execute(
            "INSERT INTO sessions (id, agent_group_id, mode, thread_id, fence, run_state, last_active_at, created_at)"
            " VALUES (?, ?, 'per-thread', ?, 1, 'running', 1, 1)",
            (session, group, thread),
        )
        return session


def no_preview(connection: sqlite3.Connection, group: AgentGroup) -> Preview:
    """There are no boxes in an office."""
    raise Refused(f"{group.name} has no sandbox here.")


def _spawn(work: Coroutine[Any, Any, None], name: str) -> None:
    work.close()
