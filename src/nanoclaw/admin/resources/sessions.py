"""`ncl sessions`: an assistant in a chat, and whether a sandbox runs for it."""

from __future__ import annotations

from sqlite3 import Connection

from nanoclaw.admin.request import Reader, Request
from nanoclaw.admin.table import Cell, Table
from nanoclaw.store.sessions import Session
from nanoclaw.store.tables import Tables


class SessionsResource:
    """Sessions: agent group x chat x thread."""

    name = "sessions"
    verbs = ("list",)

    def __init__(self, read: Reader, tables: Tables) -> None:
        self._read = read
        self._tables = tables

    async def answer(self, request: Request) -> Table:
        """`list`: every session that is not closed, the latest first."""
        rows = await self._read(self._load)
        return Table(("id", "agent", "channel", "chat", "state", "run", "last_active_at"), rows)

    def _load(self, connection: Connection) -> tuple[tuple[Cell, ...], ...]:
        return tuple(self._row(connection, session) for session in self._tables.sessions.list_all(connection))

    def _row(self, connection: Connection, session: Session) -> tuple[Cell, ...]:
        agent = self._tables.groups.get(connection, session.agent_group).name
        chat = None if session.chat is None else self._tables.chats.get(connection, session.chat)
        place = (None, None) if chat is None else (chat.channel_type, chat.platform_id)
        return (session.id, agent, *place, session.run_state.value, session.fence, session.last_active_at)
