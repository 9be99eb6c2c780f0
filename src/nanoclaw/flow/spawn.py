"""How a stage starts work that outlives its call: the supervisor's TaskGroup, handed in.

In: a coroutine and a name.
Out: the task runs in the host's one TaskGroup.
Writes: nothing.
Never: leaves a stray task.
Fails: an error that leaves the coroutine stops the host; stages catch what they can mend.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Spawn(Protocol):
    """Starts a coroutine in the host's TaskGroup."""

    def __call__(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Start `work`; returns at once."""
        ...


class Blocking(Protocol):
    """Runs blocking work off the loop: a thread pool, or inline in simulation."""

    async def __call__(self, work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
        """Return `work(*arguments)`; raises what it raised."""
        ...
