"""9b lifetime: what a host does to the path before its first look and after its last message.

In: the parts of the path.
Out: the path as the last host should have left it; at a stop, every box ended and its rows given back.
Writes: through deliver, run and wake.
Never: takes what this host has begun to send for something the last one left half sent: deliveries come before runs.
Fails: as the parts do; the caller bounds a stop.
"""

from __future__ import annotations

import asyncio

from nanoclaw.domain.session import RunEnd
from nanoclaw.flow.deliver import Deliver
from nanoclaw.flow.live import LiveRuns
from nanoclaw.flow.run import RunKeeper
from nanoclaw.flow.wake import Wake


async def recover(deliver: Deliver, runs: RunKeeper) -> None:
    """Repair what the host before left behind; the boxes of its runs are gone."""
    await deliver.recover()
    await runs.recover()


async def drain(wake: Wake, runs: RunKeeper, live: LiveRuns, grace_seconds: float) -> None:
    """Start nothing any more and end every run, also those that are being started."""
    await asyncio.gather(wake.close(), _stop_all(runs, live, grace_seconds))
    await _stop_all(runs, live, grace_seconds)


async def _stop_all(runs: RunKeeper, live: LiveRuns, grace_seconds: float) -> None:
    await asyncio.gather(*(runs.stop(run, RunEnd.STOPPED, grace_seconds) for run in live))
