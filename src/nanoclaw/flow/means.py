"""What every stage of a run is given: the store, the clock, the log, and how to do work elsewhere.

In: built once by host.py.
Out: itself.
Writes: nothing.
Never: grows a method.
Fails: it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nanoclaw.clock import Clock
from nanoclaw.config import Config
from nanoclaw.flow.spawn import Blocking, Spawn
from nanoclaw.log import Log
from nanoclaw.store.db import Store
from nanoclaw.store.tables import Tables


@dataclass(frozen=True, slots=True)
class Means:
    """Passed to the stages that start, feed and end runs. `reached` marks the named crash points."""

    config: Config
    store: Store
    tables: Tables
    clock: Clock
    log: Log
    spawn: Spawn
    blocking: Blocking
    reached: Callable[[str], None]
