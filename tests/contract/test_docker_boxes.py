"""What a container box is like from inside, with runc and with gVisor: who it is, what it sees, how it gets out."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.domain.group import Kernel
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.base import BoxExit, ExitReason
from nanoclaw.sandbox.runtimes.docker_start import compare_mounts
from nanoclaw.sandbox.spec import MIB, Mount, SandboxSpec
from tests.contract.test_runtimes_docker import DockerBench, make_bench
from tests.engine import Engine
from tests.wall.conftest import BOX_UID

pytestmark = pytest.mark.ci  # each test starts a container, and their engine takes seconds to start
DEADLINE_SECONDS = 30
SAY = "import os, sys, socket, pwd, time\ndef say(*words): print(*words, file=sys.stderr)\n"


@pytest.fixture(params=["", "runsc"], ids=["runc", "runsc"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path, engine: Engine) -> AsyncIterator[DockerBench]:
    made = make_bench(tmp_path, engine, request.param)
    yield made
    await made.clear_away()


async def run(bench: DockerBench, spec: SandboxSpec) -> BoxExit:
    box = await bench.runtime.start(spec, bench.label())
    box.release()
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await box.wait()


async def said(bench: DockerBench, code: str) -> list[str]:
    """What a program in a box printed; it must end well."""
    ended = await run(bench, bench.program(SAY + code))
    assert ended.code == 0, ended
    return ended.stderr_tail.splitlines()


async def test_a_box_knows_itself_as_the_agent_and_owns_what_it_is_given(bench: DockerBench) -> None:
    lines = await said(
        bench,
        """
say(os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name, os.environ["HOME"], socket.gethostname())
open("/workspace/mine", "w").write("x")
open("/home/agent/mine", "w").write("x")
open("/tmp/mine", "w").write("x")
say(open("/etc/claude-code/CLAUDE.md").read().strip(), sorted(os.listdir("/session/out")))
for path in ("/etc/mine", "/usr/mine", "/session/out/mine", "/etc/hosts", "/run/mine"):
    try: open(path, "a").close(); say("written", path)
    except OSError as error: say(error.errno in (13, 30), path)
""",
    )
    assert lines[0] == f"{BOX_UID} {BOX_UID} agent /home/agent agent"
    assert lines[1] == "be kind ['outbound.db', 'outbound.db-journal', 'outbox']"
    assert all(line.startswith("True") for line in lines[2:]), lines
    assert (bench.root / "workspace" / "mine").stat().st_uid == BOX_UID
    assert (bench.root / "compose" / "hosts").read_text() == "127.0.0.1 localhost agent\n"


async def test_both_ways_out_lead_to_the_listeners_of_this_very_box(bench: DockerBench) -> None:
    code = """
for port in (3128, 443):
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(b"x" * 300_000)
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := sock.recv(65536): got += chunk
        say(port, len(got), got[:4])
"""
    box = await bench.runtime.start(bench.program(SAY + code), bench.label())
    loop = asyncio.get_running_loop()

    async def serve(listener: socket.socket, answer: bytes) -> int:
        taken, _ = await loop.sock_accept(listener)
        with taken:
            count = 0
            while data := await loop.sock_recv(taken, 65536):
                count += len(data)
            await loop.sock_sendall(taken, answer * 100_000)
        return count

    box.release()
    async with asyncio.timeout(DEADLINE_SECONDS):
        counts = [
            await serve(listener, answer) for listener, answer in zip(box.listeners, (b"plain", b"under"), strict=True)
        ]
        ended = await box.wait()
    assert counts == [300_000, 300_000]
    assert ended.stderr_tail.splitlines() == ["3128 500000 b'plai'", "443 500000 b'unde'"]


async def test_a_box_has_no_network_but_its_loopback(bench: DockerBench) -> None:
    lines = await said(
        bench,
        """
say(sorted(name for _, name in socket.if_nameindex()))
for address in ("169.254.169.254", "10.0.0.1", "172.17.0.1", "8.8.8.8"):
    try: socket.create_connection((address, 80), 3); say("reached", address)
    except OSError as error: say(error.errno)
""",
    )
    assert lines[0] == "['lo']"
    assert set(lines[1:]) <= {"101", "113"}  # no network; gVisor says: no host


async def test_a_folder_that_is_swapped_after_the_check_is_never_seen(bench: DockerBench) -> None:
    """What is mounted is the descriptor that was checked, whatever its path leads to by then."""
    checked, planted = bench.root / "photos", bench.root / "secret"
    for folder, word in ((checked, "holiday"), (planted, "vault")):
        folder.mkdir(mode=0o755)
        (folder / "word").write_text(word)
    descriptor = os.open(checked, os.O_PATH | os.O_DIRECTORY)
    checked.rename(bench.root / "moved")
    checked.symlink_to(planted)
    try:
        spec = bench.program(SAY + 'say(open("/opt/extra/photos/word").read())')
        mount = Mount(checked, "/opt/extra/photos", descriptor=descriptor)
        ended = await run(bench, replace(spec, mounts=(*spec.mounts, mount)))
    finally:
        os.close(descriptor)
    assert (ended.code, ended.stderr_tail) == (0, "holiday\n")


async def test_a_mount_that_is_not_what_was_checked_is_seen_before_the_release(bench: DockerBench) -> None:
    """As when somebody swaps a folder in the moment between the check and the engine's mount."""
    checked, mounted = bench.root / "checked", bench.root / "mounted"
    for folder in (checked, mounted):
        folder.mkdir(mode=0o755)
    spec = bench.program("import sys; sys.stdin.read()")
    built = replace(spec, mounts=(*spec.mounts, Mount(mounted, "/opt/extra/photos")))
    box = await bench.runtime.start(built, bench.label())
    for folder, mend in ((mounted, None), (checked, "something else is mounted")):
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        told = replace(spec, mounts=(Mount(folder, "/opt/extra/photos", descriptor=descriptor),))
        with pytest.raises(SandboxError, match=mend) if mend else nullcontext():
            compare_mounts(box.built, told)
        os.close(descriptor)
    await box.stop(5)


async def test_a_box_over_its_memory_ends_and_says_so(bench: DockerBench) -> None:
    spec = bench.program(SAY + "hog = []\nwhile True: hog.append(bytes(1024 * 1024) + os.urandom(1))")
    ended = await run(bench, replace(spec, limits=replace(spec.limits, memory_bytes=128 * MIB)))
    assert ended.reason is ExitReason.MEMORY
    assert ended.out_of_memory_kills > 0
    assert ended.code != 0


async def test_a_box_that_floods_its_streams_only_slows_itself(bench: DockerBench) -> None:
    """While one writes without end, the loop is never blocked (tests/conftest.py) and another is served at once."""
    flood = await bench.runtime.start(
        bench.program("import os\nwhile True: os.write(1, b'h' * 65536); os.write(2, b'e' * 65536)"), bench.label()
    )
    flood.release()
    async with asyncio.timeout(DEADLINE_SECONDS):
        lines = await said(bench, 'say("served")')
        ended = await flood.stop(0.2)
    assert lines == ["served"]
    assert ended.reason is ExitReason.KILLED
    assert len(ended.stderr_tail) <= 16 * 1024


async def test_what_a_box_takes_is_counted_while_it_lives(bench: DockerBench) -> None:
    box = await bench.runtime.start(
        bench.program("import os, sys\nhog = os.urandom(32 << 20); os.write(1, b'o'); sys.stdin.read()"), bench.label()
    )
    box.release()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await anext(box.bells())
    usage = await box.measure()
    assert usage.memory_bytes is not None
    assert usage.memory_bytes > 32 * MIB
    assert usage.processes
    assert usage.cpu_seconds
    assert await bench.runtime.list_boxes(bench.install) == [box.label]
    await box.stop(5)
    assert (await box.measure()).memory_bytes is None
    assert await bench.runtime.list_boxes(bench.install) == []


async def test_every_process_of_a_box_is_without_rights_seen_from_outside(bench: DockerBench) -> None:
    """gVisor's own processes are its wall, not in it; there the box's are asked inside."""
    show = "say([line for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapBnd', 'NoNewPrivs'))])"
    inside = await said(bench, show)
    assert "0000000000000000" in inside[0]
    if bench.runtime.kernel is Kernel.SEPARATE:
        return
    box = await bench.runtime.start(
        bench.program(
            "import os, sys, subprocess\nsubprocess.Popen(['sleep', '60']); os.write(1, b'o'); sys.stdin.read()"
        ),
        bench.label(),
    )
    box.release()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await anext(box.bells())
    assert box.built.cgroup is not None
    pids = box.built.cgroup.processes()
    assert len(pids) == 3  # the gate, the command, its child
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert set(status["Uid"].split()) == {str(BOX_UID)}
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
    await box.stop(5)


async def test_orphans_of_a_box_are_taken_in_by_its_first_process(bench: DockerBench) -> None:
    lines = await said(
        bench,
        """
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0: os._exit(0)
        os._exit(0)
    os.wait()
deadline = time.monotonic() + 5
def zombies():
    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try: found += open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
        except OSError: pass
    return found
while zombies() and time.monotonic() < deadline: time.sleep(0.01)
say(zombies())
""",
    )
    assert lines == ["0"]
