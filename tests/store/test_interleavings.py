"""Guarded updates under random interleavings: whatever comes in whatever order, one run at most, no stale claim counts.

Hypothesis plays hosts, runs and zombies over one session, and keeps a model of what must be true.
"""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nanoclaw.domain.turn import Outcome
from nanoclaw.errors import StaleClaim
from nanoclaw.store.inbox import Claim, ClaimedRow
from tests.store.stage import open_stage


class SessionMachine(RuleBasedStateMachine):
    """`fences` and `grants` are all runs and claims there ever were: any of them may try anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = open_stage()
        self.connection, self.session = self.stage.connection, self.stage.session
        self.inbox, self.sessions = self.stage.tables.inbox, self.stage.tables.sessions
        self.fences: list[int] = []
        self.grants: list[tuple[int, ClaimedRow]] = []
        self.live: int | None = None
        self.run_state = "over"
        self.owner: dict[int, tuple[int, int]] = {}  # seq of a claimed row -> (run, attempt)
        self.ended: dict[int, str] = {}

    @rule(trigger=st.booleans())
    def arrive(self, trigger: bool) -> None:
        self.stage.says(trigger=trigger)

    @rule()
    def start(self) -> None:
        try:
            fence = self.sessions.raise_fence(self.connection, self.session, 0)
        except StaleClaim:
            assert self.live is not None
            return
        assert self.live is None and fence == len(self.fences) + 1
        self.fences.append(fence)
        self.live, self.run_state = fence, "starting"

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        queued = [row["seq"] for row in self.rows() if row["state"] == "queued"]
        count = self.inbox.claim(self.connection, self.session, fence, 0)
        rows = self.inbox.claimed(self.connection, self.session, fence)
        assert [row.seq for row in rows] == sorted(row.seq for row in rows)
        assert count == 0 or (fence == self.live and self.run_state in ("starting", "running"))
        taken = [row for row in rows if row.seq in queued]
        assert [row.seq for row in taken] == queued[:count]  # from the oldest on, none left out
        assert count == 0 or taken[-1].trigger  # what ends in context would wait for ever
        if any(row.failures for row in rows):
            assert sum(row.trigger for row in taken) <= 1  # what has failed before is tried alone
        self.owner |= {row.seq: (fence, row.attempt) for row in taken}
        self.grants += [(fence, row) for row in taken]

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        fence, row = data.draw(st.sampled_from(self.grants))
        claim = Claim(self.session, fence, row.seq, row.attempt)
        done = self.inbox.finish(self.connection, claim, f"{fence}-1", Outcome.REPLIED, 0)
        assert done == self.owns(fence, row)
        if done:
            self.leave(row, "done")

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        fence, row = data.draw(st.sampled_from(self.grants))
        if self.happens(fence, row, lambda: self.inbox.bury(self.connection, row, fence, 0)):
            self.leave(row, "dead")

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), blame=st.booleans())
    def requeue(self, data: st.DataObject, blame: bool) -> None:
        fence, row = data.draw(st.sampled_from(self.grants))
        if self.happens(fence, row, lambda: self.inbox.requeue(self.connection, row, fence, blame=blame)):
            del self.owner[row.seq]

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def collect(self, data: st.DataObject) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        try:
            self.sessions.set_collected(self.connection, (self.session, fence), (1, 1), None, 0)
            collected = True
        except StaleClaim:
            collected = False
        assert collected == (fence == self.live)

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), step=st.sampled_from(["running", "stopping"]))
    def move(self, data: st.DataObject, step: str) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        set_state = self.sessions.set_running if step == "running" else self.sessions.set_stopping
        before = ("starting",) if step == "running" else ("starting", "running")
        moved = set_state(self.connection, self.session, fence, 0)
        assert moved == (fence == self.live and self.run_state in before)
        if moved:
            self.run_state = step

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """As flow/end.py does: what the run holds goes back, then it is over."""
        fence = data.draw(st.sampled_from(self.fences))
        for row in self.inbox.claimed(self.connection, self.session, fence):
            self.inbox.requeue(self.connection, row, fence, blame=False)
            del self.owner[row.seq]
        assert self.sessions.set_over(self.connection, self.session, fence, 0) == (fence == self.live)
        if fence == self.live:
            self.live, self.run_state = None, "over"

    @invariant()
    def the_session_has_the_run_of_the_model_and_no_other(self) -> None:
        row = self.sessions.get(self.connection, self.session)
        assert (row.run_state, row.fence) == (self.run_state, len(self.fences))
        assert self.live in (None, row.fence)

    @invariant()
    def every_row_is_where_the_model_has_it(self) -> None:
        rows = self.rows()
        assert len(rows) == self.stage.said
        assert {row["seq"]: (row["run"], row["attempt"]) for row in rows if row["state"] == "claimed"} == self.owner
        assert {row["seq"]: row["state"] for row in rows if row["outcome"] is not None} == self.ended
        assert all(run == self.live for run, _ in self.owner.values())

    def rows(self) -> list:
        return self.connection.execute("SELECT seq, state, run, attempt, outcome FROM inbox ORDER BY seq").fetchall()

    def owns(self, fence: int, row: ClaimedRow) -> bool:
        return self.owner.get(row.seq) == (fence, row.attempt)

    def leave(self, row: ClaimedRow, state: str) -> None:
        del self.owner[row.seq]
        self.ended[row.seq] = state

    def happens(self, fence: int, row: ClaimedRow, change: Callable[[], None]) -> bool:
        """A guarded change happens for the owner of the claim, and is a StaleClaim for everybody else."""
        try:
            change()
        except StaleClaim:
            assert not self.owns(fence, row)
            return False
        assert self.owns(fence, row)
        return True

    def teardown(self) -> None:
        self.connection.close()


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None
)
