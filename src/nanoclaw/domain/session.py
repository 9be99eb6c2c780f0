"""A session (agent group x chat x thread) and its one live run."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

SessionId = NewType("SessionId", str)


class RunState(StrEnum):
    """starting -> running -> stopping -> over; a session that never ran is `over`."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    OVER = "over"


class RunEnd(StrEnum):
    """Why a run is over; decides who is to blame for the rows it had not finished."""

    IDLE = "idle"  # ended by the host: unused, or memory is short
    STOPPED = "stopped"  # the host shut down as it was asked to
    STOPPED_BY_PERSON = "stopped_by_person"  # `/stop` or `/clear` in a chat
    HOST_DIED = "host_died"  # the host died; found at its next start
    AGENT_FAILED = "agent_failed"  # the provider failed, exited or hung; the runner said so
    BOX_DIED = "box_died"  # the box ended by itself
    FAULT = "fault"  # what came out of the box is hostile or broken
    LEASE = "lease"  # no sign of life for 60 s
    STUCK = "stuck"  # it shows signs of life, but a turn took longer than it may
    MEMORY = "memory"  # the kernel ended it: out of memory
    DISK = "disk"  # the workspace grew over its limit
    NO_START = "no_start"  # the box could not be built

    @property
    def blames_agent(self) -> bool:
        """Whether the next attempt waits (5 s, then 20 s): the host's own stop is nobody's fault."""
        return self not in (RunEnd.IDLE, RunEnd.STOPPED, RunEnd.STOPPED_BY_PERSON, RunEnd.HOST_DIED)

    @property
    def counts(self) -> bool:
        """Whether it is one of the three failures a row may have: what the host did on purpose is none."""
        return self not in (RunEnd.IDLE, RunEnd.STOPPED, RunEnd.STOPPED_BY_PERSON)
