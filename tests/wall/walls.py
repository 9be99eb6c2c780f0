"""One program that runs the probes over one wall and writes what they said: `python -m tests.wall.walls FILE ...`.

It is a program of its own so that the same wall can be built by root and by a normal user, and so that what it plants
is what a host would have: everything is planted by this process's own user. `--only NAME` keeps one probe.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from nanoclaw.clock import SystemClock
from nanoclaw.domain.group import Kernel
from nanoclaw.log import open_log
from nanoclaw.sandbox.inbound import RunRow
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.mailbox import create_mailbox
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.runtimes.base import Box, BoxExit, BoxLabel, BoxUsage, ExitReason, Hold, Runtime
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.spec import MIB, BoxInputs, Limits, Mount, SandboxSpec, build_spec
from nanoclaw.sandbox.watchdog import DiskWatchdog
from tests.wall.conftest import BOX_UID, make_inputs
from tests.wall.plants import Plants
from tests.wall.probes.frame import BROKEN, CONTAINED, HELD, Facts, Seen
from tests.wall.probes.run import RESOURCES, STARTED, every_probe

IN_BOX = "/opt/probes"
OWN_KERNEL, PROCESSORS = "kernel of its own", "processors"
BOX_SECONDS = 60.0
LOOK_SECONDS = 0.4
SMALL = Limits(
    memory_bytes=64 * MIB,
    processes=32,
    open_files=128,
    file_bytes=8 * MIB,
    tmp_bytes=8 * MIB,
    cpu_cores=0.5,
    disk_bytes=24 * MIB,
)
# gVisor's own threads and memory count against the box's cgroup: with less than this it does not start at all.
SMALL_OF = {"docker:runsc": dataclasses.replace(SMALL, memory_bytes=256 * MIB, processes=512)}
WIDE = Limits(
    memory_bytes=900 * MIB,
    processes=400,
    open_files=4096,
    file_bytes=900 * MIB,
    tmp_bytes=200 * MIB,
    cpu_cores=2.0,
    disk_bytes=2048 * MIB,
)
Results = dict[str, Seen]


@dataclass
class Home:
    """A group's folders, the planted things, and the probes, below a folder that any uid may enter."""

    root: Path
    plants: Plants
    install: str = field(default_factory=lambda: secrets.token_hex(4))
    runs: int = 0

    def facts(self, results: str, own_folder: str, limits: Limits) -> Facts:
        return {
            **self.plants.facts,
            "results": results,
            "own_folder": own_folder,
            "limits": {name: getattr(limits, name) for name in LIMIT_NAMES},
            "runner_processes": 0,
            "var_tmp_bytes": 64 * MIB,
            "install": self.install,
            "cgroups": ["user.slice", "system.slice", "init.scope", "docker"],
            "ports": [3128, 443],
            "other_ports": [NEIGHBOUR_PORT],
        }

    def stage(self, facts: Facts) -> Path:
        """Copy the probes with their facts to where a box's uid can read them."""
        folder = self.root / f"stage-{self.runs}"
        shutil.copytree(Path(__file__).parent / "probes", folder / "tests/wall/probes", ignore=IGNORED)
        (folder / "__main__.py").write_text("from tests.wall.probes.run import main\n\nmain()\n")
        (folder / "facts.json").write_text(json.dumps(facts))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder


NEIGHBOUR_PORT = 45999
NEIGHBOUR = f"""
import os, socket, sys
server = socket.create_server(("127.0.0.1", {NEIGHBOUR_PORT}))
os.write(1, b"o")
sys.stdin.read()
"""
LIMIT_NAMES = tuple(each.name for each in dataclasses.fields(Limits))
IGNORED = shutil.ignore_patterns("__pycache__")
NONE = Seen("", "")
Change = Callable[[SandboxSpec, Facts], SandboxSpec]


class BoxWall:
    """A wall of the product's: the real spec of a run, with the probes in the runner's place."""

    def __init__(self, home: Home, runtime: Runtime, change: Change | None = None) -> None:
        self.home, self.runtime, self._change = home, runtime, change
        self._used: list[tuple[float, float]] = []

    async def run(self, wanted: str, limits: Limits, told: Limits | None = None) -> tuple[Results, BoxExit]:
        """Run `wanted` (all, or one name) in a fresh box of these limits; the probes are told `told`."""
        inputs = self._inputs(limits)
        facts = self.home.facts("/session/out/outbox/results", "/workspace", told or limits)
        facts["runner_processes"] = limits.processes
        inputs = dataclasses.replace(inputs, extra=(Mount(self.home.stage(facts), IN_BOX),))
        self._used.clear()
        box = await self._start(inputs, ("-I", "-S", IN_BOX, f"{IN_BOX}/facts.json", wanted), facts)
        ended = await self._wait(box, [inputs.workspace, inputs.home], limits)
        return read_results(inputs.outbox / "results"), ended

    async def start_neighbour(self) -> Box:
        """Start a box of another group that listens on its own loopback."""
        facts = self.home.facts("", "", Limits())
        box = await self._start(self._inputs(Limits()), ("-I", "-S", "-c", NEIGHBOUR), facts)
        async for _ in box.bells():
            break
        return box

    def _inputs(self, limits: Limits) -> BoxInputs:
        """Make the folders of a new group."""
        self.home.runs += 1
        root = self.home.root / f"group-{self.home.runs}"
        root.mkdir(mode=0o755)
        gid = BOX_UID if os.geteuid() == 0 else -1
        mailbox = create_mailbox(root / "1", RunRow(1, "01TESTSESSION", "{}"), BOX_UID, gid)
        return dataclasses.replace(make_inputs(root, mailbox), limits=limits)

    async def _start(self, inputs: BoxInputs, words: tuple[str, ...], facts: Facts) -> Box:
        spec = dataclasses.replace(build_spec(inputs), command=(inputs.interpreter.in_box, *words))
        if self._change is not None:
            spec = self._change(spec, facts)
        box = await self.runtime.start(spec, BoxLabel("01TESTSESSION", self.home.runs, self.home.install))
        box.release()
        return box

    async def _wait(self, box: Box, folders: list[Path], limits: Limits) -> BoxExit:
        """Wait for the box's end with the host's watches beside it, as flow has them."""
        memory = MemoryWatch(open_log("error"))
        if self.hold_of("memory") is not Hold.KERNEL:
            memory.watch(box, limits.memory_bytes)
        watchdog = DiskWatchdog(SystemClock(), open_log("error"))
        watchdog.watch(box, folders, limits.disk_bytes)
        over = asyncio.ensure_future(box.wait())
        try:
            async with asyncio.timeout(BOX_SECONDS):
                while not (await asyncio.wait((over,), timeout=LOOK_SECONDS))[0]:
                    await watchdog.look()
                    await memory.look()
                    self._note(await box.measure())
        except TimeoutError:
            box.kill()
        return await over

    def hold_of(self, name: str) -> Hold:
        """Return what keeps a limit here, by the runtime's own table."""
        return next(each.hold for each in self.runtime.capabilities() if each.name == name)

    def _note(self, usage: BoxUsage) -> None:
        if usage.cpu_seconds is not None:
            self._used.append((time.monotonic(), usage.cpu_seconds))

    def cores_used(self) -> float | None:
        """Return what the last box used of the processors, by the host's own count: a kernel inside may count wrong."""
        if len(self._used) < 3:
            return None
        (began, first), (ended, last) = self._used[0], self._used[-1]
        return (last - first) / (ended - began)

    async def close(self) -> None:
        await self.runtime.close()


def read_results(path: Path) -> Results:
    results: Results = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            results[found["name"]] = Seen(found["verdict"], found["seen"])
    return results


async def every_result(wall: BoxWall, only: str = "", small: Limits = SMALL) -> Results:
    """Run everything: one box for all probes, one small box for each of resources."""
    results: Results = {}
    normal = [each for family, each in every_probe() if family != RESOURCES]
    if only in ("", "all") or only in [each.name for each in normal]:
        neighbour = await wall.start_neighbour()
        said, ended = await wall.run(only or "all", Limits())
        await neighbour.stop(5)
        said.pop(STARTED, None)
        results |= said
        if len(said) < (len(normal) if only in ("", "all") else 1):
            raise AssertionError(f"only {len(said)} probes answered: {ended}")
    for family, each in every_probe():
        if family == RESOURCES and only in ("", each.name):
            said, ended = await wall.run(each.name, small)
            if not said.pop(STARTED, None):
                raise AssertionError(f"the box of {each.name!r} ended before it began: {ended}")
            why = f"the whole box was ended ({ended.reason}, {ended.code})"
            is_late = ended.reason is ExitReason.KILLED  # by us alone, after BOX_SECONDS: nothing has stopped it
            results[each.name] = said.get(each.name) or Seen(BROKEN if is_late else CONTAINED, why)
            if each.name == PROCESSORS and wall.hold_of("cpu") is Hold.NONE:
                results[each.name] = Seen(BROKEN, "nothing keeps it here")  # on a busy machine the probe may see less
            elif each.name == PROCESSORS and (cores := wall.cores_used()) is not None:
                within = cores <= small.cpu_cores * 1.6
                results[each.name] = Seen(HELD if within else BROKEN, f"{cores:.2f} cores, {small.cpu_cores} allowed")
    return in_own_kernel(results) if wall.runtime.kernel is Kernel.SEPARATE else results


def in_own_kernel(results: Results) -> Results:
    """What a kernel of the box's own gave away reaches no further than the box; only where it is seen to be its own."""
    asks_kernel = {each.name for _, each in every_probe() if each.kernel}
    if (own := results.get(OWN_KERNEL)) is not None and own.verdict != HELD:
        raise AssertionError(f"a runtime with a kernel of its own has none: {own}")
    return {
        name: Seen(CONTAINED, f"in its own kernel: {seen.what}")
        if seen.verdict == BROKEN and name in asks_kernel
        else seen
        for name, seen in results.items()
    }


def naked(home: Home, user: int) -> Results:
    """Run the probes with no wall at all, as a normal process of a user: what each must call broken."""
    home.runs += 1
    own = home.root / f"naked-{home.runs}"
    own.mkdir(mode=0o700)
    os.chown(own, user, -1)
    facts = home.facts(str(own / "results"), str(own), WIDE)
    facts["other_ports"] = [facts["tcp_loopback"]]
    staged = home.stage(facts)
    command = ["/usr/bin/python3", "-I", "-S", str(staged), str(staged / "facts.json"), "all"]
    _main, terminal = os.openpty()
    _near, line = socket.socketpair()
    folder = os.open(home.root, os.O_RDONLY)
    with (home.root / "output").open("wb") as output:
        stdin = line.fileno() if user else terminal
        subprocess.run(
            command, user=user, stdin=stdin, stdout=output, stderr=output, pass_fds=(folder,), env={}, check=True
        )
    said = read_results(own / "results")
    said.pop(STARTED, None)
    return said


def parse_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("into", type=Path)
    parser.add_argument("--wall", default="bubblewrap")
    parser.add_argument("--engine", default="")
    parser.add_argument("--image", default="")
    parser.add_argument("--only", default="")
    return parser.parse_args()


def make_wall(home: Home, words: argparse.Namespace) -> BoxWall:
    interpreter = find_interpreter()
    if words.wall == "bubblewrap":
        return BoxWall(home, BubblewrapRuntime(home.root / "boxes", interpreter))
    from nanoclaw.sandbox.runtimes.docker import DockerRuntime

    oci = words.wall.partition(":")[2]
    runtime = DockerRuntime(oci, home.root / "boxes", interpreter, words.engine)
    return BoxWall(home, runtime, lambda spec, _: dataclasses.replace(spec, image=words.image))


async def over_wall(home: Home, words: argparse.Namespace) -> Results:
    wall = make_wall(home, words)
    await asyncio.to_thread(wall.runtime.check)
    try:
        return await every_result(wall, words.only, SMALL_OF.get(words.wall, SMALL))
    finally:
        await wall.close()


async def in_home(work: Callable[[Home], Awaitable[Results]]) -> Results:
    """Make a home with everything planted, do the work, take it all away."""
    root = Path(tempfile.mkdtemp(prefix="nanoclaw-wall-", dir="/var/tmp" if os.geteuid() == 0 else None))
    root.chmod(0o755)
    plants = Plants(root, BOX_UID)
    try:
        return await work(Home(root, plants))
    finally:
        plants.close()
        shutil.rmtree(root, ignore_errors=True)


def write(into: Path, results: Results) -> None:
    told = {name: [seen.verdict, seen.what] for name, seen in results.items()}
    into.write_text(json.dumps(told, indent=1), encoding="utf-8")


def merge_broken(into: Results, said: Results) -> None:
    """Keep, of two runs, the worse verdict."""
    for name, seen in said.items():
        if seen.verdict == BROKEN or name not in into:
            into[name] = seen


async def weak_walls(home: Home) -> Results:
    """Return for each probe whether some weak wall breaks it, and which."""
    from tests.wall.weak import every_weak_wall

    found: Results = {}
    for name, said in (await every_weak_wall(home)).items():
        marked = {each: dataclasses.replace(seen, what=f"{name}: {seen.what}") for each, seen in said.items()}
        merge_broken(found, {each: seen for each, seen in marked.items() if found.get(each, NONE).verdict != BROKEN})
    return found


def main() -> None:
    words = parse_words()
    work = weak_walls if words.wall == "weak" else lambda home: over_wall(home, words)
    write(words.into, asyncio.run(in_home(work)))


if __name__ == "__main__":
    sys.exit(main())
