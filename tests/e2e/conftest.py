"""Hosts for end-to-end tests: one for the tests that only talk, one of its own for those that break things."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveHost, live_home


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LiveHost]:
    """A home of its own; the test starts the host."""
    yield from live_home(tmp_path)


@pytest.fixture(scope="module")
def shared_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHost]:
    """A running host for a module's tests that leave it as it was."""
    for host in live_home(tmp_path_factory.mktemp("shared")):
        yield host.start()
