"""The same answers while no host runs: the store's file is read directly, read-only."""

from __future__ import annotations

import sqlite3

from nanoclaw.admin.call import OPERATOR, check_request
from nanoclaw.admin.desk import Desk
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Table
from nanoclaw.admin.verb import Access
from nanoclaw.clock import SystemClock
from nanoclaw.config import Paths
from nanoclaw.errors import OperatorError, StoreError
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.db import as_store_error, open_connection
from nanoclaw.store.tables import build_tables


def ask_file(paths: Paths, request: Request) -> Table:
    """Answer a request from the store's file. Raises OperatorError when there is none or it needs a host, Refused."""
    call = check_request(request, OPERATOR, SystemClock().now_ms())
    if call.verb.access is not Access.READ:
        raise OperatorError(f"no host runs, and `ncl {call.command}` needs one. Start it: nanoclaw up --detach")
    if not paths.database.exists():
        raise OperatorError(f"there is nothing in {paths.home} yet. Say something first: ./nanoclaw.sh chat hello")
    desk = Desk(build_tables(_no_new_id), str(paths.home))
    try:
        connection = open_connection(paths.database, read_only=True)
        try:
            return desk.run(connection, call, Aftermath())
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise as_store_error(error, paths.database) from error


def _no_new_id() -> str:
    raise StoreError("a command that only reads made a row")
