"""What else goes wrong around boxes: an engine that goes away, a runtime in trouble, a folder that cannot be made."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from nanoclaw.domain.group import GroupConfig
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox import packages_image
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.packages import BuildFailed
from nanoclaw.sandbox.prove import NO_ANSWER, Finding, Result, by_end
from nanoclaw.sandbox.runtimes.base import BoxExit, BoxLabel, ExitReason
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.runtimes.engine import Engine
from nanoclaw.sandbox.runtimes.engine_words import EngineError
from nanoclaw.sandbox.runtimes.registry import Runtimes
from tests.unit.test_sandbox_docker import SPEC, Scripted, info, runtime, scripted_engine, with_reason

PYTHON = Interpreter(Path("/usr/bin/python3"))
LABEL = BoxLabel("build-B1", 1, "0badcafe")


class Leaving(Scripted):
    """An engine that makes and starts containers, and hangs up when it is asked to wait for one."""

    patience: ClassVar[float] = 0.0
    over = threading.Event()

    def do_POST(self) -> None:
        if self.path.partition("?")[0].endswith("/wait"):
            self.over.wait(self.patience)
            self.close_connection = True
        else:
            super().do_GET()

    def do_DELETE(self) -> None:
        super().do_GET()


class Staying(Leaving):
    """As Leaving, and it keeps the caller waiting first."""

    patience = 5.0


ANSWERS: dict[str, tuple[int, object]] = info() | {"/create": (201, {"Id": "abc"}), "/start": (204, b"")}


def test_an_engine_that_dies_in_a_build_is_not_told_as_a_build_that_took_too_long(tmp_path: Path) -> None:
    with scripted_engine(tmp_path, ANSWERS, Leaving) as place, pytest.raises(EngineError, match="is not there"):
        packages_image._run(packages_image._Place(Engine(place), LABEL, "docker", tmp_path), {})


def test_a_build_that_takes_too_long_says_so(tmp_path: Path) -> None:
    with scripted_engine(tmp_path, ANSWERS, Staying) as place:
        with pytest.raises(BuildFailed, match="took longer"):
            packages_image._run(packages_image._Place(Engine(place), LABEL, "docker", tmp_path), {}, 0.05)
        Staying.over.set()


class Troubled(DockerRuntime):
    """Cannot be swept or closed the first time; `done` is what was asked of any of them."""

    done: ClassVar[list[str]] = []

    async def end_orphans(self, install: str) -> int:
        self.done.append(f"swept {self.name}")
        if not self._oci:
            raise SandboxError("The first is in trouble.")
        return 1

    async def close(self) -> None:
        self.done.append(f"closed {self.name}")
        await super().close()
        if not self._oci:
            raise SandboxError("The first is in trouble.")


async def test_a_runtime_in_trouble_keeps_no_other_from_being_swept_and_closed(tmp_path: Path) -> None:
    with scripted_engine(tmp_path, info()) as place:
        runtimes = Runtimes({"docker": lambda oci: Troubled(oci, tmp_path, PYTHON, str(place))})
        for name in ("docker", "docker:runsc"):
            await runtimes.choose(GroupConfig(runtime=name))
        with pytest.raises(SandboxError, match="in trouble"):
            await runtimes.end_orphans(LABEL.install)
        with pytest.raises(SandboxError, match="in trouble"):
            await runtimes.close()
    assert set(Troubled.done) == {"swept docker", "swept docker:runsc", "closed docker", "closed docker:runsc"}


async def test_a_folder_that_cannot_be_made_is_a_start_that_failed(tmp_path: Path) -> None:
    (tmp_path / "engine").touch()
    with scripted_engine(tmp_path, info()) as place:
        made = runtime("", tmp_path, place)
        spec = replace(SPEC, mounts=(), host_uid=SPEC.host_uid if os.geteuid() == 0 else None)
        assert "did not start" in await with_reason(made.start(spec, LABEL))
        await made.close()


class Hurried(DockerRuntime):
    """Waits for little when it is closed."""

    close_seconds = 0.05


async def test_closing_waits_for_nothing_without_end(tmp_path: Path) -> None:
    made, over = Hurried("", tmp_path, PYTHON, str(tmp_path / "gone.sock")), threading.Event()
    stuck = made._in_thread(lambda: over.wait(10))
    async with asyncio.timeout(5):
        await made.close()
    assert not stuck.done()
    over.set()
    await stuck


@pytest.mark.parametrize(
    ("code", "reason", "own_kernel", "finding"),
    [
        (128 + signal.SIGSEGV, ExitReason.EXITED, False, Finding.FAILED),
        (128 + signal.SIGKILL, ExitReason.EXITED, False, Finding.FAILED),
        (128 + signal.SIGKILL, ExitReason.MEMORY, False, Finding.HELD),
        (128 + signal.SIGKILL, ExitReason.EXITED, True, Finding.HELD),
        (128 + signal.SIGSEGV, ExitReason.EXITED, True, Finding.FAILED),
        (128 + signal.SIGKILL, ExitReason.KILLED, True, Finding.FAILED),
    ],
)
def test_a_canary_that_crashes_has_shown_no_limit(
    code: int, reason: ExitReason, own_kernel: bool, finding: Finding
) -> None:
    shown = by_end(Result("memory", Finding.FAILED, NO_ANSWER), BoxExit(code, reason, ""), own_kernel=own_kernel)
    assert shown.finding is finding
