"""Where no cgroup bounds memory, the host adds it up: real boxes, and what hides from a sum of the parts."""

from __future__ import annotations

import asyncio

from nanoclaw.log import open_log
from nanoclaw.sandbox.memory_watch import MemoryWatch, list_namespaces, measure_memory
from nanoclaw.sandbox.runtimes.base import ExitReason
from nanoclaw.sandbox.runtimes.process import ProcessBox
from nanoclaw.sandbox.spec import MIB
from tests.wall.conftest import Wall

HOG = """
import os, sys
hog = bytearray(os.urandom(1 << 20)) * 80
os.write(1, b"o")
sys.stdin.read()
"""
FAMILY = """
import os, sys
hog = bytearray(os.urandom(1 << 20)) * 60
for _ in range(3):
    if os.fork() == 0: break
else:
    os.write(1, b"o")
sys.stdin.read()
"""
SPREAD = """
import os, sys, time
readable, writable = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        hog = bytearray(os.urandom(1 << 20)) * 25
        os.write(writable, b"1")
        time.sleep(60)
for _ in range(4): os.read(readable, 1)
os.write(1, b"o")
sys.stdin.read()
"""


async def started(wall: Wall, code: str) -> ProcessBox:
    box = await wall.start(code)
    async for _ in box.bells():
        return box
    raise AssertionError((await box.wait()).stderr_tail)


async def looked_at(wall: Wall, code: str, limit: int) -> ProcessBox:
    box = await started(wall, code)
    watch = MemoryWatch(open_log("error"))
    watch.watch(box, limit)
    await watch.look()
    return box


async def test_a_box_over_its_memory_is_ended_and_it_is_said_why(wall: Wall) -> None:
    box = await looked_at(wall, HOG, 64 * MIB)
    async with asyncio.timeout(10):
        assert (await box.wait()).reason is ExitReason.MEMORY


async def test_a_box_below_its_limit_is_left_alone(wall: Wall) -> None:
    box = await looked_at(wall, HOG, 160 * MIB)
    assert (await box.stop(5)).reason is ExitReason.STOPPED


async def test_what_processes_share_counts_once(wall: Wall) -> None:
    box = await looked_at(wall, FAMILY, 120 * MIB)
    used = await asyncio.to_thread(measure_memory, box.pid, list_namespaces(), 1)
    assert 60 * MIB < used < 110 * MIB
    assert (await box.stop(5)).reason is ExitReason.STOPPED


async def test_memory_spread_over_processes_with_sessions_of_their_own_counts(wall: Wall) -> None:
    box = await looked_at(wall, SPREAD, 80 * MIB)
    async with asyncio.timeout(10):
        assert (await box.wait()).reason is ExitReason.MEMORY


async def test_a_box_that_is_gone_takes_nothing(wall: Wall) -> None:
    box = await wall.start("pass")
    await box.wait()
    assert measure_memory(box.pid, list_namespaces(), 0) == 0
