"""Where a mailbox lies inside the box, and the schema of its two files."""

from __future__ import annotations

import os

IN_DIRECTORY = "/session/in"
OUT_DIRECTORY = "/session/out"
INBOUND = "inbound.db"
OUTBOUND = "outbound.db"
JOURNAL = "outbound.db-journal"
ATTACHMENTS = "inbox"
OUTBOX = "outbox"

# Doorbells (architecture section 7): one byte, no data; losing one costs a poll, never a message.
LOOK = b"\n"  # host -> runner
OUT = b"o"  # runner -> host: outbound.db has news
ALIVE = b"h"  # runner -> host: renews the 60 s lease


def mailbox_schema(file: str) -> str:
    """Return the CREATE statements of `inbound.db` or `outbound.db`, as written in mailbox.sql."""
    path = os.path.join(os.path.dirname(__file__), "mailbox.sql")
    with open(path, encoding="utf-8") as source:
        sections = source.read().split("-- file: ")
    for section in sections[1:]:
        name, _, body = section.partition("\n")
        if name.strip() == file:
            return body
    raise ValueError(f"mailbox.sql has no section for {file!r}")
