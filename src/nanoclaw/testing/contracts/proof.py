"""How a contract is checked: a sentence that must hold, now or before a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

DEADLINE_SECONDS = 15.0
LOOK_SECONDS = 0.002


def expect(holds: object, words: str, found: object = None) -> None:
    """Raise AssertionError with `words`, and what was found instead, unless it holds."""
    if not holds:
        raise AssertionError(words if found is None else f"{words}; found {found!r}")


async def eventually(holds: Callable[[], object], words: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until it holds; AssertionError with `words` when it does not within `seconds`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    for _ in count():
        if holds():
            return
        expect(loop.time() < until, f"{words} (waited {seconds:g} s)")
        await asyncio.sleep(LOOK_SECONDS)
