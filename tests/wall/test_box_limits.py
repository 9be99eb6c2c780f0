"""What a box may use: memory, processes, files, space. A box over a limit is ended or refused, and it is said which."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from nanoclaw.clock import SystemClock
from nanoclaw.log import open_log
from nanoclaw.sandbox.runtimes.base import ExitReason
from nanoclaw.sandbox.spec import MIB, Limits
from nanoclaw.sandbox.watchdog import DiskWatchdog, measure
from tests.wall.conftest import Wall

FORK_BOMB = """
import os, sys, time
children = 0
try:
    while children < 2000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        children += 1
except OSError:
    pass
sys.stderr.write(str(children))
"""


async def test_a_fork_bomb_is_bounded(wall: Wall) -> None:
    code, limits = FORK_BOMB, Limits(processes=100)
    if not wall.runtime.has_cgroups:  # then the runner sets this limit from its settings, as here
        code = "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))\n" + code
    ended = await wall.run(code, limits)
    assert 50 < int(ended.stderr_tail) < 100
    assert ended.code == 0  # its first process ends, and every other with it


async def test_a_memory_hog_is_killed_and_named(wall: Wall) -> None:
    if not wall.runtime.has_cgroups:
        pytest.skip("no cgroup is writable here, so nothing bounds memory: run as root")
    ended = await wall.run("hog = [bytearray(1 << 20) for _ in range(1000)]", Limits(memory_bytes=64 * MIB))
    assert ended.reason is ExitReason.MEMORY
    assert ended.out_of_memory_kills >= 1
    assert ended.code == 137


async def test_a_hog_inside_leaves_the_box_alive(wall: Wall) -> None:
    if not wall.runtime.has_cgroups:
        pytest.skip("no cgroup is writable here, so nothing bounds memory: run as root")
    hog = "[sys.executable, '-I', '-S', '-c', 'hog = [bytearray(1 << 20) for _ in range(1000)]']"
    ended = await wall.run(
        f"import subprocess, sys; sys.exit(subprocess.run({hog}).returncode != -9)", Limits(memory_bytes=96 * MIB)
    )
    assert (ended.code, ended.reason, ended.out_of_memory_kills) == (0, ExitReason.EXITED, 1)


async def test_a_file_cannot_grow_over_its_limit(wall: Wall) -> None:
    ended = await wall.run(
        """
        import signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open("/workspace/big", "wb", buffering=0) as big:
            try:
                for _ in range(64): big.write(bytes(1 << 20))
            except OSError as error: sys.stderr.write(str(error.errno))
        """,
        Limits(file_bytes=8 * MIB),
    )
    assert ended.stderr_tail == "27"  # EFBIG
    assert (wall.root / "workspace" / "big").stat().st_size == 8 * MIB


async def test_no_tmpfs_grows_over_its_size(wall: Wall) -> None:
    ended = await wall.run(
        """
        import sys
        for folder in ("/tmp", "/dev/shm"):
            written = 0
            with open(folder + "/big", "wb", buffering=0) as big:
                try:
                    while written < 512: big.write(bytes(1 << 20)); written += 1
                except OSError as error: pass
            sys.stderr.write(f"{written} ")
        """,
        Limits(tmp_bytes=16 * MIB),
    )
    assert ended.stderr_tail.split() == ["16", "64"]


async def test_open_files_and_core_dumps_are_limited(wall: Wall) -> None:
    said = await wall.probe("""
        import resource
        say(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE))
        try: resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192)); say("RAISED")
        except (OSError, ValueError): pass
    """)
    assert said.strip() == "(4096, 4096) (0, 0)"


async def test_a_box_that_fills_its_workspace_is_ended_and_named(wall: Wall) -> None:
    box = await wall.start("""
        import os, sys
        for number in range(40):
            with open(f"/workspace/{number}", "wb") as file: file.write(os.urandom(1 << 20)); os.fsync(file)
        os.write(1, b"o")
        sys.stdin.read()
    """)
    watchdog = DiskWatchdog(SystemClock(), open_log("error"))
    watchdog.watch(box, [wall.inputs.workspace, wall.inputs.home, wall.inputs.outbox], 20 * MIB)
    async for _ in box.bells():
        break
    await watchdog.look()
    async with asyncio.timeout(20):
        assert (await box.wait()).reason is ExitReason.DISK


async def test_the_watchdog_looks_by_itself_until_it_is_stopped(wall: Wall) -> None:
    box = await wall.start("open('/workspace/big', 'wb').write(bytes(1 << 20)); import sys; sys.stdin.read()")
    watchdog, stop = DiskWatchdog(SystemClock(), open_log("error")), asyncio.Event()
    watchdog.watch(box, [wall.inputs.workspace], 0)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(watchdog.run(stop))
        assert (await box.wait()).reason is ExitReason.DISK
        stop.set()


async def test_a_box_within_its_disk_limit_is_left_alone(wall: Wall) -> None:
    box = await wall.start("import os, sys; os.write(1, b'o'); sys.stdin.read()")
    watchdog = DiskWatchdog(SystemClock(), open_log("error"))
    watchdog.watch(box, [wall.inputs.workspace], 20 * MIB)
    await watchdog.look()
    await watchdog.look()
    assert (await box.stop(5)).reason is ExitReason.STOPPED


async def test_the_size_of_a_hostile_folder_is_measured(wall: Wall) -> None:
    (wall.root / "outside").mkdir()
    (wall.root / "outside" / "big").write_bytes(os.urandom(4 * MIB))
    ended = await wall.run(f"""
        import os
        os.symlink({str(wall.root / "outside")!r}, "/workspace/link")
        os.symlink("/workspace", "/workspace/loop")
        os.mkfifo("/workspace/fifo")
        with open("/workspace/one", "wb") as file: file.write(os.urandom(1 << 20)); os.fsync(file)
        os.link("/workspace/one", "/workspace/same")
        os.mkdir("/workspace/shut"); open("/workspace/shut/two", "wb").write(os.urandom(1 << 20)); os.sync()
        os.chmod("/workspace/shut", 0)
        with open("/workspace/sparse", "wb") as file: file.truncate(1 << 30)
    """)
    assert ended.code == 0, ended
    usage = await asyncio.to_thread(measure, wall.inputs.workspace)
    assert usage.is_whole
    assert 2 * MIB <= usage.used_bytes < 2.2 * MIB


async def test_a_folder_too_deep_to_count_is_over_any_limit(wall: Wall) -> None:
    ended = await wall.run("""
        import os
        os.chdir("/workspace")
        for _ in range(1200): os.mkdir("deep"); os.chdir("deep")
    """)
    assert ended.code == 0, ended
    assert not (await asyncio.to_thread(measure, wall.inputs.workspace)).is_whole


async def test_a_cgroup_of_the_box_is_gone_with_it(wall: Wall) -> None:
    box = await wall.start("import sys; sys.stdin.read()")
    folders = [Path(path) for path in box._cgroup.paths]
    if not folders:
        pytest.skip("no cgroup is writable here: run as root")
    assert all(str(box.pid) in (folder / "cgroup.procs").read_text().split() for folder in folders)
    await box.stop(0)
    assert not any(folder.exists() for folder in folders)
