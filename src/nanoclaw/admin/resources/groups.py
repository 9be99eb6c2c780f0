"""`ncl groups`: the assistants of this home."""

from __future__ import annotations

from nanoclaw.admin.request import Reader, Request
from nanoclaw.admin.table import Table
from nanoclaw.store.groups import Groups


class GroupsResource:
    """Agent groups: each an assistant with a folder, a memory and a sandbox of its own."""

    name = "groups"
    verbs = ("list",)

    def __init__(self, read: Reader, groups: Groups) -> None:
        self._read = read
        self._groups = groups

    async def answer(self, request: Request) -> Table:
        """`list`: every assistant that is not archived."""
        groups = await self._read(self._groups.list_all)
        rows = tuple((g.id, g.name, g.folder, g.provider, g.model, g.effort) for g in groups)
        return Table(("id", "name", "folder", "provider", "model", "effort"), rows)
