"""What is asked over the admin socket, and what comes back: JSON lines, one request, one reply."""

from __future__ import annotations

import msgspec

from nanoclaw.admin.table import Table

Given = str | list[str]

LINE_BYTES = 64 * 1024
REPLY_BYTES = 8 * 1024 * 1024


class Request(msgspec.Struct, frozen=True):
    """`ncl RESOURCE VERB [ID] [--flag value]`, as it was typed; a list when a flag was given more than once."""

    resource: str
    verb: str
    id: str | None = None
    flags: dict[str, Given] = {}


class Reply(msgspec.Struct, frozen=True):
    """The answer: a table when `ok`, else a plain sentence."""

    ok: bool
    error: str = ""
    table: Table | None = None
