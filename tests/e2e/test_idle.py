"""A real box with the real agent in it that has nothing to do calls nobody: the gateway's ledger gets no row."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.live import Chat, LiveHost, wait_until

IDLE_SECONDS = 6.0


def ask(host: LiveHost, database: str, query: str) -> list[tuple[str | int, ...]]:
    with closing(sqlite3.connect(f"file:{host.home}/{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.ci  # waits until a box has been idle for 6 s
def test_an_idle_box_makes_no_call_until_it_is_put_away(host: LiveHost) -> None:
    host.settings = {"idle_seconds": IDLE_SECONDS}
    host.start()
    assert Chat(host).ask("say: hello", "one") == "hello"

    def events() -> dict[str, int]:
        return dict(ask(host, "gateway/ledger.db", "SELECT event, count(*) FROM audit GROUP BY event"))  # type: ignore[arg-type]

    wait_until(lambda: events().get("finished") == events().get("allowed"), "the turn's calls to have ended")
    before = events()
    assert before["allowed"] > 0
    assert ask(host, "data/nanoclaw.db", "SELECT run_state FROM sessions") == [("running",)]
    over = [("over",)]
    wait_until(lambda: ask(host, "data/nanoclaw.db", "SELECT run_state FROM sessions") == over, "the idle box's end")
    assert events() == before
    assert ask(host, "gateway/ledger.db", "SELECT count(*) FROM reservations") == [(0,)]
