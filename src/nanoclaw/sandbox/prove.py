"""Proves a wall by trying it: canaries run in a throw-away box that is built as a group's boxes are.

In: a runtime, the SandboxSpec of a run, what of the host is to be out of reach (`Grounds`). Out: `Proof`.
The box has the run's own spec but for its command, and for what sessions and groups keep (mailbox, workspace, home):
there it has empty folders, so that nothing of anybody is read or changed. A second pair of boxes has small limits.
Never: takes a missing answer for a good one; believes more of what a box says than one of a few names and a yes or no.
Fails: SandboxError when the box does not start. What the canaries say cannot fail: it is read or it counts as failed.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from nanoclaw.contract.mailbox import JOURNAL, OUTBOUND
from nanoclaw.domain.group import Kernel
from nanoclaw.domain.limits import MIB, Limits
from nanoclaw.sandbox.memory_watch import MemoryWatch
from nanoclaw.sandbox.mounts import remove_tree
from nanoclaw.sandbox.records import boot_id
from nanoclaw.sandbox.runtimes.base import Box, BoxExit, BoxLabel, ExitReason, Hold, Runtime
from nanoclaw.sandbox.spec import WORKSPACE, Mount, SandboxSpec
from nanoclaw.sandbox.surroundings import HOME
from nanoclaw.sandbox.watchdog import DiskWatchdog

SOURCE = Path(__file__).with_name("canaries")
PACKAGE = "/opt/canaries/nanoclaw/sandbox/canaries"
# Not by the folder's name: `runpy` and a main file compiled each time cost a third of the whole (run).
ENTRY = (
    "import sys; sys.path.insert(0, '/opt/canaries'); from nanoclaw.sandbox.canaries.run import main; main(sys.argv[1])"
)
QUESTION = "/etc/nanoclaw-question.json"
PROOF_SECONDS = 30.0
GRACE_SECONDS = 2.0
LEFT_SECONDS = 3600.0
KILLED_BY_SIGNAL = 129  # 128 + signal
CRASHES = {128 + number for number in (signal.SIGILL, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)}
MOST_LINES = 400
NO_ANSWER = "it gave no answer"
MOST_TEXT = 200
SMALL = Limits(memory_bytes=64 * MIB, processes=32, open_files=64, tmp_bytes=8 * MIB, disk_bytes=8 * MIB)
# gVisor does not start with less (run: exit 2), and a fork bomb in it meets its memory before its processes.
SMALL_WITH_KERNEL = Limits(
    memory_bytes=256 * MIB, processes=512, open_files=1024, tmp_bytes=8 * MIB, disk_bytes=8 * MIB
)
ENDING = ("memory", "processes")  # whoever takes too much of these may be the end of its box
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")
SIOCGIFADDR = 0x8915

# What it means when a canary got through, as the chat and the doctor say it.
MEANINGS = {
    "host-files": "the agent could read this machine's own files",
    "planted-secret": "the agent could read a secret that was planted for this proof",
    "other-groups": "the agent could read other assistants' files",
    "mounts": "something is in the sandbox that nobody put there",
    "read-only": "the agent could change its own instructions or programs",
    "mounted-read-only": "what is only to be read is mounted to be written",
    "raw-ip": "the agent could reach the internet past the gateway",
    "metadata": "the agent could reach a cloud's metadata service",
    "local-network": "the agent could reach the local network",
    "host-addresses": "the agent could reach this machine by its address",
    "host-loopback": "the agent could reach programs that listen on this machine alone",
    "dns": "the agent could send data out in name look-ups",
    "interfaces": "the sandbox has a network",
    "raw-sockets": "the agent could write raw packets",
    "vsock": "the agent could talk to the hypervisor",
    "host-sockets": "the agent could talk to daemons of this machine",
    "abstract-sockets": "the agent could talk to programs of this machine",
    "not-root": "the agent is root, or can become it",
    "capabilities": "the agent has rights of root",
    "no-new-privileges": "the agent could gain rights by running a program",
    "new-namespaces": "the agent could make namespaces in which it is root",
    "enter-namespaces": "the agent could enter other namespaces",
    "own-namespaces": "the sandbox is not kept apart from this machine",
    "own-kernel": "the sandbox has no kernel of its own, though its runtime says so",
    "mount": "the agent could mount file systems",
    "ptrace": "the agent could look into other processes",
    "io-uring": "the agent could pass the filter of system calls",
    "bpf": "the agent could load programs into the kernel",
    "keyctl": "the agent could reach the kernel's keyrings",
    "kernel-calls": "the agent reaches parts of the kernel that it never needs",
    "devices": "the agent could open devices of this machine",
    "kernel-settings": "the agent could change this machine's settings",
    "cgroups": "the agent could change its own limits",
    "visible-processes": "the agent sees processes of this machine",
    "environment": "the agent sees variables that it was not given",
    "descriptors": "the agent has files of the host open",
}
LIMIT_MEANINGS = {
    "processes": "nothing bounds the agent's processes",
    "open-files": "nothing bounds the files the agent has open",
    "temporary-files": "nothing bounds what the agent writes to /tmp",
    "disk": "nothing bounds what the agent writes to its workspace",
    "memory": "nothing bounds the agent's memory",
}


class Finding(StrEnum):
    """What one canary showed."""

    HELD = "held"
    FAILED = "failed"
    NOT_KEPT = "not kept"  # the runtime says that nothing keeps it on this machine


class Result(msgspec.Struct, frozen=True):
    """One canary."""

    name: str
    finding: Finding
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was shown of a runtime with a spec."""

    results: tuple[Result, ...]
    took_ms: int

    @property
    def failed(self) -> tuple[Result, ...]:
        """Those that got through, or gave no answer."""
        return tuple(result for result in self.results if result.finding is Finding.FAILED)

    @property
    def passed(self) -> bool:
        """Whether everything held that is to hold."""
        return not self.failed


@dataclass(frozen=True, slots=True)
class Grounds:
    """What of the host must be out of reach, and a folder of the host's own for what a proof makes."""

    scratch: Path
    paths: tuple[Path, ...] = ()
    groups: tuple[Path, ...] = ()  # other assistants' folders
    sockets: tuple[Path, ...] = ()


class _Answer(msgspec.Struct):
    """A line of a box."""

    name: Annotated[str, msgspec.Meta(max_length=MOST_TEXT)]
    held: bool
    detail: Annotated[str, msgspec.Meta(max_length=MOST_TEXT)] = ""


@dataclass(frozen=True, slots=True)
class _Bait:
    """What was made for one proof."""

    folder: Path
    name: str
    planted: tuple[Path, ...]
    port: int


async def prove(runtime: Runtime, spec: SandboxSpec, label: BoxLabel, grounds: Grounds) -> Proof:
    """Try the wall of a run: about 120 ms with bubblewrap, 1 s with docker. Raises SandboxError."""
    began = time.monotonic()
    with _listeners() as (port, abstract):
        bait = await asyncio.to_thread(_lay_bait, grounds, port)
        try:
            question = _question(runtime, spec, grounds, bait) | {"abstract": abstract}
            ended = await _run(runtime, proof_spec(spec, bait.folder, question), label)
        finally:
            await asyncio.to_thread(_take_away, bait)
    results = parse_answers(ended.stderr_tail, MEANINGS)
    return Proof(results, int((time.monotonic() - began) * 1000))


@dataclass(frozen=True, slots=True)
class Watches:
    """What ends boxes that are over a limit which the kernel does not keep."""

    disk: DiskWatchdog
    memory: MemoryWatch


async def prove_limits(
    runtime: Runtime, spec: SandboxSpec, label: BoxLabel, grounds: Grounds, watches: Watches
) -> Proof:
    """Try the limits, in boxes that have small ones: about 300 ms with bubblewrap. Raises SandboxError."""
    began = time.monotonic()
    kept = {capability.name.replace(" ", "-"): capability for capability in runtime.capabilities()}
    holds = {name: kept[name].hold if name in kept else Hold.KERNEL for name in LIMIT_MEANINGS}
    results = [Result(name, Finding.NOT_KEPT, kept[name].how) for name in holds if holds[name] is Hold.NONE]
    alone = ENDING if runtime.kernel is Kernel.SEPARATE else ("memory",)
    for names in (set(holds) - set(alone), *({name} for name in alone)):
        part = {name: hold for name, hold in holds.items() if hold is not Hold.NONE and name in names}
        if part:
            results += await _prove_part(runtime, spec, label, (grounds, watches), part)
    return Proof(tuple(results), int((time.monotonic() - began) * 1000))


async def _prove_part(
    runtime: Runtime,
    spec: SandboxSpec,
    label: BoxLabel,
    means: tuple[Grounds, Watches],
    holds: dict[str, Hold],
) -> tuple[Result, ...]:
    grounds, watches = means
    bait = await asyncio.to_thread(_lay_bait, grounds, 0)
    limits = SMALL_WITH_KERNEL if runtime.kernel is Kernel.SEPARATE else SMALL
    question = {"limits": list(holds)} | {
        name: getattr(limits, name) for name in ("memory_bytes", "processes", "open_files", "tmp_bytes", "disk_bytes")
    }

    def watch(box: Box) -> None:
        if holds.get("disk") is Hold.WATCHED:
            watches.disk.watch(box, (bait.folder,), limits.disk_bytes)
        if holds.get("memory") is Hold.WATCHED:
            watches.memory.watch(box, limits.memory_bytes)

    try:
        small = replace(proof_spec(spec, bait.folder, question), limits=limits, ports=())
        ended = await _run(runtime, small, label, (watches, watch))
    finally:
        await asyncio.to_thread(_take_away, bait)
    own_kernel = runtime.kernel is Kernel.SEPARATE
    return tuple(by_end(result, ended, own_kernel=own_kernel) for result in parse_answers(ended.stderr_tail, holds))


def by_end(result: Result, ended: BoxExit, *, own_kernel: bool) -> Result:
    """Return what a canary showed: the end of its box is an answer too, of a watched disk, of memory.

    gVisor (`own_kernel`) ends whole, by a signal and not always with a reason; elsewhere a signal alone says nothing.
    """
    if result.name == "disk" and ended.reason is ExitReason.DISK:
        return Result(result.name, Finding.HELD, "the box was ended for it")
    was_ended = ended.reason is ExitReason.EXITED and ended.code >= KILLED_BY_SIGNAL  # not by us
    was_killed = own_kernel and was_ended and ended.code not in CRASHES
    if result.name in ENDING and result.detail == NO_ANSWER and (ended.reason is ExitReason.MEMORY or was_killed):
        return Result(result.name, Finding.HELD, "the box was ended for it")
    return result


async def _run(
    runtime: Runtime, spec: SandboxSpec, label: BoxLabel, watch: tuple[Watches, Callable[[Box], None]] | None = None
) -> BoxExit:
    box = await runtime.start(spec, label)
    try:
        box.release()
        async with asyncio.timeout(PROOF_SECONDS):
            if watch is None:
                return await box.wait()
            return await _wait_watched(box, *watch)
    except TimeoutError:
        box.kill()
        return await box.wait()
    except BaseException:  # boundary: a proof that is cancelled leaves no box
        box.kill()
        raise


async def _wait_watched(box: Box, watches: Watches, watch: Callable[[Box], None]) -> BoxExit:
    """Wait for a box that rings when it has taken more than it may keep."""
    watch(box)
    try:
        async for _ in box.bells():
            await watches.disk.look()
            await watches.memory.look()
            return await box.stop(GRACE_SECONDS)
        return await box.wait()
    finally:
        watches.disk.forget(box)
        watches.memory.forget(box)


def proof_spec(spec: SandboxSpec, folder: Path, question: object) -> SandboxSpec:
    """Return the spec of a throw-away box: a run's, with other contents where sessions and groups keep theirs."""
    return replace(
        spec,
        mounts=(*(_emptied(mount, folder, spec.host_uid) for mount in spec.mounts), Mount(SOURCE, PACKAGE)),
        files={**spec.files, QUESTION: json.dumps(question).encode()},
        command=(spec.command[0], "-I", "-S", "-c", ENTRY, QUESTION),
    )


def _emptied(mount: Mount, folder: Path, uid: int | None) -> Mount:
    if not mount.target.startswith("/session/") and mount.target not in (WORKSPACE, HOME):
        return mount
    made = folder / mount.target.strip("/").replace("/", "-")
    if mount.target.endswith((OUTBOUND, JOURNAL)):
        made.touch(mode=0o600)
    else:
        made.mkdir(mode=0o700)
    if uid is not None:
        os.chown(made, uid, uid)
    return Mount(made, mount.target, mount.writable)


def parse_answers(said: str, names: Iterable[str]) -> tuple[Result, ...]:
    """Return a result for each of `names`, from what a box said; one that got through once got through."""
    answers: dict[str, _Answer] = {}
    for line in said.splitlines()[:MOST_LINES]:
        with suppress(msgspec.MsgspecError, UnicodeError):
            answer = msgspec.json.decode(line, type=_Answer)
            if answer.name not in answers or answers[answer.name].held:
                answers[answer.name] = answer
    return tuple(_result(name, answers.get(name)) for name in names)


def _result(name: str, answer: _Answer | None) -> Result:
    if answer is None:
        return Result(name, Finding.FAILED, NO_ANSWER)
    return Result(name, Finding.HELD if answer.held else Finding.FAILED, answer.detail)


def _question(runtime: Runtime, spec: SandboxSpec, grounds: Grounds, bait: _Bait) -> dict[str, object]:
    targets = [*(mount.target for mount in spec.mounts), *spec.files]
    inside = {str(Path(target)) for target in targets} | {str(up) for target in targets for up in Path(target).parents}
    return {
        "planted": bait.name,
        "planted_at": [str(path) for path in bait.planted],
        "paths": [str(path) for path in grounds.paths if str(path) not in inside],
        "groups": [str(path) for path in grounds.groups if str(path) not in inside],
        "sockets": [str(path) for path in grounds.sockets],
        "addresses": _own_addresses(),
        "port": bait.port,
        "namespaces": {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in NAMESPACES},
        "boot": boot_id(),
        "separate": runtime.kernel is Kernel.SEPARATE,
        "env": list(spec.env),
        "targets": [*targets, PACKAGE],
        "readonly": [mount.target for mount in spec.mounts if not mount.writable],
    }


def _lay_bait(grounds: Grounds, port: int) -> _Bait:
    """Make what the canaries look for, in the host's own folder and where everybody may read."""
    name = f"nanoclaw-planted-{secrets.token_hex(12)}"
    grounds.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=grounds.scratch))
    with suppress(OSError):  # another proof removes it too
        for left in grounds.scratch.iterdir():  # by a host that was killed
            if folder.stat().st_mtime - left.stat().st_mtime > LEFT_SECONDS:
                remove_tree(left)
    public = Path(tempfile.mkdtemp(prefix="nanoclaw-bait-"))
    for made in (folder, public):  # modes keep nobody out: only that they are not in the box does
        made.chmod(0o755)
    planted = (folder / name, public / name)
    for path in planted:
        path.write_text(name, encoding="ascii")
        path.chmod(0o644)
    return _Bait(folder, name, planted, port)


def _take_away(bait: _Bait) -> None:
    for path in bait.planted:
        with suppress(OSError):
            remove_tree(path.parent)


@contextmanager
def _listeners() -> Generator[tuple[int, str]]:
    """Listen where no box may reach: on the host's loopback, and without a file."""
    abstract = f"nanoclaw-bait-{secrets.token_hex(8)}"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as loopback,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unnamed,
    ):
        loopback.bind(("127.0.0.1", 0))
        loopback.listen()
        unnamed.bind("\0" + abstract)
        unnamed.listen()
        yield loopback.getsockname()[1], abstract


def _own_addresses() -> list[str]:
    """Return this machine's IPv4 addresses but loopback."""
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                said = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(said[20:24]))
    return [address for address in found if not address.startswith("127.")]
