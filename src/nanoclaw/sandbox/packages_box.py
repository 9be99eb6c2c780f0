"""Packages for boxes that have the machine's own root file system: a folder, built and verified in boxes of its own.

In: a wanted set. Out: `pkgs/<agent group>/<build>/` in the home, which boxes get read-only at /opt/pkgs.
First box: may fetch by the gateway's `packages` rules and nothing else, has the new folder and no data of any group.
Second box: no way out, the folder as agents will have it; it sees that everything is there and starts.
Never: trusts what came out (set_tree.py); leaves a folder behind that was not verified.
Fails: BuildFailed in plain words; SandboxError, OSError.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nanoclaw.config import Config
from nanoclaw.gateway.client import GatewayClient, Grant
from nanoclaw.gateway.control import BUILDS
from nanoclaw.sandbox.interpreter import PYTHON, Interpreter
from nanoclaw.sandbox.mounts import remove_tree
from nanoclaw.sandbox.packages import BUILD_SECONDS, BuildFailed, BuiltSet, Wanted
from nanoclaw.sandbox.runtimes.base import Box, BoxExit, BoxLabel, ExitReason
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.sandbox.set_tree import look_through
from nanoclaw.sandbox.spec import GIB, LISTEN_PORTS, Limits, Mount, SandboxSpec
from nanoclaw.sandbox.surroundings import BUNDLES, HOSTS, PKGS, RUNNER, environment, etc_files, hosts_text
from nanoclaw.sandbox.watchdog import DiskWatchdog

HOSTNAME = "build"
WANTED_FILE = "/etc/nanoclaw-packages.json"  # runner/install.py
SAYS = "nanoclaw-says: "  # runner/packing.py
BUILD = "/opt/build"
DPKG_STATUS = Path("/var/lib/dpkg/status")
BOOT = f"import sys; sys.path.insert(0, {RUNNER!r}); from nanoclaw.runner.install import main; sys.exit(main())"
VERIFY_SECONDS = 180.0
TAIL_CHARACTERS = 800
LIMITS = Limits(disk_bytes=4 * GIB)


@dataclass(frozen=True, slots=True)
class BuildParts:
    """What build boxes are made of."""

    config: Config
    runtimes: Runtimes
    gateway: GatewayClient
    interpreter: Interpreter
    source: Path  # src/nanoclaw
    watchdog: DiskWatchdog


class FolderBuilder:
    """Builds folders."""

    def __init__(self, parts: BuildParts) -> None:
        self._parts = parts

    def owns(self, name: str) -> bool:
        """Whether a set is a folder."""
        return ":" not in name

    async def build(self, wanted: Wanted) -> BuiltSet:
        """Build and verify a set, see PackageBuilder."""
        place = self._parts.config.paths.packages(wanted.group) / wanted.id
        owner = 0 if self._parts.config.is_root else None
        await asyncio.to_thread(self._prepare, place)
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                said = await self._run(wanted, place, verify=False)
                removed = await asyncio.to_thread(look_through, place, owner)
                said += await self._run(wanted, place, verify=True)
        except TimeoutError:
            await asyncio.to_thread(remove_tree, place)
            raise BuildFailed(f"It took longer than {BUILD_SECONDS / 60:.0f} minutes.") from None
        except Exception:  # boundary: whatever it was, what is not verified does not stay
            await asyncio.to_thread(remove_tree, place)
            raise
        if removed:
            said.append(f"{removed} links that led out of the packages were left out.")
        return BuiltSet(wanted.id, " ".join(said))

    async def remove_unused(self, group: str, used: frozenset[str]) -> None:
        """Remove every folder of a group but those that are used."""
        await asyncio.to_thread(_remove_unused, self._parts.config.paths.packages(group), used)

    def _prepare(self, place: Path) -> None:
        remove_tree(place)  # of a host that died in this very build
        for folder in (place.parent.parent, place.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        place.mkdir(mode=0o700)
        if self._parts.config.is_root:
            uid = self._parts.config.build_uid
            os.chown(place, uid, uid)

    async def _run(self, wanted: Wanted, place: Path, *, verify: bool) -> list[str]:
        """Run one box to its end and return what it had to say. Raises BuildFailed."""
        label = BoxLabel(f"build-{wanted.id}", 2 if verify else 1, self._parts.config.install)
        runtime = await self._parts.runtimes.choose(wanted.config)
        box = await runtime.start(self._spec(wanted, place, verify=verify), label)
        try:
            if verify:
                return self._heard(await self._serve_briefly(box))
            await self._open_way_out(wanted, box)
            self._parts.watchdog.watch(box, (place,), LIMITS.disk_bytes)
            return self._heard(await self._serve(box))
        finally:
            box.kill()
            self._parts.watchdog.forget(box)
            self._parts.gateway.close_turn(label.session, label.fence)
            try:
                await box.wait()
            finally:  # cancelled meanwhile
                await self._parts.gateway.unlisten(label.session, label.fence)

    async def _open_way_out(self, wanted: Wanted, box: Box) -> None:
        gateway, label = self._parts.gateway, box.label
        await gateway.listen(Grant(label.session, label.fence, wanted.group, BUILDS), box.listeners)
        gateway.open_turn(label.session, label.fence, f"build:{wanted.id}")

    async def _serve(self, box: Box) -> BoxExit:
        box.release()
        async for _ in box.bells():
            pass  # it has none to ring; its words come with its end
        return await box.wait()

    async def _serve_briefly(self, box: Box) -> BoxExit:
        try:
            async with asyncio.timeout(VERIFY_SECONDS):
                return await self._serve(box)
        except TimeoutError:
            words = f"What was installed did not show that it works within {VERIFY_SECONDS / 60:.0f} minutes."
            raise BuildFailed(words) from None

    def _heard(self, ended: BoxExit) -> list[str]:
        lines = [line.strip() for line in ended.stderr_tail.splitlines() if line.strip()]
        said = [line.removeprefix(SAYS) for line in lines if line.startswith(SAYS)]
        if ended.reason is ExitReason.EXITED and ended.code == 0:
            return said
        match ended.reason:
            case ExitReason.MEMORY:
                raise BuildFailed("It needed more memory than a build may have.")
            case ExitReason.DISK:
                raise BuildFailed(f"It needed more than {LIMITS.disk_bytes // GIB} GB of disk.")
            case _:
                raise BuildFailed(said[-1] if said else " ".join(lines)[-TAIL_CHARACTERS:] or "The build ended early.")

    def _spec(self, wanted: Wanted, place: Path, *, verify: bool) -> SandboxSpec:
        parts = self._parts
        ca = parts.gateway.outside.ca_pem.encode()
        env = environment(parts.config.timezone, own_python=parts.interpreter.prefix is not None, recover=False)
        return SandboxSpec(
            mounts=(*_tools(parts), Mount(place, PKGS, writable=not verify)),
            files=etc_files(HOSTNAME)
            | {HOSTS: hosts_text(HOSTNAME).encode(), WANTED_FILE: order_of(wanted, parts.config, verify=verify)}
            | dict.fromkeys(BUNDLES, ca),
            env=env if verify else env | {"PYTHONPATH": BUILD, "NO_PROXY": "", "no_proxy": ""},  # a mirror may be local
            limits=LIMITS,
            command=(parts.interpreter.in_box, "-I", "-S", "-c", BOOT),
            workdir="/",
            host_uid=parts.config.build_uid if parts.config.is_root else None,
            hostname=HOSTNAME,
            ports=() if verify else LISTEN_PORTS,
        )


def order_of(wanted: Wanted, config: Config, *, verify: bool = False) -> bytes:
    """Return what runner/install.py and runner/install_image.py are told."""
    settings = config.settings
    order = {
        "verify": verify,
        "apt": wanted.packages.apt,
        "npm": wanted.packages.npm,
        "pip": wanted.packages.pip,
        "apt_source": settings.apt_mirror,
        "npm_registry": settings.npm_registry,
        "pip_index": settings.pip_index,
    }
    return msgspec.json.encode(order)


def package_mounts(folder: Path, name: str) -> tuple[Mount, ...]:
    """Return how a group's set appears in its boxes; nothing when it has none, or one that is no folder."""
    place = folder / name
    return (Mount(place, PKGS),) if name and "/" not in name and place.is_dir() else ()


def _tools(parts: BuildParts) -> Sequence[Mount]:
    """Return what the build needs: its own program, the list of what the machine has, pip where it lacks one."""
    package = f"{RUNNER}/nanoclaw"
    mounts = [
        Mount(parts.source / "errors.py", f"{package}/errors.py"),
        Mount(parts.source / "runner", f"{package}/runner"),
    ]
    if parts.interpreter.prefix is not None:
        mounts.append(Mount(parts.interpreter.prefix, PYTHON))
    if DPKG_STATUS.exists():
        mounts.append(Mount(DPKG_STATUS, f"{BUILD}/status"))
    pip = importlib.util.find_spec("pip")
    if pip is not None and pip.origin is not None:
        mounts.append(Mount(Path(pip.origin).parent, f"{BUILD}/pip"))
    return mounts


def _remove_unused(folder: Path, used: frozenset[str]) -> None:
    if not folder.is_dir():
        return
    for found in folder.iterdir():
        if found.name not in used:
            remove_tree(found)
