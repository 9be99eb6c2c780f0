"""A central store for one test: the real schema and tables over a file or over memory, with ids that count up."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.domain.session import SessionId
from nanoclaw.domain.wiring import SessionMode
from nanoclaw.store.chats import Chat
from nanoclaw.store.db import open_connection
from nanoclaw.store.defaults import FOLDER, Operator, make_defaults
from nanoclaw.store.inbound import NewInbound
from nanoclaw.store.inbox import NewRow
from nanoclaw.store.migrate import load_migrations, migrate
from nanoclaw.store.tables import Tables, build_tables


@dataclass
class Stage:
    connection: sqlite3.Connection
    tables: Tables
    chat: Chat
    agent_group: str
    session: SessionId
    now: int = 1000
    said: int = 0

    def says(self, text: str = "hi", *, trigger: bool = True, sessions: tuple[str, ...] = ()) -> str:
        """Accept a message and queue it; returns its inbound id."""
        self.said += 1
        incoming = NewInbound(
            channel_type=self.chat.channel_type,
            platform_id=f"p{self.said}",
            chat=self.chat.id,
            thread=None,
            sender="alice",
            sender_name="Alice",
            user=None,
            text=text,
            reply_to=None,
            is_group=False,
            is_mention=False,
            sent_at=self.now,
        )
        message = self.tables.inbound.add(self.connection, incoming, self.now)
        for session in sessions or (self.session,):
            seq = self.tables.sessions.take_seq(self.connection, session, self.now)
            self.tables.inbox.add(self.connection, NewRow(session, seq, "chat", trigger, message), self.now)
        return message

    def new_session(self, folder: str) -> SessionId:
        group = self.tables.groups.add(self.connection, folder.title(), folder, self.now)
        return self.tables.sessions.resolve(self.connection, group, SessionMode.SHARED, (self.chat.id, None), self.now)

    def start(self) -> int:
        """Raise the fence and claim what waits; returns the fence."""
        fence = self.tables.sessions.raise_fence(self.connection, self.session, self.now)
        self.tables.inbox.claim(self.connection, self.session, fence, self.now)
        return fence


def open_stage(path: Path | str = ":memory:") -> Stage:
    if isinstance(path, Path):
        connection = open_connection(path)
    else:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection, load_migrations(), 0, Path("x.db"))
    ids = itertools.count(1)
    tables = build_tables(lambda: f"{next(ids):026d}")
    make_defaults(connection, tables, Operator("uid:0", "Operator"), 0)
    group = tables.groups.find_by_folder(connection, FOLDER)
    chat = tables.chats.find(connection, "terminal", "local")
    assert group is not None and chat is not None
    session = tables.sessions.resolve(connection, group, SessionMode.SHARED, (chat.id, None), 0)
    return Stage(connection, tables, chat, group, session)
