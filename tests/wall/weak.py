"""Walls that are weak on purpose: each takes one thing away, and probes must then say `broken`.

A probe that never fails proves nothing. `none` is no wall at all; the others are bubblewrap with something left out.
What no weak box here makes fail is listed in docs/reference/wall.md.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import struct
from pathlib import Path

from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.plan import LaunchPlan
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.spec import MIB, Mount, SandboxSpec
from tests.wall.conftest import BOX_UID
from tests.wall.probes.frame import Facts
from tests.wall.probes.run import RESOURCES, STARTED, every_probe
from tests.wall.walls import SMALL, WIDE, BoxWall, Change, Home, Results, merge_broken, naked

TOLD = dataclasses.replace(SMALL, memory_bytes=8 * MIB, cpu_cores=0.1)  # less than pipes hold
ALLOW_ALL = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
FAKES = ("/boot/vmlinuz", "/etc/ssh/ssh_host_rsa_key", "/sys/kernel/tracing/trace", "/sys/firmware/efi/x", "/root/.x",
         "/sys/kernel/uevent_helper", "/dev/mem", "/run/docker.sock", "/sys/fs/cgroup/release_agent",
         "/etc/ld.so.preload", "/dev/kvm", "/home/other/x", "/dev/kmsg")  # fmt: skip


class WeakRuntime(BubblewrapRuntime):
    """Bubblewrap with options taken away or put in, and with or without the filter."""

    def __init__(self, home: Home, without: tuple[str, ...] = (), put_in: tuple[str, ...] = ()) -> None:
        super().__init__(home.root / "boxes", find_interpreter())
        self.without, self.put_in = without, put_in
        self.env: tuple[tuple[str, str], ...] = ()

    def allow_every_call(self) -> None:
        self._filter = ALLOW_ALL

    def _plan(
        self, program: str, spec: SandboxSpec, uid: int | None, cgroups: tuple[str, ...], held: tuple[int, ...]
    ) -> LaunchPlan:
        plan = super()._plan(program, spec, uid, cgroups, held)
        options = tuple(option for option in plan.options if option not in self.without)
        return dataclasses.replace(plan, options=(*self.put_in, *options), env=self.env)


def everything_writable(home: Home, spec: SandboxSpec) -> SandboxSpec:
    """Give every mount as a copy of the box's own that it may change."""
    mounts: list[Mount] = []
    for number, mount in enumerate(spec.mounts):
        copy = home.root / "writable" / str(number)
        if not mount.writable:
            copy.parent.mkdir(mode=0o755, exist_ok=True)
            if mount.source.is_dir():
                shutil.copytree(mount.source, copy)
            else:
                shutil.copy(mount.source, copy)
            for path in (copy, *copy.rglob("*")):
                own(path)
            mount = Mount(copy, mount.target, writable=True)
        mounts.append(mount)
    return dataclasses.replace(spec, mounts=tuple(mounts))


def own(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, BOX_UID, BOX_UID)
    path.chmod(path.stat().st_mode | 0o600)


def with_host(home: Home, spec: SandboxSpec, facts: Facts) -> SandboxSpec:
    """Show the box what was planted, and files where a host has its own; let it change all of it."""
    planted = Path(facts["secret_open"]).parent
    mounts: list[Mount] = []
    for number, target in enumerate(FAKES):
        fake = home.root / "fakes" / str(number)
        fake.parent.mkdir(mode=0o755, exist_ok=True)
        fake.write_text("fake\n")
        own(fake)
        mounts.append(Mount(fake, target, writable=True))
    hosts = home.root / "fakes" / "hosts"
    hosts.write_text("127.0.0.1 localhost nanoclaw-wall.example.net\n")
    kept = [mount for mount in spec.mounts if mount.target != "/etc/hosts"]
    weak = dataclasses.replace(spec, mounts=(*kept, Mount(hosts, "/etc/hosts"), *mounts))
    weak = everything_writable(home, weak)
    return dataclasses.replace(weak, mounts=(*weak.mounts, Mount(planted, str(planted))))


async def over(home: Home, runtime: WeakRuntime, change: Change | None = None) -> Results:
    wall = BoxWall(home, runtime, change)
    try:
        said, _ended = await wall.run("all", WIDE)
    finally:
        await wall.close()
    said.pop(STARTED, None)
    return said


async def without_limits(home: Home) -> Results:
    """The probes are told small limits, the box has wide ones."""
    wall, found = BoxWall(home, WeakRuntime(home)), Results()
    try:
        for family, each in every_probe():
            if family == RESOURCES:
                said, _ended = await wall.run(each.name, WIDE, TOLD)
                found |= {name: seen for name, seen in said.items() if name != STARTED}
    finally:
        await wall.close()
    return found


async def every_weak_wall(home: Home) -> dict[str, Results]:
    """Return what the probes say of each weak wall."""
    found: dict[str, Results] = {}
    users = [BOX_UID, 0] if os.geteuid() == 0 else [BOX_UID]
    said: Results = {}
    for user in users:
        merge_broken(said, await asyncio.to_thread(naked, home, user))
    found["no wall at all"] = said
    unfiltered = WeakRuntime(home)
    unfiltered.allow_every_call()
    found["no filter of system calls"] = await over(home, unfiltered)
    able = WeakRuntime(home, without=("--disable-userns", "--cap-drop", "ALL"), put_in=("--cap-add", "ALL"))
    able.allow_every_call()
    able.env = (("ANTHROPIC_API_KEY", "sk-ant-planted-in-a-test"),)
    key = {"KEY": "sk-ant-planted-in-a-test"}
    found["capabilities kept"] = await over(
        home, able, lambda spec, _: dataclasses.replace(spec, env={**spec.env, **key})
    )
    shared = WeakRuntime(home, without=("--unshare-all",), put_in=("--unshare-user", "--unshare-uts"))
    found["namespaces of the host"] = await over(home, shared, lambda spec, _: dataclasses.replace(spec, ports=()))
    shown = WeakRuntime(home)
    found["the host's files shown"] = await over(home, shown, lambda spec, facts: with_host(home, spec, facts))
    found["no limits"] = await without_limits(home)
    return found
