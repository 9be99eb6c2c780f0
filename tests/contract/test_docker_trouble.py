"""An engine that stops answering, dies in the middle of a run, or is out of disk; a host that dies before its boxes.

Each time the run ends with plain words, the loop goes on, and what was left is ended by label when the engine is back.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.base import Box, BoxExit, ExitReason
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.runtimes.engine import Engine as Client
from nanoclaw.sandbox.runtimes.engine_words import EngineError
from nanoclaw.sandbox.spec import MIB
from nanoclaw.testing.contracts.runtimes import Part
from tests.contract.test_runtimes_docker import DockerBench, make_bench
from tests.engine import Engine, missing_for_engine, new_engine

pytestmark = pytest.mark.ci  # an engine of their own, which they break: seconds to start each time
DEADLINE_SECONDS = 60
TMPFS_BYTES = 700 * MIB  # the image takes 400


@pytest.fixture(scope="module")
def fragile() -> Iterator[Engine]:
    """An engine for tests that break it, and mend it afterwards."""
    yield from new_engine()


@pytest.fixture
async def bench(tmp_path: Path, fragile: Engine) -> AsyncIterator[DockerBench]:
    made = make_bench(tmp_path, fragile, "")
    yield made
    await made.clear_away()


async def start(bench: DockerBench, part: Part) -> Box:
    """A box whose command is at work."""
    box = await bench.start(part, bench.label())
    box.release()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await anext(box.bells())
    return box


async def over(box: Box) -> BoxExit:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await box.wait()


async def test_an_engine_that_stops_answering_keeps_no_box_alive_and_no_start_waiting(bench: DockerBench) -> None:
    """The host ends the box's first process itself; the container is removed before the next box starts."""
    box = await start(bench, Part.STUBBORN)
    bench.engine.pause()
    try:
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(DEADLINE_SECONDS):
            ended = await box.stop(0.2)
        assert asyncio.get_running_loop().time() - began < 25
        assert not Path(f"/proc/{box.pid}").exists() or "Z" in Path(f"/proc/{box.pid}/stat").read_text()
        assert ended.reason is ExitReason.KILLED
        assert "does not answer" in ended.stderr_tail
        fresh = make_bench_runtime(bench)
        with pytest.raises(SandboxError, match="does not answer"):
            await fresh.start(bench.spec(Part.WAITS, bench.label()), bench.label())
        assert await fresh.end_orphans(bench.install) == 0
        await fresh.close()
    finally:
        bench.engine.resume()
    again = await start(bench, Part.WAITS)
    assert len(bench.left()) == 2  # this box's container and folder: the old ones were swept
    await again.stop(5)
    assert not bench.left()


async def test_an_engine_that_dies_ends_its_boxes_and_they_are_found_again_when_it_is_back(bench: DockerBench) -> None:
    """Killed, so that its containers live on without it."""
    boxes = [await start(bench, part) for part in (Part.WAITS, Part.STUBBORN)]
    bench.engine.kill()
    exits = [await over(box) for box in boxes]
    assert all(not Path(f"/proc/{box.pid}/cwd").exists() for box in boxes), "a box outlived the end of its run"
    for ended in exits:
        assert ended.reason in (ExitReason.KILLED, ExitReason.EXITED)
        assert "container engine" in ended.stderr_tail
    with pytest.raises(SandboxError, match="container engine"):
        await bench.start(Part.WAITS, bench.label())
    await asyncio.to_thread(bench.engine.start)
    again = await start(bench, Part.WAITS)
    assert len(bench.left()) == 2
    await again.stop(5)
    assert not bench.left()


async def test_boxes_of_a_host_that_was_killed_end_themselves_or_are_ended_by_its_successor(bench: DockerBench) -> None:
    """The kernel closes what a killed host held: the end of stdin. A stubborn box is found by its label."""
    command = [
        sys.executable,
        "-m",
        "tests.contract.abandoned_boxes",
        str(bench.root),
        str(bench.engine.socket),
        bench.install,
    ]
    host = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert host.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await host.stdout.readline()) == b"running\n"
    assert len(await bench.runtime.list_boxes(bench.install)) == 2
    host.kill()
    await host.wait()
    client = Client(bench.engine.socket)

    def running() -> int:
        return sum(found.state == "running" for found in client.list_labelled(f"nanoclaw.install={bench.install}"))

    async with asyncio.timeout(DEADLINE_SECONDS):
        while await asyncio.to_thread(running) > 1:
            await asyncio.sleep(0.02)
    assert await bench.runtime.end_orphans(bench.install) == 1
    assert await asyncio.to_thread(client.list_labelled, f"nanoclaw.install={bench.install}") == []


@pytest.fixture
def full() -> Iterator[Engine]:
    """An engine on a small disk."""
    if reason := missing_for_engine():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="nc-engine-", dir="/var/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "nc-test", str(folder)], check=True)
    made = Engine(folder)
    try:
        made.start().import_image()
        yield made
    finally:
        made.remove()
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


async def test_an_engine_that_is_out_of_disk_says_so_and_works_again_when_there_is_room(
    full: Engine, tmp_path: Path
) -> None:
    bench = make_bench(tmp_path, full, "")
    await (await start(bench, Part.WAITS)).stop(5)
    filler = full.folder / "filler"
    await asyncio.to_thread(fill, filler)
    with pytest.raises(EngineError, match="no space left on device") as caught:
        await bench.start(Part.WAITS, bench.label())
    assert "docker system df" in caught.value.mend
    filler.unlink()
    await (await start(bench, Part.WAITS)).stop(5)
    assert not bench.left()
    await bench.clear_away()


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(MIB))


def make_bench_runtime(bench: DockerBench) -> DockerRuntime:
    """A runtime that has not yet spoken to the engine."""
    return DockerRuntime("", bench.root / "boxes", bench.inputs.interpreter, str(bench.engine.socket))


async def test_a_runtime_that_was_exchanged_under_a_running_host_gives_no_box_another_kernel(
    tmp_path: Path, fragile: Engine
) -> None:
    """An engine takes other programs for its runtimes by a SIGHUP, without a word to anybody."""
    bench = make_bench(tmp_path, fragile, "runsc")
    client, config = Client(fragile.socket), fragile.folder / "daemon.json"
    before, runc = config.read_text(), str(shutil.which("runc"))

    async def told(text: str, *, is_runc: bool) -> None:
        config.write_text(text)
        assert fragile.process is not None
        fragile.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (client.info().runtimes["runsc"].path == runc) is not is_runc:
                await asyncio.sleep(0.05)

    try:
        box = await start(bench, Part.WAITS)
        await box.stop(1)
        await told(json.dumps({"runtimes": {"runsc": {"path": runc}}}), is_runc=True)
        with pytest.raises(SandboxError, match="no kernel of its own"):
            await bench.start(Part.WAITS, bench.label())
        assert bench.left() == []
    finally:
        await told(before, is_runc=False)
        await bench.clear_away()
