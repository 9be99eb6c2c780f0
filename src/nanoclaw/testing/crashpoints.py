"""The named places where a test may kill the host: `NANOCLAW_CRASH_AT=name` or `name:3` for the third time.

Each is a durable step of the data path: before it nothing happened, after it the store or a mailbox says so.
"""

from __future__ import annotations

HOST_CRASH_POINTS = (
    "receive.before_commit",
    "receive.committed",
    "wake.claimed",
    "wake.projected",
    "wake.released",
    "collect.read",
    "collect.applied",
    "deliver.sending",
    "deliver.handed_over",
    "deliver.sent",
    "end.drained",
    "end.settled",
)

# Steps of erasing an agent group, which no message passes.
PURGE_CRASH_POINTS = ("purge.begun", "purge.batch", "purge.folders_removed")

# A set of packages was built and verified, and is not in use yet.
BUILD_CRASH_POINTS = ("build.made",)
