"""The contract of runtimes over real containers: Docker with runc and with gVisor, an engine of the tests' own."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nanoclaw.sandbox.inbound import RunRow
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.mailbox import create_mailbox
from nanoclaw.sandbox.runtimes.base import Box, BoxLabel
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.runtimes.docker_spec import labels_of
from nanoclaw.sandbox.runtimes.engine import Engine as Client
from nanoclaw.sandbox.spec import BoxInputs, Mount, SandboxSpec, build_spec
from nanoclaw.testing.contracts.runtimes import BEHAVIOURS, Behaviour, Part
from tests.contract.test_runtimes import CODES, HEAD
from tests.engine import Engine
from tests.wall.conftest import BOX_UID, make_inputs

pytestmark = pytest.mark.ci  # a container takes 0.3 s to start and an engine with its image half a minute


@dataclass
class DockerBench:
    root: Path
    engine: Engine
    runtime: DockerRuntime
    install: str
    inputs: BoxInputs
    fence: int = 0
    stranded: list[str] = field(default_factory=list)

    @property
    def ports(self) -> int:
        return len(build_spec(self.inputs).ports)

    def label(self) -> BoxLabel:
        self.fence += 1
        return BoxLabel("01TESTSESSION", self.fence, self.install)

    async def start(self, part: Part, label: BoxLabel) -> Box:
        return await self.runtime.start(self.spec(part, label), label)

    async def start_impossible(self, label: BoxLabel) -> Box:
        spec = self.spec(Part.WAITS, label)
        gone = Mount(self.root / "gone", "/opt/gone")
        return await self.runtime.start(replace(spec, mounts=(*spec.mounts, gone)), label)

    def has_run(self, box: Box) -> bool:
        return (self.root / "workspace" / f"ran-{box.label.fence}").exists()

    def left(self) -> list[str]:
        containers = Client(self.engine.socket).list_labelled(f"nanoclaw.install={self.install}")
        folders = [str(path) for path in (self.root / "boxes").glob("engine/*/*")]
        return [*(f"container {found.id[:12]} {found.state}" for found in containers), *folders]

    async def strand(self, install: str) -> Callable[[], bool]:
        labels = labels_of(BoxLabel("OLD", len(self.stranded), install), self.runtime.name)
        words = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
        ran = await asyncio.to_thread(
            self.engine.docker, "run", "-d", "--network=none", *words, self.engine.image, "sleep", "300"
        )
        container = ran.stdout.strip()
        self.stranded.append(container)
        client = Client(self.engine.socket)

        def lives() -> bool:
            filters = {"filters": json.dumps({"id": [container]})}
            return client.call("GET", "/containers/json", filters).strip() != b"[]"

        return lives

    def spec(self, part: Part, label: BoxLabel) -> SandboxSpec:
        return self.program(HEAD.format(fence=label.fence, install=label.install) + CODES[part])

    def program(self, code: str) -> SandboxSpec:
        """The real spec of a run, with Python of the test's own in the runner's place."""
        spec = replace(build_spec(self.inputs), image=self.engine.image)
        return replace(spec, command=(self.inputs.interpreter.in_box, "-I", "-S", "-c", code))

    async def clear_away(self) -> None:
        await self.runtime.close()
        for container in self.stranded:
            await asyncio.to_thread(self.engine.docker, "rm", "-f", container, check=False)


def make_bench(root: Path, engine: Engine, oci: str) -> DockerBench:
    run = RunRow(1, "01TESTSESSION", "{}")
    mailbox = create_mailbox(root / "1", run, BOX_UID, BOX_UID)
    interpreter = find_interpreter()
    runtime = DockerRuntime(oci, root / "boxes", interpreter, str(engine.socket))
    return DockerBench(root, engine, runtime, secrets.token_hex(4), make_inputs(root, mailbox))


@pytest.fixture(params=["", "runsc"], ids=["runc", "runsc"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path, engine: Engine) -> AsyncIterator[DockerBench]:
    made = make_bench(tmp_path, engine, request.param)
    yield made
    await made.clear_away()


@pytest.mark.blocks_loop("the bench's own looks ask the engine in the loop's thread: 0.2 s on a busy machine")
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_container_keeps_the_contract(behaviour: Behaviour, bench: DockerBench) -> None:
    await behaviour(bench)
