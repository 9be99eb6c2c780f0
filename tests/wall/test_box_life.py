"""How boxes begin and end: held, released, stopped, killed, left behind, and dead with their host."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.interpreter import own_interpreter
from nanoclaw.sandbox.records import BoxRecord, BoxRecords, ProcessMark, boot_id, mark_of
from nanoclaw.sandbox.runtimes.base import ExitReason
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.spec import Mount
from tests.wall.conftest import Wall

IS_ROOT = os.geteuid() == 0
WAITS = "import os, sys; os.write(1, b'o'); sys.stdin.read()"
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0: os.setsid()
os.write(1, b"o")
while True: time.sleep(1)
"""


async def test_nothing_of_a_box_runs_before_it_is_released(wall: Wall) -> None:
    box = await wall.runtime.start(wall.spec("open('/workspace/ran', 'w').close()"), wall.label())
    assert not (wall.root / "workspace" / "ran").exists()
    assert box._news.is_set() is False
    box.release()
    assert (await box.wait()).code == 0
    assert (wall.root / "workspace" / "ran").exists()


async def test_a_held_box_can_be_stopped(wall: Wall) -> None:
    box = await wall.runtime.start(wall.spec("open('/workspace/ran', 'w').close()"), wall.label())
    ended = await box.stop(5)
    assert ended.reason in (ExitReason.STOPPED, ExitReason.KILLED)
    assert not (wall.root / "workspace" / "ran").exists()


async def test_doorbells_ring_both_ways(wall: Wall) -> None:
    box = await wall.start("""
        import os, sys
        os.write(1, b"h")
        while os.read(0, 1): os.write(1, b"xo\\x00")
    """)
    heard: list[bytes] = []
    async for bell in box.bells():
        heard.append(bell)
        if len(heard) == 3:
            break
        box.ring()
    assert heard == [b"h", b"o", b"o"]
    assert (await box.stop(5)).code == 0
    assert [bell async for bell in box.bells()] in ([], [b"o"])


async def test_bells_end_when_the_box_is_over(wall: Wall) -> None:
    box = await wall.start("import os; os.write(1, b'ho'); os.close(1)")
    async with asyncio.timeout(10):
        assert {bell async for bell in box.bells()} == {b"o", b"h"}
        assert [bell async for bell in box.bells()] == []
    assert (await box.wait()).code == 0


async def test_a_box_that_floods_its_pipes_slows_only_itself(wall: Wall) -> None:
    box = await wall.start("""
        import os
        if os.fork() == 0:
            while True: os.write(2, b"e" * 65536)
        while True: os.write(1, b"o" * 65536)
    """)
    bells, until = 0, asyncio.get_running_loop().time() + 1
    spent = time.thread_time()
    async for _ in box.bells():
        bells += 1
        if asyncio.get_running_loop().time() > until:
            break
    assert bells < 1500
    assert time.thread_time() - spent < 0.6
    ended = await box.stop(0)
    assert len(ended.stderr_tail) == 16 * 1024


async def test_ringing_never_blocks_and_never_fails(wall: Wall) -> None:
    box = await wall.start("import os, time; os.write(1, b'o'); time.sleep(60)")
    async for _ in box.bells():
        break
    for _ in range(100_000):
        box.ring()
    box.kill()
    await box.wait()
    box.ring()


async def test_stop_lets_a_box_finish_and_kills_one_that_will_not(wall: Wall) -> None:
    polite = await wall.start("import os, sys; os.write(1, b'o'); sys.stdin.read(); sys.stderr.write('bye')")
    async for _ in polite.bells():
        break
    ended = await polite.stop(10)
    assert (ended.code, ended.reason, ended.stderr_tail) == (0, ExitReason.STOPPED, "bye")
    stubborn = await wall.start(STUBBORN)
    async for _ in stubborn.bells():
        break
    family = family_of(stubborn.monitor_pid)
    assert len(family) >= 4
    started = time.monotonic()
    ended = await stubborn.stop(0.2)
    assert ended.reason is ExitReason.KILLED
    assert time.monotonic() - started < 5
    assert not [pid for pid in family if is_alive(pid)]


async def test_many_may_wait_for_one_box(wall: Wall) -> None:
    box = await wall.start("import sys; sys.exit(7)")
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(box.wait()) for _ in range(5)]
    assert {(waiter.result().code, waiter.result().reason) for waiter in waiters} == {(7, ExitReason.EXITED)}
    assert (await box.stop(5)).code == 7


async def test_a_box_whose_monitor_is_killed_is_over_only_when_all_of_it_is(wall: Wall) -> None:
    box = await wall.start(WAITS)
    async for _ in box.bells():
        break
    family = family_of(box.monitor_pid)
    os.kill(box.monitor_pid, signal.SIGKILL)
    ended = await box.wait()
    assert ended.code == 128 + signal.SIGKILL
    assert not [pid for pid in family if is_alive(pid)]


async def test_a_start_that_fails_says_why_and_leaves_nothing(wall: Wall) -> None:
    spec = wall.spec("pass")
    missing = dataclasses.replace(spec, mounts=(*spec.mounts, Mount(wall.root / "gone", "/opt/gone")))
    with pytest.raises(SandboxError, match="gone"):
        await wall.runtime.start(missing, wall.label())
    impossible = dataclasses.replace(spec, mounts=(*spec.mounts, Mount(wall.inputs.home, "/usr/nowhere")))
    # bubblewrap tells the pid before it mounts: on a busy machine the box is there for a moment
    with pytest.raises(SandboxError, match="usr/nowhere"):
        raise SandboxError((await (await wall.runtime.start(impossible, wall.label())).wait()).stderr_tail)
    box = await wall.runtime.start(dataclasses.replace(spec, command=("/no/such/program",)), wall.label())
    box.release()
    ended = await box.wait()
    assert ended.code == 1
    assert "/no/such/program" in ended.stderr_tail


async def test_a_cancelled_start_leaves_nothing(wall: Wall) -> None:
    code = f"{WAITS} # {wall.install}"
    async with asyncio.TaskGroup() as group:
        for milliseconds in range(0, 30, 2):
            task = group.create_task(wall.runtime.start(wall.spec(code), wall.label()))
            asyncio.get_running_loop().call_later(milliseconds / 1000, task.cancel)
    await wall.runtime.close()
    assert not wall.runtime._boxes
    assert not processes_with(wall.install)


async def test_a_missing_bubblewrap_is_said_with_what_mends_it(wall: Wall) -> None:
    runtime = BubblewrapRuntime(wall.root / "boxes", wall.inputs.interpreter, program="bwrap-that-is-not-here")
    with pytest.raises(SandboxError, match="not installed") as caught:
        runtime.check()
    assert "apt install bubblewrap" in caught.value.mend
    with pytest.raises(SandboxError, match="not installed"):
        await runtime.start(wall.spec("pass"), wall.label())


async def test_a_python_that_lives_below_a_closed_folder_runs_in_a_box(wall: Wall) -> None:
    own = own_interpreter()
    if own.prefix is None:
        pytest.skip("this Python lies in /usr; run with one that does not (uv python, pyenv)")
    inputs = dataclasses.replace(wall.inputs, interpreter=own)
    wall.inputs = inputs
    assert (await wall.probe("import sqlite3; say(sys.prefix)")).strip() == "/opt/python"


HOST = """
import asyncio, os, sys
from pathlib import Path
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.spec import *
async def main():
    runtime = BubblewrapRuntime(Path(sys.argv[1]), find_interpreter())
    uid = int(sys.argv[2]) if os.geteuid() == 0 else None
    for number, held in enumerate((False, True)):
        spec = SandboxSpec((), {}, {}, Limits(), ("/bin/sh", "-c", "sleep 300 & sleep 300"), "/", uid, "agent")
        box = await runtime.start(spec, BoxLabel("S", number, sys.argv[3]))
        if not held: box.release()
        print(box.monitor_pid, box.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def start_host(wall: Wall) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Another host of this install, which holds one box and runs one; and their four first processes."""
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(wall.root / "boxes"), str(wall.inputs.host_uid or 0), wall.install],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert host.stdout
    with host.stdout:
        return host, [int(pid) for _ in range(2) for pid in host.stdout.readline().split()]


async def test_boxes_die_with_a_host_that_is_killed(wall: Wall) -> None:
    """The held one never runs; the next host clears away what is left of both."""
    host, (monitor, first, held_monitor, held) = await asyncio.to_thread(start_host, wall)
    running = family_of(monitor)
    assert first in running
    host.kill()
    host.wait()
    await until(lambda: not [pid for pid in (*running, held_monitor) if is_alive(pid)])
    assert len(list((wall.root / "boxes").glob("*.json"))) == 2
    assert family_of(held) in ([held], [])
    assert await wall.runtime.end_orphans(wall.install) == 1
    await until(lambda: not is_alive(held))


async def test_a_held_box_whose_monitor_dies_is_killed_and_never_runs(wall: Wall) -> None:
    box = await wall.runtime.start(wall.spec("open('/workspace/ran', 'w').close()"), wall.label())
    os.kill(box.monitor_pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        assert (await box.wait()).code == 128 + signal.SIGKILL
    box.release()
    assert not is_alive(box.pid)
    assert not (wall.root / "workspace" / "ran").exists()


async def test_only_boxes_of_this_install_that_outlived_their_host_are_ended(wall: Wall) -> None:
    left, reused, foreign = (subprocess.Popen(["/bin/sleep", "300"]) for _ in range(3))
    live = await wall.start(WAITS)
    records = BoxRecords(wall.root / "boxes")
    mark = mark_of(reused.pid)
    assert mark

    def keep(fence: int, install: str, marks: tuple[ProcessMark | None, ...]) -> None:
        known = tuple(mark for mark in marks if mark)
        records.write(BoxRecord(install, "OLD", fence, boot_id(), known, ()))

    keep(1, wall.install, (mark_of(left.pid),))
    keep(2, wall.install, (ProcessMark(reused.pid, mark.started - 1),))  # a pid that came back as something else
    keep(3, "another1", (mark_of(foreign.pid),))
    (wall.root / "boxes" / "torn.json").write_text('{"install": ')
    try:
        assert await wall.runtime.end_orphans(wall.install) == 1
        assert left.wait(timeout=10) == -signal.SIGKILL
        assert reused.poll() is None
        assert foreign.poll() is None
        assert is_alive(live.pid)
        assert [record.fence for record in records.list_of("another1")] == [3]
        records.remove("OLD", 3)
    finally:
        for process in (left, reused, foreign):
            process.kill()
            process.wait()
        await live.stop(5)


async def test_a_process_left_in_a_cgroup_of_this_install_is_ended(wall: Wall) -> None:
    if not wall.runtime.has_cgroups:
        pytest.skip("no cgroup is writable here: run as root")
    left = subprocess.Popen(["/bin/sleep", "300"])
    for hierarchy in wall.runtime._hierarchies:
        folder = hierarchy.folder / f"nanoclaw-{wall.install}" / "OLD-1"
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text(str(left.pid))
    assert await wall.runtime.end_orphans(wall.install) == 1
    assert left.wait(timeout=10) == -signal.SIGKILL


async def test_ten_boxes_leave_no_descriptor_behind(wall: Wall) -> None:
    await wall.run("pass")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(10):
        await wall.run("pass")
    assert sorted(os.listdir("/proc/self/fd")) == before


async def test_ctrl_c_at_the_hosts_terminal_does_not_reach_a_box(wall: Wall) -> None:
    box = await wall.start(WAITS)
    assert os.getpgid(box.monitor_pid) != os.getpgid(0)
    assert os.getsid(box.monitor_pid) != os.getsid(0)
    await box.stop(5)


def family_of(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = [Path(f"/proc/{pid}/task/{task}/children").read_text() for task in os.listdir(f"/proc/{pid}/task")]
    except FileNotFoundError:
        return []
    return [pid, *(member for child in " ".join(children).split() for member in family_of(int(child)))]


def processes_with(word: str) -> list[int]:
    """Processes with a word on their command line."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit() and is_alive(int(name)):
            with contextlib.suppress(OSError):
                if word.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


async def until(holds: object, seconds: float = 10) -> None:
    assert callable(holds)
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)
