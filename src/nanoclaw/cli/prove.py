"""`nanoclaw doctor --prove`: tries the wall of this machine's sandboxes, and says what held.

Works beside a running host and without one: its boxes have an install id of their own and folders that go with it.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nanoclaw.boxes import BUILT_IN, find_agent_binary, make_runtimes
from nanoclaw.children import SOURCE
from nanoclaw.cli import finding
from nanoclaw.clock import SystemClock
from nanoclaw.config import Config, Paths
from nanoclaw.domain.limits import Limits
from nanoclaw.errors import SandboxError
from nanoclaw.flow.proof import find_grounds
from nanoclaw.log import open_log
from nanoclaw.sandbox.inbound import RunRow
from nanoclaw.sandbox.interpreter import Interpreter, find_interpreter
from nanoclaw.sandbox.mailbox import create_mailbox
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.prove import LIMIT_MEANINGS, MEANINGS, Finding, Proof, Result, Watches, prove, prove_limits
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.spec import COMPOSED_CA, COMPOSED_HOSTS, BoxInputs, SandboxSpec, build_spec
from nanoclaw.sandbox.surroundings import hosts_text
from nanoclaw.sandbox.watchdog import DiskWatchdog

SESSION = "doctor"


def examine_wall(config: Config, runtime: str) -> Iterator[finding.Finding]:
    """Try everything with one runtime ('': the one that boxes get by default); takes about a second."""
    name = runtime or config.settings.runtime or BUILT_IN
    try:
        with tempfile.TemporaryDirectory(prefix="nanoclaw-doctor-") as folder:
            wall, limits = asyncio.run(_prove(config, name, Path(folder)))
    except SandboxError as error:
        yield finding.Finding(name, finding.State.WRONG, str(error), error.mend)
        return
    for result in (*wall.results, *limits.results):
        yield describe(result)
    failed = len(wall.failed) + len(limits.failed)
    words = f"the wall took {wall.took_ms} ms, the limits {limits.took_ms} ms"
    if failed:
        yield finding.Finding(
            name, finding.State.WRONG, f"{failed} got through; {words}", "no assistant should run behind it"
        )
    else:
        yield finding.Finding(name, finding.State.GOOD, f"everything held; {words}")


def describe(result: Result) -> finding.Finding:
    """Say what one canary showed."""
    match result.finding:
        case Finding.HELD:
            return finding.Finding(result.name, finding.State.GOOD, f"held ({result.detail})")
        case Finding.NOT_KEPT:
            return finding.Finding(result.name, finding.State.NOTE, f"not kept here: {result.detail}")
        case Finding.FAILED:
            meaning = {**MEANINGS, **LIMIT_MEANINGS}[result.name]
            return finding.Finding(result.name, finding.State.WRONG, f"FAILED: {meaning} ({result.detail})")


async def _prove(config: Config, name: str, folder: Path) -> tuple[Proof, Proof]:
    home = replace(config, paths=Paths(home=folder, run=folder / "run"), install=secrets.token_hex(4))
    interpreter = find_interpreter()
    runtimes = make_runtimes(home, interpreter)
    log = open_log("error")
    watches = Watches(DiskWatchdog(SystemClock(), log), MemoryWatch(log))
    try:
        runtime = runtimes.get(name)
        await asyncio.to_thread(runtime.check)
        spec = make_spec(home, folder, interpreter)
        grounds = replace(find_grounds(config, ""), scratch=folder / "proofs")
        wall = await prove(runtime, spec, BoxLabel(SESSION, 1, home.install), grounds)
        limits = await prove_limits(runtime, spec, BoxLabel(SESSION, 2, home.install), grounds, watches)
    finally:
        await runtimes.close()
    return wall, limits


def make_spec(config: Config, folder: Path, interpreter: Interpreter) -> SandboxSpec:
    """Return the spec of an assistant that has nothing of its own."""
    uid = config.box_uid(0)
    compose = folder / "compose"
    compose.mkdir(mode=0o755)
    for name, text in (("CLAUDE.md", ""), (COMPOSED_HOSTS, hosts_text("agent")), (COMPOSED_CA, "")):
        (compose / name).write_text(text, encoding="utf-8")
    mailbox = create_mailbox(folder / "run", RunRow(1, SESSION, "{}"), uid, uid if config.is_root else -1)
    return build_spec(
        BoxInputs(
            in_directory=mailbox.in_directory,
            outbound_db=mailbox.outbound_db,
            outbound_journal=mailbox.outbound_journal,
            outbox=mailbox.outbox,
            workspace=folder,
            home=folder,
            compose=compose,
            runner_source=SOURCE,
            interpreter=interpreter,
            agent_binary=find_agent_binary(config),
            timezone=config.timezone,
            host_uid=uid if config.is_root else None,
            limits=Limits(),
        )
    )
