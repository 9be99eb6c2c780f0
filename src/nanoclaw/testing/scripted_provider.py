"""An agent that can be given one message at a time, and notes when it was given two."""

from __future__ import annotations

from collections.abc import AsyncIterator

from nanoclaw.runner.providers.base import Aborted, Event, Failure, Result
from nanoclaw.runner.providers.echo import EchoProvider


class OneAtATimeProvider:
    """The echo agent (runner/providers/echo.py) without `covers`: it may be pushed to when no turn runs."""

    covers = False
    commands = frozenset({"/echo"})

    def __init__(self, continuation: str | None = None) -> None:
        self._echo = EchoProvider(continuation)
        self._open: str | None = None
        self.pushes: list[str] = []
        self.breaches: list[str] = []  # pushes that came while a turn ran

    async def start(self) -> None:
        """Make it ready."""
        await self._echo.start()

    def push(self, prompt: str, uuid: str) -> None:
        """Take one message; noted as a breach while a turn runs."""
        self.pushes.append(uuid)
        if self._open is not None:
            self.breaches.append(uuid)
        self._open = uuid
        self._echo.push(prompt, uuid)

    async def events(self) -> AsyncIterator[Event]:
        """Everything it does."""
        async for event in self._echo.events():
            if isinstance(event, Result | Aborted | Failure):
                self._open = None
            yield event

    def interrupt(self) -> None:
        """End the turn."""
        self._echo.interrupt()

    async def close(self, grace_seconds: float) -> None:
        """End the agent."""
        await self._echo.close(grace_seconds)
