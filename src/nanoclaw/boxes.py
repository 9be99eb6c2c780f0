"""What every box of this host is built from, put together: runtimes, interpreter, limits, watchdog.

In: the means of the host and its gateway. Out: `BoxParts` (flow/start.py).
Fails: OperatorError with what mends it, when no box can be started here at all.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from nanoclaw.children import SOURCE
from nanoclaw.config import Config
from nanoclaw.domain.group import GroupConfig
from nanoclaw.domain.limits import Limits
from nanoclaw.errors import OperatorError, SandboxError
from nanoclaw.flow.folders import GroupFolders
from nanoclaw.flow.means import Means
from nanoclaw.flow.outside import OutsideFiles
from nanoclaw.flow.proof import BoxTrials, Prover
from nanoclaw.flow.seats import Seats, decide_seat_count
from nanoclaw.flow.skills import make_shelf
from nanoclaw.flow.start import BoxParts
from nanoclaw.gateway.client import GatewayClient
from nanoclaw.sandbox.allowlist import FILE, AllowlistFile
from nanoclaw.sandbox.folders import Folders
from nanoclaw.sandbox.interpreter import Interpreter, find_interpreter
from nanoclaw.sandbox.machine import read_free_memory_mb, read_total_memory_mb
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.packages import PackageBuilder
from nanoclaw.sandbox.packages_box import BuildParts, FolderBuilder
from nanoclaw.sandbox.packages_image import ImageBuilder
from nanoclaw.sandbox.prove import Watches
from nanoclaw.sandbox.runtimes.apple import AppleRuntime
from nanoclaw.sandbox.runtimes.base import Runtime
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.runtimes.registry import Factory, Runtimes
from nanoclaw.sandbox.watchdog import DiskWatchdog

BUILT_IN = "bubblewrap"


def find_agent_binary(config: Config) -> Path | None:
    """Return the Claude CLI of the `claude-agent-sdk` wheel, else the one on PATH."""
    for folder in sys.path:
        bundled = Path(folder) / "claude_agent_sdk" / "_bundled" / "claude"
        if bundled.is_file():
            return bundled
    found = shutil.which("claude", path=config.search_path)
    return Path(found) if found else None


def make_runtimes(config: Config, interpreter: Interpreter) -> Runtimes:
    """Return the runtimes there are, none of them tried. From the loop's thread."""
    records, settings = config.paths.data / "boxes", config.settings

    def make_docker(oci: str) -> Runtime:
        return DockerRuntime(oci, records, interpreter, settings.engine_socket, config.engine_places)

    def alone(name: str, make: Callable[[], Runtime]) -> Factory:
        def make_one(oci: str) -> Runtime:
            if oci:  # two of one kind would take each other's boxes for orphans
                raise SandboxError(f"{name} has no runtimes of its own to choose from: {name}, not {name}:{oci}.")
            return make()

        return make_one

    factories: dict[str, Factory] = {
        BUILT_IN: alone(BUILT_IN, lambda: BubblewrapRuntime(records, interpreter)),
        "docker": make_docker,
        "apple": alone("apple", AppleRuntime),
    }
    return Runtimes(factories, settings.runtime, config.paths.data / "runtimes-used")


async def find_sandbox(means: Means) -> tuple[Runtimes, Interpreter]:
    """Return what starts boxes here; the one that boxes get by default was tried. Raises OperatorError."""
    try:
        interpreter = find_interpreter()
        runtimes = make_runtimes(means.config, interpreter)
        await means.blocking(runtimes.get(means.config.settings.runtime or BUILT_IN).check)
    except SandboxError as error:
        raise OperatorError(f"no sandbox can be started here: {error} {error.mend}".strip()) from error
    return runtimes, interpreter


def make_seats(means: Means) -> Seats:
    """Return the seats for boxes on this machine, all of them free."""
    floor = means.config.settings.memory_floor_mb
    count = decide_seat_count(means.config.settings.boxes_at_once, read_total_memory_mb(), floor)

    def has_memory() -> bool:
        free = read_free_memory_mb()
        return free is None or free >= floor

    return Seats(count, means.clock.monotonic, has_memory)


def make_builders(parts: BoxParts, config: Config) -> Callable[[GroupConfig], PackageBuilder]:
    """Return what says who builds a group's packages. From the loop's thread."""
    build = BuildParts(config, parts.runtimes, parts.gateway, parts.interpreter, parts.source, parts.watchdog)
    folders, images = FolderBuilder(build), ImageBuilder(build)

    def choose(group: GroupConfig) -> PackageBuilder:
        name = parts.runtimes.name_for(group)
        match name.partition(":")[0]:
            case "bubblewrap":
                return folders
            case "docker":
                return images
            case _:
                raise SandboxError(f"Packages cannot be built for the runtime {name}.")

    return choose


def make_folders(config: Config) -> Folders:
    """Return what decides which folders of this machine boxes may be given."""
    environment = (Path(sys.prefix),) if sys.prefix != sys.base_prefix else ()  # the system's Python is no secret
    told = config.settings.engine_socket
    engines = (*((Path(told),) if told else ()), *config.engine_places)  # who reaches one is root of this machine
    sockets = dict.fromkeys(path for place in engines for path in (place, Path(os.path.realpath(place))))
    own = (config.paths.home, config.paths.run, SOURCE, *environment, *sockets)
    return Folders(AllowlistFile(config.paths.config_file.with_name(FILE)), own)


def build_parts(means: Means, gateway: GatewayClient, runtimes: Runtimes, interpreter: Interpreter) -> BoxParts:
    """Put together what boxes are built from."""
    config, log = means.config, means.log
    watchdog, memory_watch = DiskWatchdog(means.clock, log), MemoryWatch(log)
    return BoxParts(
        runtimes=runtimes,
        gateway=gateway,
        interpreter=interpreter,
        agent_binary=find_agent_binary(config),
        source=SOURCE,
        limits=Limits(turn_seconds=config.settings.turn_seconds),
        watchdog=watchdog,
        memory_watch=memory_watch,
        outside=OutsideFiles(config.paths, lambda: gateway.outside, log),
        skills=make_shelf(config.paths.home),
        prover=Prover(means, BoxTrials(config, Watches(watchdog, memory_watch))),
        folders=GroupFolders(means, make_folders(config)),
    )
