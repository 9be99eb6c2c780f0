"""What sandboxes were seen to hold: the proofs of each agent group, and those of each runtime's limits."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql

KEPT = 20  # of each agent group


@dataclass(frozen=True, slots=True)
class ProofOf:
    """What a proof is about: `group` None for a runtime's limits; good for one boot of the machine."""

    group: str | None
    runtime: str
    spec_hash: str
    boot: str


class Proofs:
    """The only writer of `sandbox_proofs`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("proofs.sql")
        self._new_id = new_id

    def add(
        self, connection: sqlite3.Connection, of: ProofOf, outcome: tuple[bool, str], took_ms: int, now: int
    ) -> str:
        """Keep a proof, (whether it passed, its results as JSON), and only the newest of its group; return its id."""
        proof = self._new_id()
        passed, results = outcome
        self._sql.change(
            connection,
            "insert_proof",
            id=proof,
            agent_group_id=of.group,
            runtime=of.runtime,
            spec_hash=of.spec_hash,
            boot=of.boot,
            passed=int(passed),
            results=results,
            took_ms=took_ms,
            now=now,
        )
        self._sql.change(connection, "prune_proofs", agent_group_id=of.group, kept=KEPT)
        return proof

    def find_passed(self, connection: sqlite3.Connection, of: ProofOf) -> str | None:
        """Return the newest proof of exactly this when it passed."""
        row = self._sql.row(
            connection,
            "find_newest",
            agent_group_id=of.group,
            runtime=of.runtime,
            spec_hash=of.spec_hash,
            boot=of.boot,
        )
        return str(row["id"]) if row is not None and row["passed"] else None
