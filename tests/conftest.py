"""What all tests share: the three tiers, and a detector of blocked event loops.

Tiers: the default one runs everything without a mark; `--ci` adds tests marked `ci`, `--long` those marked `long`
(and `ci`). The event loop is never blocked over 50 ms; `tests/loop_watch.py` says how that is measured.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import engine
from tests.loop_watch import LoopWatch

__all__ = ["engine"]  # here, and not in each module that asks: each would get an engine of its own

# Thousands of small commits to a disk that others use made the default tier wait two minutes in all (seen).
SHARED_MEMORY = "/dev/shm"
ROOM_BYTES = 6 << 30


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tiers")
    group.addoption("--ci", action="store_true", help="run the tests marked `ci` too: servers, docker, many kills")
    group.addoption("--long", action="store_true", help="run the tests marked `long` (and `ci`) too")


def pytest_configure(config: pytest.Config) -> None:
    if os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", SHARED_MEMORY)  # pytest's own name for where tmp_path lies
    config.addinivalue_line("markers", "blocks_loop(reason): this test may block its event loop, and says why")


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder outside of /dev, for what may be given to a sandbox: nothing below /dev is."""
    folder = Path(tempfile.mkdtemp(prefix="nanoclaw-disk-", dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    long = config.getoption("--long")
    left_out = {mark for mark, on in (("ci", long or config.getoption("--ci")), ("long", long)) if not on}
    kept = [item for item in items if not left_out & {mark.name for mark in item.iter_markers()}]
    dropped = [item for item in items if item not in set(kept)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


WATCH = LoopWatch()


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], object]]:
    return {"watched": WATCH.new_event_loop}


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """Leave what the tests before have made (syntax trees of the whole product) out of every collection from here on.

    A full one took longer than a loop may be blocked. host.py does the same when it has started.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def loop_never_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose event loop was blocked; a test that must block it is marked `blocks_loop(reason)`."""
    WATCH.blocks.clear()
    yield
    blocks = list(WATCH.blocks)
    if blocks and request.node.get_closest_marker("blocks_loop") is None:
        pytest.fail("\n".join(str(block) for block in blocks), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def loop_watch() -> Iterator[LoopWatch]:
    """The detector itself, for the test that shows that it can fail."""
    with WATCH.sampling():
        yield WATCH
