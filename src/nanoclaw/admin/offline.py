"""The same answers while no host runs: the store's file is read directly, read-only."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nanoclaw.admin.request import Request, Resource
from nanoclaw.admin.resources.audit import AuditResource
from nanoclaw.admin.resources.groups import GroupsResource
from nanoclaw.admin.resources.host import HostResource
from nanoclaw.admin.resources.messages import MessagesResource
from nanoclaw.admin.resources.sessions import SessionsResource
from nanoclaw.admin.table import Table
from nanoclaw.config import Paths
from nanoclaw.errors import OperatorError, StoreError
from nanoclaw.store.db import as_store_error, open_connection
from nanoclaw.store.tables import build_tables

T = TypeVar("T")


class FileReader:
    """A `Reader` over the file, without the host's threads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> T:
        """Return `work(connection)`. Raises StoreError."""
        try:
            connection = open_connection(self._path, read_only=True)
            try:
                return work(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise as_store_error(error, self._path) from error


def ask_file(paths: Paths, request: Request) -> Table:
    """Answer a request from the store's file. Raises OperatorError when there is none yet, Refused, StoreError."""
    if not paths.database.exists():
        raise OperatorError(f"there is nothing in {paths.home} yet. Say something first: ./nanoclaw.sh chat hello")
    read, tables = FileReader(paths.database), build_tables(_no_new_id)
    resources: tuple[Resource, ...] = (
        GroupsResource(read, tables.groups),
        SessionsResource(read, tables),
        MessagesResource(read, tables),
        AuditResource(read, tables.audit),
        HostResource(read, tables, str(paths.home), None, _refuse_to_stop),
    )
    for resource in resources:
        if resource.name == request.resource and request.verb in resource.verbs:
            return asyncio.run(_answer(resource, request))
    raise OperatorError(f"there is no `{request.resource} {request.verb}`")


async def _answer(resource: Resource, request: Request) -> Table:
    return await resource.answer(request)


def _no_new_id() -> str:
    raise StoreError("a command that only reads made a row")


def _refuse_to_stop() -> None:
    raise OperatorError("no host runs")
