"""5b' proof: no box of a group starts before its wall was tried, with this very set-up, since the machine started.

In: a group's runtime and the SandboxSpec its box would get.
Out: the id of the proof that holds for it.
Writes: `sandbox_proofs`; on a failure `sessions.proof_id` and `audit`.
Never: lets a box start whose canaries got through, or gave no answer; proves the same twice at once.
Fails: SandboxError with what got through in plain words; the run ends as NO_START, the next attempt proves anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import shutil
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from nanoclaw import sandbox
from nanoclaw.config import Config
from nanoclaw.domain.session import SessionId
from nanoclaw.errors import SandboxError
from nanoclaw.flow.means import Means
from nanoclaw.sandbox.prove import (
    LIMIT_MEANINGS,
    MEANINGS,
    NO_ANSWER,
    SMALL,
    Grounds,
    Proof,
    Watches,
    prove,
    prove_limits,
)
from nanoclaw.sandbox.records import boot_id
from nanoclaw.sandbox.runtimes.base import BoxLabel, Runtime
from nanoclaw.sandbox.runtimes.bubblewrap import PROGRAM_PATH
from nanoclaw.sandbox.spec import SandboxSpec
from nanoclaw.sandbox.surroundings import PKGS
from nanoclaw.store.audit import Entry
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.proofs import ProofOf

MEND = "See `nanoclaw doctor --prove`."
SOURCE = Path(sandbox.__file__).parent
MOST_GROUPS = 8  # whose folders are looked for
PRIVATE = (".ssh", ".aws", ".config", ".docker", ".claude", ".gnupg", ".netrc")  # of whoever runs the host


class Trials(Protocol):
    """What tries a wall: real boxes, or a script."""

    async def wall(self, runtime: Runtime, spec: SandboxSpec, group: AgentGroup) -> Proof:
        """Try everything but limits. Raises SandboxError."""
        ...

    async def limits(self, runtime: Runtime, spec: SandboxSpec) -> Proof:
        """Try the limits, with small ones. Raises SandboxError."""
        ...


class BoxTrials:
    """Tries walls and limits in real throw-away boxes."""

    def __init__(self, config: Config, watches: Watches) -> None:
        self._config = config
        self._watches = watches
        self._count = 0

    async def wall(self, runtime: Runtime, spec: SandboxSpec, group: AgentGroup) -> Proof:
        """Try everything but limits. Raises SandboxError."""
        grounds = await asyncio.to_thread(find_grounds, self._config, group.folder)
        return await prove(runtime, spec, self._label(), grounds)

    async def limits(self, runtime: Runtime, spec: SandboxSpec) -> Proof:
        """Try the limits, with small ones. Raises SandboxError."""
        grounds = Grounds(self._config.paths.data / "proofs")
        return await prove_limits(runtime, spec, self._label(), grounds, self._watches)

    def _label(self) -> BoxLabel:
        self._count += 1
        return BoxLabel("proof", self._count, self._config.install)


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose box is to start."""

    group: AgentGroup
    session: SessionId


class Prover:
    """Proves what has not been proved, and remembers what has."""

    def __init__(self, means: Means, trials: Trials) -> None:
        self._means = means
        self._trials = trials
        self._builders = ""  # what builds walls here, read at the first proof
        self._passed: dict[ProofOf, str] = {}
        self._proving: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by group; limits: by runtime

    async def prove(self, asked: Asked, runtime: Runtime, spec: SandboxSpec) -> str:
        """Return the id of the proof that holds for a box; raises SandboxError when something got through."""
        boot = boot_id()
        self._builders = self._builders or await self._means.blocking(find_builders, SOURCE)
        await self._prove_limits(asked, runtime, spec, boot)
        digest = decide_hash(spec, self._means.config.paths.home, self._builders)
        of = ProofOf(asked.group.id, runtime.name, digest, boot)
        async with self._proving[asked.group.id]:
            if (known := await self._find(of)) is not None:
                return known
            proof = await self._trials.wall(runtime, spec, asked.group)
            return await self._keep(asked, of, proof)

    async def _prove_limits(self, asked: Asked, runtime: Runtime, spec: SandboxSpec, boot: str) -> None:
        of = ProofOf(None, runtime.name, _digest([*LIMIT_MEANINGS, SMALL, self._builders]), boot)
        async with self._proving[f"limits of {runtime.name}"]:  # an engine that hangs holds up its own boxes alone
            if await self._find(of) is None:
                await self._keep(asked, of, await self._trials.limits(runtime, spec))

    async def _find(self, of: ProofOf) -> str | None:
        if of not in self._passed:
            tables = self._means.tables
            known = await self._means.store.read(lambda connection: tables.proofs.find_passed(connection, of))
            if known is None:
                return None
            self._passed[of] = known
        return self._passed[of]

    async def _keep(self, asked: Asked, of: ProofOf, proof: Proof) -> str:
        kept = await self._means.store.write(lambda connection: self._write(connection, asked, of, proof))
        for other in [other for other in self._passed if other.group == of.group]:
            del self._passed[other]  # the store keeps a few of a group: it may have let go of this one
        log, failed = self._means.log, ", ".join(result.name for result in proof.failed)
        what = "limits" if of.group is None else "wall"
        if not proof.passed:
            log.error("sandbox.not_proved", runtime=of.runtime, what=what, failed=failed, took_ms=proof.took_ms)
            raise SandboxError(describe_failure(proof), mend=MEND)
        log.info("sandbox.proved", runtime=of.runtime, what=what, took_ms=proof.took_ms)
        self._passed[of] = kept
        return kept

    def _write(self, connection: sqlite3.Connection, asked: Asked, of: ProofOf, proof: Proof) -> str:
        tables, now = self._means.tables, self._means.clock.now_ms()
        results = msgspec.json.encode(proof.results).decode()
        kept = tables.proofs.add(connection, of, (proof.passed, results), proof.took_ms, now)
        if not proof.passed:
            tables.sessions.set_proof(connection, asked.session, kept)
            reason = ", ".join(result.name for result in proof.failed)
            entry = Entry(now, "sandbox.not_proved", "host", asked.session, "refused", f"{of.runtime}: {reason}")
            tables.audit.append(connection, entry)
        return kept


def find_builders(source: Path) -> str:
    """Return what changes with the code and the program that build walls. Blocks about 5 ms.

    A proof must not outlive a `git pull` or an upgrade of bubblewrap without a restart of the machine.
    """
    found = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        found.update(path.read_bytes())
    if (program := shutil.which("bwrap", path=PROGRAM_PATH)) is not None:
        at = os.stat(program)
        found.update(f"{at.st_size} {at.st_mtime_ns} {at.st_ctime_ns}".encode())
    return found.hexdigest()


def decide_hash(spec: SandboxSpec, home: Path, builders: str = "") -> str:
    """Return what a proof of `spec` is good for: everything of it that could open a wall, but not whose run it is.

    Of folders in the host's own home only the place in the box counts, for each session has its own; but of the
    packages, which set it is.
    """
    mounts = sorted(
        (m.target, m.writable, "" if m.source.is_relative_to(home) and m.target != PKGS else str(m.source))
        for m in spec.mounts
    )
    limits = msgspec.to_builtins(spec.limits)
    return _digest([
        mounts, sorted(spec.files), sorted(spec.env), limits, spec.command, spec.workdir, spec.host_uid, spec.ports,
        spec.image, sorted(MEANINGS), builders,
    ])  # fmt: skip


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def describe_failure(proof: Proof) -> str:
    """Say in plain words what got through."""
    meanings = {**MEANINGS, **LIMIT_MEANINGS}
    if all(result.detail == NO_ANSWER for result in proof.failed):
        return "The sandbox was tried before its first use, and gave no answer."
    first, *others = proof.failed
    more = f", and {len(others)} more" if others else ""
    return f"The sandbox was tried before its first use and does not hold: {meanings[first.name]} ({first.name}){more}."


def find_grounds(config: Config, folder: str) -> Grounds:
    """Return what of this machine must be out of a group's reach. Blocks about 1 ms."""
    paths = config.paths
    user = Path(pwd.getpwuid(config.uid).pw_dir)
    others = sorted(path for path in (paths.home / "groups").glob("[!.]*") if path.name != folder)[:MOST_GROUPS]
    looked_for = (
        paths.home, paths.data, paths.database, paths.gateway, paths.config_file, paths.logs, paths.run,
        *(user / name for name in PRIVATE),
    )  # fmt: skip
    return Grounds(
        scratch=paths.data / "proofs",
        paths=tuple(path for path in looked_for if path.exists()),
        groups=tuple(others),
        sockets=(paths.terminal_socket, paths.admin_socket, paths.gateway_socket),
    )
