"""Whose turn it is: of one box's connections one goes on in each turn of the loop, however many are busy.

In: connections that have much to be looked at. Out: their turn, in the order in which they came. Never: lets a box of
64 busy connections have more of the gateway than one with a single one.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """The turns of one box."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for one's turn; others of the loop run in between."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._pass_on)
            await asyncio.sleep(0)
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def _pass_on(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                asyncio.get_running_loop().call_soon(self._pass_on)
                return
        self._taken = False
