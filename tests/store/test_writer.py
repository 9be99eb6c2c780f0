"""The one writer: shared commits, errors that stay their own, readers that cannot write, a file that is full."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw.errors import StaleClaim, StoreError, StoreFull
from nanoclaw.store.db import Store
from nanoclaw.store.migrate import open_store

COUNT = "SELECT count(*) FROM cursors"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "nanoclaw.db", 0)
    yield store
    store.close()


def put(connection: sqlite3.Connection, name: str, cursor: str = "") -> str:
    connection.execute("INSERT INTO cursors (channel_type, cursor, updated_at) VALUES (?, ?, 0)", (name, cursor))
    return name


async def count(store: Store) -> int:
    return await store.read(lambda connection: connection.execute(COUNT).fetchone()[0])


async def test_a_write_returns_when_a_reader_can_see_it(store: Store) -> None:
    for number in range(20):
        assert await store.write(lambda connection, number=number: put(connection, f"c{number}")) == f"c{number}"
        assert await count(store) == number + 1


async def test_one_bad_transaction_in_a_shared_commit_does_not_undo_its_neighbours(store: Store) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        entered.set()
        go_on.wait(5)

    def bad(connection: sqlite3.Connection) -> None:
        put(connection, "bad")
        raise StaleClaim("another run owns it")

    def worse(connection: sqlite3.Connection) -> None:
        put(connection, "worse")
        put(connection, "c0")  # there already

    commits: list[sqlite3.Connection] = []
    first = asyncio.ensure_future(store.write(hold))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    works = [lambda c: put(c, "c0"), bad, lambda c: put(c, "c1"), worse, lambda c: put(c, "c2")]
    waiting = [asyncio.ensure_future(store.write(work)) for work in works]
    await asyncio.sleep(0)
    go_on.set()
    await first
    good0, stale, good1, broken, good2 = await asyncio.gather(*waiting, return_exceptions=True)
    assert (good0, good1, good2) == ("c0", "c1", "c2") and commits == []
    assert isinstance(stale, StaleClaim)
    assert isinstance(broken, StoreError) and "UNIQUE" in str(broken)
    rows = await store.read(lambda c: [row[0] for row in c.execute("SELECT channel_type FROM cursors ORDER BY 1")])
    assert rows == ["c0", "c1", "c2"]


async def test_an_error_of_the_work_itself_reaches_its_caller_unchanged(store: Store) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        put(connection, "half")
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await store.write(broken)
    assert await count(store) == 0


async def test_work_runs_in_the_order_in_which_it_was_handed_in(store: Store) -> None:
    order: list[int] = []
    await asyncio.gather(*(store.write(lambda _, number=number: order.append(number)) for number in range(300)))
    assert order == list(range(300))


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError, match="readonly"):
        await store.read(lambda connection: put(connection, "sneaky"))
    assert await count(store) == 0


async def test_a_reader_sees_no_half_of_a_transaction(store: Store) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        put(connection, "one")
        entered.set()
        go_on.wait(5)
        put(connection, "two")

    writing = asyncio.ensure_future(store.write(slow))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    assert await count(store) == 0
    go_on.set()
    await writing
    assert await count(store) == 2


async def test_a_full_file_says_so_keeps_what_was_there_and_goes_on_when_there_is_room(store: Store) -> None:
    await store.write(lambda connection: put(connection, "before"))
    pages = await store.read(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await store.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    with pytest.raises(StoreFull, match="Free some space"):
        await store.write(lambda connection: put(connection, "big", "x" * 1_000_000))
    assert await count(store) == 1
    await store.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    await store.write(lambda connection: put(connection, "big", "x" * 1_000_000))
    assert await count(store) == 2


async def test_a_caller_that_gives_up_waiting_does_not_stop_the_writer(store: Store) -> None:
    for number in range(200):
        waiting = asyncio.ensure_future(store.write(lambda connection, number=number: put(connection, f"c{number}")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(5):
        await store.write(lambda connection: put(connection, "after"))


async def test_closing_finishes_what_was_handed_in(tmp_path: Path) -> None:
    store = open_store(tmp_path / "nanoclaw.db", 0)
    waiting = [
        asyncio.ensure_future(store.write(lambda c, number=number: put(c, f"c{number}"))) for number in range(120)
    ]
    await asyncio.sleep(0)
    store.close()
    assert len(await asyncio.gather(*waiting)) == 120
    again = open_store(tmp_path / "nanoclaw.db", 0)
    assert await count(again) == 120
    again.close()
