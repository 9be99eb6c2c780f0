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
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from nanoclaw.clock import SystemClock
from nanoclaw.log import open_log
from nanoclaw.sandbox.interpreter import Interpreter, find_interpreter
from nanoclaw.sandbox.runtimes.base import Box, BoxExit, BoxLabel, Runtime
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.spec import MIB, Limits, Mount, SandboxSpec, build_spec
from nanoclaw.sandbox.watchdog import DiskWatchdog
from tests.wall.conftest import BOX_UID, make_inputs
from tests.wall.plants import Plants
from tests.wall.probes.frame import BROKEN, CONTAINED, Facts, Seen
from tests.wall.probes.run import RESOURCES, every_probe

IN_BOX = "/opt/probes"
BOX_SECONDS = 120.0
SMALL = Limits(
    memory_bytes=64 * MIB,
    processes=32,
    open_files=128,
    file_bytes=8 * MIB,
    tmp_bytes=8 * MIB,
    cpu_cores=0.5,
    disk_bytes=24 * MIB,
)
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
            "var_tmp_bytes": 64 * MIB,
            "install": self.install,
            "cgroups": ["user.slice", "system.slice", "init.scope", "docker"],
            "ports": [3128, 443],
            "other_ports": [],
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


LIMIT_NAMES = tuple(each.name for each in dataclasses.fields(Limits))
IGNORED = shutil.ignore_patterns("__pycache__")
Change = Callable[[SandboxSpec, Facts], SandboxSpec]


class BoxWall:
    """A wall of the product's: the real spec of a run, with the probes in the runner's place."""

    def __init__(self, home: Home, runtime: Runtime, change: Change | None = None) -> None:
        self.home, self.runtime, self._change = home, runtime, change
        self._interpreter: Interpreter = find_interpreter()

    async def run(self, wanted: str, limits: Limits, told: Limits | None = None) -> tuple[Results, BoxExit]:
        """Run `wanted` (all, or one name) in a fresh box of these limits; the probes are told `told`."""
        home = self.home
        home.runs += 1
        from nanoclaw.sandbox.inbound import RunRow
        from nanoclaw.sandbox.mailbox import create_mailbox

        root = home.root / f"group-{home.runs}"
        root.mkdir(mode=0o755)
        gid = BOX_UID if os.geteuid() == 0 else -1
        mailbox = create_mailbox(root / "1", RunRow(1, "01TESTSESSION", "{}"), BOX_UID, gid)
        inputs = dataclasses.replace(make_inputs(root, mailbox), limits=limits)
        facts = home.facts("/session/out/outbox/results", "/workspace", told or limits)
        staged = home.stage(facts)
        inputs = dataclasses.replace(inputs, extra=(Mount(staged, IN_BOX),))
        command = (inputs.interpreter.in_box, "-I", "-S", IN_BOX, f"{IN_BOX}/facts.json", wanted)
        spec = dataclasses.replace(build_spec(inputs), command=command)
        if self._change is not None:
            spec = self._change(spec, facts)
        box = await self.runtime.start(spec, BoxLabel("01TESTSESSION", home.runs, home.install))
        box.release()
        ended = await self._wait(box, [inputs.workspace, inputs.home], limits.disk_bytes)
        return read_results(mailbox.outbox / "results"), ended

    async def _wait(self, box: Box, folders: list[Path], disk_bytes: int) -> BoxExit:
        """Wait for the box's end with the host's watchdog beside it."""
        watchdog = DiskWatchdog(SystemClock(), open_log("error"))
        watchdog.watch(box, folders, disk_bytes)
        over = asyncio.ensure_future(box.wait())
        try:
            async with asyncio.timeout(BOX_SECONDS):
                while not (await asyncio.wait((over,), timeout=1.0))[0]:
                    await watchdog.look()
        except TimeoutError:
            box.kill()
        return await over

    async def close(self) -> None:
        await self.runtime.close()


def read_results(path: Path) -> Results:
    results: Results = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            results[found["name"]] = Seen(found["verdict"], found["seen"])
    return results


async def every_result(wall: BoxWall, only: str = "", small: Limits = SMALL, told: Limits | None = None) -> Results:
    """Run everything: one box for all probes, one small box for each of resources."""
    results: Results = {}
    normal = [each for family, each in every_probe() if family != RESOURCES]
    if not only or only in [each.name for each in normal]:
        said, ended = await wall.run(only or "all", Limits())
        results |= said
        if len(said) < (1 if only else len(normal)):
            raise AssertionError(f"only {len(said)} probes answered: {ended}")
    for family, each in every_probe():
        if family == RESOURCES and only in ("", each.name):
            said, ended = await wall.run(each.name, small, told)
            why = f"the whole box was ended ({ended.reason}, {ended.code})"
            results[each.name] = said.get(each.name) or Seen(CONTAINED, why)
    return results


def naked(home: Home, user: int) -> Results:
    """Run the probes with no wall at all, as a normal process of a user: what each must call broken."""
    home.runs += 1
    own = home.root / f"naked-{home.runs}"
    own.mkdir(mode=0o700)
    os.chown(own, user, -1)
    facts = home.facts(str(own / "results"), str(own), WIDE)
    staged = home.stage(facts)
    command = ["/usr/bin/python3", "-I", "-S", str(staged), str(staged / "facts.json"), "all"]
    plain = subprocess.PIPE if user else subprocess.DEVNULL
    subprocess.run(command, user=user, stdin=subprocess.DEVNULL, stdout=plain, stderr=plain, env={}, check=True)
    return read_results(own / "results")


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
        return await every_result(wall, words.only)
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


def main() -> None:
    words = parse_words()
    if words.wall == "none":
        users = [BOX_UID, 0] if os.geteuid() == 0 else [BOX_UID]

        async def without(home: Home) -> Results:
            found: Results = {}
            for user in users:
                said = await asyncio.to_thread(naked, home, user)
                found |= {name: seen for name, seen in said.items() if seen.verdict == BROKEN or name not in found}
            return found

        write(words.into, asyncio.run(in_home(without)))
        return
    write(words.into, asyncio.run(in_home(lambda home: over_wall(home, words))))


if __name__ == "__main__":
    sys.exit(main())
