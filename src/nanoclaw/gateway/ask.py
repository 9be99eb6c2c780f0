"""A call that waits for a person, while its client is watched: whoever goes away waits no longer.

In: a call that a rule asks about, its body held. Out: None, it may go once; or why not.
Never: judges; what has changed by the time a person has said yes is for proxy.py.
"""

from __future__ import annotations

import asyncio
import contextlib

from nanoclaw.gateway.exchange import Desk
from nanoclaw.gateway.holds import Held
from nanoclaw.gateway.ledger_file import LedgerError
from nanoclaw.gateway.line import Failure, Line
from nanoclaw.gateway.policy import Deny


async def ask_person(desk: Desk, line: Line, held: Held) -> Deny | None:
    """Return None when the call may go this once. Raises Failure when that could not be written down."""
    woken = asyncio.Event()
    watcher = desk.spawn(_watch(line, woken))
    try:
        denied = await desk.holds.ask(held, woken)
    except LedgerError as error:
        raise Failure(503, "api_error", f"{error} Nothing goes by a yes that cannot be written down.") from None
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])
    return denied


async def _watch(line: Line, gone: asyncio.Event) -> None:
    """Tell when the client goes. One that sends its next request early stays as long as this call waits."""
    data = b""
    with contextlib.suppress(OSError):
        data = await line.watch()
    if data:
        line.receive(data)
    else:
        gone.set()
