"""Tasks: something due at a time; a TaskRun is one firing of it."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """A task's life."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"


class TaskRunState(StrEnum):
    """One due slot of a task."""

    DUE = "due"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
