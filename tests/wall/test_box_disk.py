"""Tricks that hide what a box takes of the disk, or make the host pay for counting it."""

from __future__ import annotations

import asyncio
import os
import tracemalloc

from nanoclaw.clock import SystemClock
from nanoclaw.log import open_log
from nanoclaw.sandbox.runtimes.base import ExitReason
from nanoclaw.sandbox.spec import MIB
from nanoclaw.sandbox.watchdog import DiskWatchdog, measure, measure_unnamed
from tests.wall.conftest import Wall


async def test_files_held_open_without_a_name_count_against_the_disk_limit(wall: Wall) -> None:
    box = await wall.start("""
        import os, sys
        for number in range(2):
            file = os.open(f"/workspace/{number}", os.O_RDWR | os.O_CREAT)
            os.unlink(f"/workspace/{number}")
            os.posix_fallocate(file, 0, 12 << 20)
        os.write(1, b"o")
        sys.stdin.read()
    """)
    async for _ in box.bells():
        break
    device = wall.inputs.workspace.stat().st_dev
    assert measure_unnamed(box.pid, device).used_bytes >= 24 * MIB
    assert measure_unnamed(box.pid, device + 1).used_bytes == 0
    watchdog = DiskWatchdog(SystemClock(), open_log("error"))
    watchdog.watch(box, [wall.inputs.workspace], 20 * MIB)
    await watchdog.look()
    async with asyncio.timeout(20):
        assert (await box.wait()).reason is ExitReason.DISK


async def test_a_folder_of_very_many_names_is_counted_without_holding_them(wall: Wall) -> None:
    ended = await wall.run("""
        import os
        open("/workspace/one", "w").close()
        os.mkdir("/workspace/many")
        for number in range(8_000): os.link("/workspace/one", f"/workspace/many/{number:0200}")
    """)
    assert ended.code == 0, ended
    tracemalloc.start()
    try:
        usage = await asyncio.to_thread(measure, wall.inputs.workspace)
        assert usage.is_whole
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


async def test_a_box_that_is_gone_holds_nothing(wall: Wall) -> None:
    box = await wall.start("pass")
    await box.wait()
    assert measure_unnamed(box.pid, os.stat("/").st_dev).used_bytes == 0


async def test_boxes_that_share_a_workspace_are_told_apart_by_what_each_holds(wall: Wall) -> None:
    hold = "import os, sys; f = os.open('/workspace/held', os.O_RDWR | os.O_CREAT); os.unlink('/workspace/held')"
    hog = await wall.start(f"{hold}; os.posix_fallocate(f, 0, 24 << 20); os.write(1, b'o'); sys.stdin.read()")
    meek = await wall.start("import os, sys; os.write(1, b'o'); sys.stdin.read()")
    watchdog = DiskWatchdog(SystemClock(), open_log("error"))
    for box in (hog, meek):
        async for _ in box.bells():
            break
        watchdog.watch(box, [wall.inputs.workspace], 20 * MIB)
    await watchdog.look()
    async with asyncio.timeout(20):
        assert (await hog.wait()).reason is ExitReason.DISK
    assert (await meek.stop(5)).reason is ExitReason.STOPPED


async def test_a_workspace_that_is_gone_does_not_stop_the_watchdog(wall: Wall) -> None:
    box = await wall.start("import sys; sys.stdin.read()")
    watchdog = DiskWatchdog(SystemClock(), open_log("error"))
    watchdog.watch(box, [wall.inputs.workspace.with_name("never-there")], 20 * MIB)
    await watchdog.look()
    box.kill()
    assert (await box.wait()).reason is ExitReason.KILLED
