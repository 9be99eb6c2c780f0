"""The canaries over real containers: all hold with runc and with gVisor, and a hole made in a container is seen."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.clock import SystemClock
from nanoclaw.domain.group import Kernel
from nanoclaw.log import open_log
from nanoclaw.sandbox.inbound import RunRow
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.mailbox import create_mailbox
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.prove import LIMIT_MEANINGS, MEANINGS, Finding, Grounds, Watches, prove, prove_limits
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.spec import SandboxSpec, build_spec
from nanoclaw.sandbox.watchdog import DiskWatchdog
from tests.engine import Engine
from tests.wall.conftest import BOX_UID, make_inputs

pytestmark = pytest.mark.ci  # an engine with its image takes half a minute


@pytest.fixture(params=["", "runsc"])
async def runtime(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> AsyncIterator[DockerRuntime]:
    made = DockerRuntime(request.param, tmp_path / "boxes", find_interpreter(), str(engine.socket))
    made.check()
    yield made
    await made.close()


@pytest.fixture
def spec(engine: Engine, tmp_path: Path) -> SandboxSpec:
    mailbox = create_mailbox(tmp_path / "1", RunRow(1, "01TESTSESSION", "{}"), BOX_UID, BOX_UID)
    return build_spec(replace(make_inputs(tmp_path, mailbox), image=engine.image))


async def test_a_container_holds_every_canary(runtime: DockerRuntime, spec: SandboxSpec, tmp_path: Path) -> None:
    grounds = Grounds(tmp_path / "scratch", (tmp_path, Path("/etc/shadow-")), (tmp_path / "workspace",))
    proof = await prove(runtime, spec, BoxLabel("P", 1, secrets.token_hex(4)), grounds)
    print(proof.took_ms, *proof.results, sep="\n")
    assert not proof.failed
    assert {result.name for result in proof.results} == set(MEANINGS)
    own = {result.detail for result in proof.results if result.name == "own-kernel"}
    assert (own == {"shared, as said"}) is (runtime.kernel is Kernel.SHARED)


async def test_a_container_keeps_its_limits(runtime: DockerRuntime, spec: SandboxSpec, tmp_path: Path) -> None:
    log = open_log("error")
    watches = Watches(DiskWatchdog(SystemClock(), log), MemoryWatch(log))
    label = BoxLabel("P", 2, secrets.token_hex(4))
    proof = await prove_limits(runtime, spec, label, Grounds(tmp_path / "scratch"), watches)
    print(proof.took_ms, *proof.results, sep="\n")
    assert {result.name: result.finding for result in proof.results} == dict.fromkeys(LIMIT_MEANINGS, Finding.HELD)
