"""What the host knows of the gateway's rules: which names a box's /etc/hosts gets, and which groups are forgotten.

In: `RulesChanged` and `GroupForgotten`. Out: names by folder. Never: asks twice what is on its way; a question that a
gateway took with it when it died is put to the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from nanoclaw.errors import Refused
from nanoclaw.gateway import control

FORGET_SECONDS = 10.0


class RulesTold:
    """The host's view of the rules; `hosts` are the names by folder, "" for groups that have none of their own."""

    def __init__(self, send: Callable[[control.HostMessage], None]) -> None:
        self.generation = 0
        self._send = send
        self.hosts: Mapping[str, tuple[str, ...]] = {}
        self._asked: dict[str, asyncio.Future[str]] = {}

    def hosts_for(self, folder: str) -> tuple[str, ...]:
        """Return the names that an agent group may reach by TLS on 443; none before the gateway has told them."""
        return self.hosts.get(folder, self.hosts.get("", ()))

    def learn(self, told: control.RulesChanged | control.GroupForgotten) -> None:
        """Take what the gateway says."""
        match told:
            case control.RulesChanged(generation=generation, hosts=hosts, part=part):
                self.generation = generation
                names = {name: tuple(found) for name, found in hosts.items()}
                self.hosts = {**(self.hosts if part else {}), **names}
            case control.GroupForgotten(folder=folder, error=error):
                asked = self._asked.pop(folder, None)
                if asked is not None and not asked.done():
                    asked.set_result(error)

    def ask_again(self) -> None:
        """Put to a gateway that has just become ready what an earlier one did not answer."""
        for folder in self._asked:
            self._send(control.GroupGone(folder))

    async def forget_group(self, folder: str) -> None:
        """Return when no rule names this folder any more. Raises Refused: the gateway cannot, or is not there."""
        asked = self._asked.setdefault(folder, asyncio.get_running_loop().create_future())
        self._send(control.GroupGone(folder))
        try:
            async with asyncio.timeout(FORGET_SECONDS):
                error = await asyncio.shield(asked)
        except TimeoutError:
            error = "the gateway does not answer"
        if error:
            raise Refused(f"The rules of {folder} for the internet could not be dropped: {error}. Try again.")
