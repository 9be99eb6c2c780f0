"""Builds scripted boxes: a runtime whose boxes run in this process."""

from __future__ import annotations

import asyncio
from collections import deque

from nanoclaw.contract.message import chat_from_json
from nanoclaw.domain.group import Kernel
from nanoclaw.errors import SandboxError
from nanoclaw.runner.mailbox import Row
from nanoclaw.sandbox.runtimes.base import BoxLabel, Capability
from nanoclaw.sandbox.spec import SandboxSpec
from nanoclaw.testing.scripted_box import Act, BoxTurn, Script, ScriptedBox, SpawnBox


class ScriptedRuntime:
    """Builds scripted boxes (runtimes/base.Runtime); `spawn` runs them, as the kernel would."""

    def __init__(self, spawn: SpawnBox) -> None:
        self._spawn = spawn
        self._scripts: dict[str, Script] = {"": Script()}
        self._refusals: deque[SandboxError] = deque()
        self.boxes: list[ScriptedBox] = []
        self.muted = False  # the doorbells of boxes started from now on are lost

    @property
    def name(self) -> str:
        """Not a runtime of any real kind."""
        return "scripted"

    @property
    def script(self) -> Script:
        """What the agent does when its chat has no script of its own."""
        return self._scripts[""]

    def script_for(self, origin: str) -> Script:
        """What the agent does with rows of one chat, by its destination name."""
        return self._scripts.setdefault(origin, Script())

    def refuse(self, times: int, message: str, *, mend: str = "") -> None:
        """Fail the next `times` starts."""
        self._refusals.extend([SandboxError(message, mend=mend)] * times)

    @property
    def kernel(self) -> Kernel:
        """This process's own."""
        return Kernel.SHARED

    def capabilities(self) -> tuple[Capability, ...]:
        """Nothing is kept here."""
        return ()

    def check(self) -> None:
        """Boxes can always be run here."""

    def check_image(self, image: str) -> None:
        """Boxes have no image here."""

    async def list_boxes(self, install: str) -> list[BoxLabel]:
        """The boxes that run."""
        return [box.label for box in self.boxes if box.label.install == install and not box.is_gone]

    async def start(self, spec: SandboxSpec, label: BoxLabel) -> ScriptedBox:
        """Start a held box; raises SandboxError as scripted."""
        if self._refusals:
            raise self._refusals.popleft()
        box = ScriptedBox(spec, label, 1_000_000 + len(self.boxes), self._choose)
        box.muted = self.muted
        self._spawn(box.live(), f"box {label.session} {label.fence}")
        self.boxes.append(box)
        try:
            await asyncio.sleep(0)  # it begins: its listeners are there, and its end gives them back
        except asyncio.CancelledError:
            box.kill()
            raise
        return box

    async def end_orphans(self, install: str) -> int:
        """Nothing outlives its process here."""
        return 0

    async def close(self) -> None:
        """Kill what still runs."""
        for box in self.boxes:
            box.kill()
        for box in self.boxes:
            await box.wait()

    def _choose(self, rows: list[Row]) -> Act:
        origin = next((chat_from_json(row.content).origin for row in reversed(rows) if row.kind == "chat"), "")
        return self._scripts.get(origin, self.script).next() or self.script.next() or repeat


async def repeat(turn: BoxTurn) -> None:
    """Answer with what was said: the act of an agent whose script is empty."""
    turn.finish("you said: " + " / ".join(turn.texts))
