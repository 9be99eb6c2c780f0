"""The runtimes of this host by name, and which one a group's boxes get.

In: how each runtime is made (`factories`); a group's config. Out: a Runtime that was checked, once.
A name is `bubblewrap`, `docker`, `apple`, or an engine with one of its OCI runtimes: `docker:runsc`.
Never: a weaker wall than a group requires; another runtime in place of one that does not work here.
Fails: SandboxError with what mends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from nanoclaw.domain.group import GroupConfig, Kernel
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.base import Runtime

T = TypeVar("T")
Factory = Callable[[str], Runtime]  # given what stands behind the colon of the name, '' without


class Runtimes:
    """Makes runtimes when they are first wanted, from the loop's thread, and keeps them until `close`.

    `used`: a file of the host's own that names, one a line, what has run boxes, so that a later host finds them.
    """

    def __init__(self, factories: Mapping[str, Factory], override: str = "", used: Path | None = None) -> None:
        self._factories = factories
        self._override = override
        self._used = used
        self._made: dict[str, Runtime] = {}
        self._checked: set[str] = set()
        self._checking = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds there are."""
        return tuple(self._factories)

    def name_for(self, config: GroupConfig) -> str:
        """Return the name of the runtime a group's boxes get."""
        return self._override or config.runtime

    def get(self, name: str) -> Runtime:
        """Return a runtime, unchecked. Raises SandboxError for a name nobody knows."""
        if name not in self._made:
            kind, _, detail = name.partition(":")
            if kind not in self._factories:
                raise SandboxError(f"There is no runtime {name!r}. There is: {', '.join(self.names)}.")
            self._made[name] = self._factories[kind](detail)
        return self._made[name]

    async def choose(self, config: GroupConfig) -> Runtime:
        """Return the runtime of a group, known to work here. Raises SandboxError, also when it is too weak."""
        return await self._choose(self.name_for(config), config)

    async def try_out(self, config: GroupConfig) -> Runtime:
        """As `choose`, of the runtime the config names, whatever overrides it; what boxes are made of is there too."""
        runtime = await self._choose(config.runtime, config)
        await asyncio.to_thread(runtime.check_image, "")
        return runtime

    async def _choose(self, name: str, config: GroupConfig) -> Runtime:
        runtime = self.get(name)
        if config.require_kernel is Kernel.SEPARATE and runtime.kernel is not Kernel.SEPARATE:
            raise SandboxError(
                f"This assistant requires a kernel of its own, and {name} shares this machine's.",
                mend="Choose docker:runsc (gVisor): ncl groups config update GROUP --runtime docker:runsc",
            )
        async with self._checking:
            if name not in self._checked:
                await asyncio.to_thread(runtime.check)
                await asyncio.to_thread(self._remember, name)
                self._checked.add(name)
        return runtime

    def __iter__(self) -> Iterator[Runtime]:
        """Every runtime that was made."""
        return iter(list(self._made.values()))

    async def end_orphans(self, install: str) -> int:
        """End boxes of this install that outlived their host, in every runtime that ever had one; return how many."""
        for name in await asyncio.to_thread(self._remembered):
            with suppress(SandboxError):  # a name that nothing is made for any more
                self.get(name)
        return sum(await _each(runtime.end_orphans(install) for runtime in self))

    async def close(self) -> None:
        """Kill what still runs and give back what the runtimes hold."""
        await _each(runtime.close() for runtime in self)

    def _remembered(self) -> list[str]:
        if self._used is None or not self._used.exists():
            return []
        return self._used.read_text(encoding="utf-8").split()

    def _remember(self, name: str) -> None:
        if self._used is not None and name not in self._remembered():
            self._used.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._used.open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")


async def _each(asked: Iterable[Awaitable[T]]) -> list[T]:
    """Wait for all, and only then raise the first error: a runtime in trouble keeps no other from its turn."""
    results: list[T] = []
    failed: list[BaseException] = []
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, BaseException):
            failed.append(answer)
        else:
            results.append(answer)
    if failed:
        raise failed[0]
    return results
