"""The contract of runtimes, over bubblewrap's real boxes and over the scripted ones of the flow tests."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nanoclaw.contract.mailbox import ALIVE, OUT
from nanoclaw.contract.message import ChatIn, to_json
from nanoclaw.sandbox.inbound import InboundRow, RunRow
from nanoclaw.sandbox.mailbox import create_mailbox
from nanoclaw.sandbox.records import BoxRecord, BoxRecords, boot_id, mark_of
from nanoclaw.sandbox.runtimes.base import Box, BoxLabel
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.spec import Mount, SandboxSpec, build_spec
from nanoclaw.testing.contracts.runtimes import BEHAVIOURS, CODE, WORDS, Behaviour, Part
from nanoclaw.testing.scripted_box import Act, BoxTurn, ScriptedBox
from nanoclaw.testing.scripted_runtime import ScriptedRuntime
from tests.runner_process import SETTINGS
from tests.wall.conftest import BOX_UID, Wall, cgroups_of, make_inputs, wall
from tests.wall.test_box_life import processes_with

__all__ = ["wall"]  # the fixture

FLOOD = 440_000  # bytes: a little more than is read of a box in one window, so that it ends while nobody reads
HEAD = "import os, sys, time; open('/workspace/ran-{fence}', 'w').close()  # {install}\n"
CODES = {
    Part.WAITS: "os.write(1, b'o'); sys.stdin.read()",
    Part.STUBBORN: "os.write(1, b'o')\nwhile True: time.sleep(1)",
    Part.ENDS: f"sys.stderr.write({WORDS!r}); sys.exit({CODE})",
    Part.RINGS: f"os.write(1, b'h' * {FLOOD}); os.write(1, b'o')",
    Part.ANSWERS: "os.write(1, b'o')\nwhile os.read(0, 1): os.write(1, b'o')",
}


@dataclass
class BubblewrapBench:
    wall: Wall
    stranded: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def runtime(self) -> BubblewrapRuntime:
        return self.wall.runtime

    @property
    def ports(self) -> int:
        return len(build_spec(self.wall.inputs).ports)

    def label(self) -> BoxLabel:
        return self.wall.label()

    async def start(self, part: Part, label: BoxLabel) -> Box:
        return await self.runtime.start(self._spec(part, label), label)

    async def start_impossible(self, label: BoxLabel) -> Box:
        spec = self._spec(Part.WAITS, label)
        gone = Mount(self.wall.root / "gone", "/opt/gone")
        return await self.runtime.start(replace(spec, mounts=(*spec.mounts, gone)), label)

    def has_run(self, box: Box) -> bool:
        return (self.wall.root / "workspace" / f"ran-{box.label.fence}").exists()

    def left(self) -> list[str]:
        install = self.wall.install
        processes = [f"process {pid}" for pid in processes_with(f"# {install}")]
        records = [path.name for path in (self.wall.root / "boxes").glob("*")]
        groups = [path.name for top in cgroups_of(install) for path in top.iterdir() if path.is_dir()]
        return [*processes, *records, *groups]

    async def strand(self, install: str) -> Callable[[], bool]:
        process = subprocess.Popen(["/bin/sleep", "300"])
        self.stranded.append(process)
        mark = mark_of(process.pid)
        assert mark is not None
        BoxRecords(self.wall.root / "boxes").write(
            BoxRecord(install, "OLD", len(self.stranded), boot_id(), (mark,), ())
        )
        return lambda: process.poll() is None

    def clear_away(self) -> None:
        for process in self.stranded:
            process.kill()
            process.wait()
        for record in (self.wall.root / "boxes").glob("*OLD*"):
            record.unlink()

    def _spec(self, part: Part, label: BoxLabel) -> SandboxSpec:
        return self.wall.spec(HEAD.format(fence=label.fence, install=label.install) + CODES[part])


async def waits(turn: BoxTurn) -> None:
    turn.box.bell(OUT)
    await turn.wait(asyncio.Event())


async def is_stubborn(turn: BoxTurn) -> None:
    turn.box.stubborn = True
    await waits(turn)


async def ends(turn: BoxTurn) -> None:
    turn.exit(CODE, WORDS)


async def rings(turn: BoxTurn) -> None:
    for _ in range(1000):
        turn.box.bell(ALIVE)
    turn.box.bell(OUT)
    turn.exit(0)


async def answers(turn: BoxTurn) -> None:
    while True:
        turn.box.bell(OUT)
        await turn.box.hear()


ACTS: dict[Part, Act] = {
    Part.WAITS: waits,
    Part.STUBBORN: is_stubborn,
    Part.ENDS: ends,
    Part.RINGS: rings,
    Part.ANSWERS: answers,
}


class ScriptedBench:
    """Each box has a mailbox of its own, with one message from a chat of its own: that chooses the act."""

    def __init__(self, directory: Path, runtime: ScriptedRuntime) -> None:
        self.runtime = runtime
        self._directory = directory
        self._fence = 0
        self._made = 0

    @property
    def ports(self) -> int:
        return 2

    def label(self) -> BoxLabel:
        self._fence += 1
        return BoxLabel("01TESTSESSION", self._fence, "0badcafe")

    async def start(self, part: Part, label: BoxLabel) -> Box:
        return await self.runtime.start(self._spec(part, label), label)

    async def start_impossible(self, label: BoxLabel) -> Box:
        self.runtime.refuse(1, "no room for another box")
        return await self.start(Part.WAITS, label)

    def has_run(self, box: Box) -> bool:
        assert isinstance(box, ScriptedBox)
        return bool(box.seen)

    def left(self) -> list[str]:
        boxes = self.runtime.boxes
        sockets = [str(listener) for box in boxes for listener in box.listeners if listener.fileno() != -1]
        return [*(f"box {box.label.fence}" for box in boxes if not box.is_gone), *sockets]

    async def strand(self, install: str) -> None:
        """Nothing outlives this process."""

    def _spec(self, part: Part, label: BoxLabel) -> SandboxSpec:
        self._made += 1
        root = self._directory / str(self._made)
        root.mkdir()
        run = RunRow(label.fence, label.session, to_json(SETTINGS))
        mailbox = create_mailbox(root / "mailbox", run, BOX_UID, -1)
        chat = f"chat-{self._made}"
        mailbox.project([InboundRow(2, "I1", 1, "chat", True, to_json(ChatIn("go", "Ann", "u1", chat, 1)))])
        self.runtime.script_for(chat).then(ACTS[part])
        return build_spec(make_inputs(root, mailbox))


@pytest.fixture
async def bubblewrap(wall: Wall) -> AsyncIterator[BubblewrapBench]:
    bench = BubblewrapBench(wall)
    yield bench
    bench.clear_away()


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_bubblewrap_box_keeps_the_contract(behaviour: Behaviour, bubblewrap: BubblewrapBench) -> None:
    await behaviour(bubblewrap)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_scripted_box_keeps_the_contract(behaviour: Behaviour, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, None], name: str) -> None:
            group.create_task(work, name=name)

        runtime = ScriptedRuntime(spawn)
        await behaviour(ScriptedBench(tmp_path, runtime))
        await runtime.close()
