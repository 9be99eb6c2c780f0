"""Canaries in real boxes: a whole wall holds all of them, and each family sees the hole that is its own.

A hole is made by changing what the runtime is given or its bubblewrap command, never the canaries.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanoclaw.clock import SystemClock
from nanoclaw.log import open_log
from nanoclaw.sandbox import prove as proving
from nanoclaw.sandbox.canaries import run as canaries
from nanoclaw.sandbox.canaries.limits import LIMITS
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.plan import LaunchPlan
from nanoclaw.sandbox.prove import (
    LIMIT_MEANINGS,
    MEANINGS,
    Finding,
    Grounds,
    Proof,
    Watches,
    parse_answers,
    prove,
    prove_limits,
)
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.runtimes.process import ProcessBox
from nanoclaw.sandbox.spec import MIB, WORKSPACE, Limits, Mount, SandboxSpec, build_spec
from nanoclaw.sandbox.watchdog import DiskWatchdog
from tests.wall.conftest import Wall

ALLOW_ALL = b"\x06\0\0\0\0\0\xff\x7f"  # a filter of one instruction: RET ALLOW
Hole = Callable[[SandboxSpec, Path], SandboxSpec]


class HoledRuntime(BubblewrapRuntime):
    """bubblewrap with a hole: another spec, other options, no filter."""

    change_spec: Callable[[SandboxSpec], SandboxSpec] = staticmethod(lambda spec: spec)
    change_plan: Callable[[LaunchPlan], LaunchPlan] = staticmethod(lambda plan: plan)

    async def start(self, spec: SandboxSpec, label: Any) -> ProcessBox:
        return await super().start(self.change_spec(spec), label)

    def _plan(self, *given: Any) -> LaunchPlan:
        return self.change_plan(super()._plan(*given))


def grounds(wall: Wall) -> Grounds:
    return Grounds(
        wall.root / "scratch", (wall.root, Path("/etc/shadow")), (wall.root / "workspace",), (wall.root / "ncl.sock",)
    )


async def proof_of(wall: Wall, runtime: BubblewrapRuntime | None = None) -> Proof:
    proof = await prove(runtime or wall.runtime, build_spec(wall.inputs), wall.label(), grounds(wall))
    assert not list((wall.root / "scratch").iterdir()), "the bait was left"
    return proof


async def failures(wall: Wall, **holes: Any) -> set[str]:
    """The canaries that got through a wall with these holes."""
    runtime = HoledRuntime(wall.root / "boxes", wall.inputs.interpreter)
    for name, hole in holes.items():
        setattr(runtime, name, hole)
    try:
        return {result.name for result in (await proof_of(wall, runtime)).failed}
    finally:
        await runtime.close()


def without(plan: LaunchPlan, *options: str) -> LaunchPlan:
    return replace(plan, options=tuple(option for option in plan.options if option not in options))


async def test_a_whole_wall_holds_every_canary(wall: Wall) -> None:
    proof = await proof_of(wall)
    assert not proof.failed
    assert {result.name for result in proof.results} == set(MEANINGS)
    assert not list(wall.inputs.workspace.iterdir()), "the group's own workspace was not touched"


async def test_folders_that_a_group_was_given_are_no_hole(wall: Wall) -> None:
    for name in ("photos", "drafts"):
        (wall.root / name).mkdir(mode=0o755)
        (wall.root / name / "one").write_text("1")
    extra = (Mount(wall.root / "photos", "/extra/photos"), Mount(wall.root / "drafts", "/extra/drafts", writable=True))
    wall.inputs = replace(wall.inputs, extra=extra)
    proof = await proof_of(wall)
    assert not proof.failed
    assert os.listdir(wall.root / "photos") == os.listdir(wall.root / "drafts") == ["one"]


def test_every_canary_has_words_for_what_it_means() -> None:
    assert {canaries.name_of(canary) for canary in canaries.CANARIES} == set(MEANINGS)
    assert {canaries.name_of(canary) for canary in LIMITS} == set(LIMIT_MEANINGS)
    assert set(MEANINGS) >= canaries.OF_THE_KERNEL


async def test_a_planted_secret_that_is_bound_somewhere_is_found(wall: Wall) -> None:
    def bind(spec: SandboxSpec) -> SandboxSpec:
        (scratch,) = (wall.root / "scratch").iterdir()
        return replace(spec, mounts=(*spec.mounts, Mount(scratch, "/leak")))

    assert await failures(wall, change_spec=bind) == {"planted-secret", "mounts"}


async def test_files_of_the_host_at_their_own_place_are_found(wall: Wall) -> None:
    def bind(spec: SandboxSpec) -> SandboxSpec:
        return replace(spec, mounts=(*spec.mounts, Mount(wall.root / "workspace", str(wall.root / "workspace"))))

    assert await failures(wall, change_spec=bind) >= {"host-files", "other-groups"}


async def test_a_mount_that_should_be_read_only_is_found(wall: Wall) -> None:
    def open_up(spec: SandboxSpec) -> SandboxSpec:
        return replace(spec, mounts=tuple(replace(mount, writable=True) for mount in spec.mounts))

    assert "mounted-read-only" in await failures(wall, change_spec=open_up)


async def test_the_hosts_network_is_found(wall: Wall) -> None:
    found = await failures(
        wall,
        change_plan=lambda plan: replace(plan, options=(*plan.options, "--share-net")),
        change_spec=lambda spec: replace(spec, ports=()),
    )
    assert found >= {"host-loopback", "abstract-sockets", "own-namespaces"}


async def test_a_box_without_a_filter_is_found(wall: Wall) -> None:
    found = await failures(wall, change_plan=lambda plan: replace(plan, blobs=(ALLOW_ALL, *plan.blobs[1:])))
    assert found >= {"ptrace", "io-uring", "keyctl", "kernel-calls"}


async def test_the_hosts_processes_are_found(wall: Wall) -> None:
    def share(plan: LaunchPlan) -> LaunchPlan:
        options = list(plan.options)
        at = options.index("--unshare-all")
        options[at : at + 1] = ["--unshare-ipc", "--unshare-uts", "--unshare-net"]
        return without(replace(plan, options=tuple(options)), "--die-with-parent")

    found = await failures(wall, change_plan=share)
    assert found >= {"own-namespaces", "visible-processes"}


async def test_a_socket_of_the_host_is_found(wall: Wall) -> None:
    path = wall.root / "ncl.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()

        def bind(spec: SandboxSpec) -> SandboxSpec:
            return replace(spec, mounts=(*spec.mounts, Mount(path, str(path))))

        assert await failures(wall, change_spec=bind) >= {"host-sockets", "mounts"}


async def test_a_variable_that_shells_set_themselves_is_no_leak(wall: Wall) -> None:
    def keep(plan: LaunchPlan) -> LaunchPlan:
        return replace(plan, options=(*plan.options, "--setenv", "LC_CTYPE", "C"))

    assert await failures(wall, change_plan=keep) == set()


async def test_what_the_host_did_not_give_is_found_in_the_environment(wall: Wall) -> None:
    def leak(plan: LaunchPlan) -> LaunchPlan:
        return replace(plan, options=(*plan.options, "--setenv", "API_KEY", "sk-secret"))

    assert await failures(wall, change_plan=leak) == {"environment"}


async def test_devices_of_the_machine_are_found(wall: Wall) -> None:
    device = next((path for path in ("/dev/fuse", "/dev/kvm", "/dev/kmsg") if Path(path).exists()), "")
    if not device:
        pytest.skip("this machine has no such device")

    def leak(plan: LaunchPlan) -> LaunchPlan:
        at = plan.options.index("--remount-ro")
        return replace(plan, options=(*plan.options[:at], "--dev-bind", device, device, *plan.options[at:]))

    assert "devices" in await failures(wall, change_plan=leak)


async def test_a_box_that_says_nothing_has_failed_every_canary(wall: Wall) -> None:
    def mute(spec: SandboxSpec) -> SandboxSpec:
        return replace(spec, command=("/usr/bin/true",))

    assert await failures(wall, change_spec=mute) == set(MEANINGS)


async def test_limits_hold_or_the_runtime_says_that_it_keeps_none(wall: Wall) -> None:
    watches = Watches(DiskWatchdog(SystemClock(), open_log("error")), MemoryWatch(open_log("error")))
    proof = await prove_limits(wall.runtime, build_spec(wall.inputs), wall.label(), grounds(wall), watches)
    findings = {result.name: result.finding for result in proof.results}
    assert set(findings) == set(LIMIT_MEANINGS)
    assert set(findings.values()) == {Finding.HELD}


async def test_a_box_that_says_nothing_of_its_limits_has_shown_none(wall: Wall) -> None:
    runtime = HoledRuntime(wall.root / "boxes", wall.inputs.interpreter)
    runtime.change_spec = lambda spec: replace(spec, command=("/usr/bin/false",))
    watches = Watches(DiskWatchdog(SystemClock(), open_log("error")), MemoryWatch(open_log("error")))
    try:
        proof = await prove_limits(runtime, build_spec(wall.inputs), wall.label(), grounds(wall), watches)
    finally:
        await runtime.close()
    assert {result.name for result in proof.failed} == set(LIMIT_MEANINGS)


async def test_a_proof_whose_box_cannot_be_planned_leaves_no_bait(wall: Wall) -> None:
    watches = Watches(DiskWatchdog(SystemClock(), open_log("error")), MemoryWatch(open_log("error")))
    spec = build_spec(wall.inputs)
    twice = replace(spec, mounts=(*spec.mounts, *(mount for mount in spec.mounts if mount.target == WORKSPACE)))
    with pytest.raises(OSError, match="exists"):
        await prove_limits(wall.runtime, twice, wall.label(), grounds(wall), watches)
    assert not list((wall.root / "scratch").iterdir())


@pytest.mark.ci  # fills 256 MB
async def test_a_limit_that_is_not_kept_is_found(wall: Wall) -> None:
    large = Limits(open_files=4096)
    runtime = HoledRuntime(wall.root / "boxes", wall.inputs.interpreter)
    runtime.change_spec = lambda spec: replace(spec, limits=large)
    try:
        watches = Watches(DiskWatchdog(SystemClock(), open_log("error")), MemoryWatch(open_log("error")))
        proof = await prove_limits(runtime, build_spec(wall.inputs), wall.label(), grounds(wall), watches)
    finally:
        await runtime.close()
    found = {result.name for result in proof.failed}
    assert found >= {"open-files", "temporary-files"} | ({"memory"} if runtime.has_cgroups else set())
    assert proving.SMALL.memory_bytes == 64 * MIB


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[" * 100_000,
        '{"name": "dns", "held": "yes"}',
        '{"name": "dns", "held": true, "detail": "' + "x" * 5000 + '"}',
        '{"name": "something", "held": true}',
        '{"name": "dns", "held": false}\n{"name": "dns", "held": true}',
        '{"name": "dns", "held": true}\n{"name": "dns", "held": false}',
        "\n" * 10_000 + '{"name": "dns", "held": true}',
    ],
)
def test_what_a_hostile_box_says_of_itself_counts_as_failed(said: str) -> None:
    (result,) = parse_answers(said, ["dns"])
    assert result.finding is Finding.FAILED


def test_a_good_answer_among_noise_counts() -> None:
    noise = f'warning: {os.sep}\n{{"name": "dns", "held": true, "detail": "nobody"}}\nbye'
    assert parse_answers(noise, ["dns"]) == (proving.Result("dns", Finding.HELD, "nobody"),)
