"""The embedded runtime: bubblewrap as an unprivileged uid, no daemon (recipe and holes: security.md section 1).

In: SandboxSpec, BoxLabel. Out: a held Box. Order of a start: cgroup -> launcher (Popen, this thread) -> bubblewrap
tells the pid of the box's first process -> pidfds -> listeners in its namespaces -> record on disk -> the caller.
Never: bubblewrap as uid 0 (it leaves /proc/sys writable for the host's root: a proven escape); an environment or an
option of it visible inside; a host file as its stdin, stdout or stderr; a box that outlives its host.
Fails: SandboxError, and then nothing of the box is left.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from nanoclaw.domain.group import Kernel
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.cgroup import BoxCgroup, create_cgroup, find_hierarchies, remove_orphans
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.launch import BLOB
from nanoclaw.sandbox.listeners import NetnsHelper
from nanoclaw.sandbox.pins import confirm_pins
from nanoclaw.sandbox.plan import LaunchPlan, Staging, host_environment, launch
from nanoclaw.sandbox.records import BoxRecord, BoxRecords, boot_id, box_name, end_processes, mark_of
from nanoclaw.sandbox.runtimes.base import BoxLabel, Capability, Hold
from nanoclaw.sandbox.runtimes.process import KILL_SECONDS, BoxPipes, ProcessBox
from nanoclaw.sandbox.runtimes.seccomp import build_filter
from nanoclaw.sandbox.spec import MIB, Limits, SandboxSpec
from nanoclaw.sandbox.surroundings import BOX_UID

OLDEST = (0, 8)  # --disable-userns and --size
PROGRAM_PATH = "/usr/local/bin:/usr/bin:/bin"
START_SECONDS = 15.0
CHECK_SECONDS = 10.0
CHECK_UID = 65534
SHM_BYTES = 64 * MIB
SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What tells of the kernel's keys and timers, and of the host's processes by them, whoever asks: as engines cover it.
TELLING_FILES = tuple(f"/proc/{name}" for name in ("keys", "key-users", "timer_list", "sched_debug", "kallsyms"))
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives")
INSTALL = "Install it: `apt install bubblewrap` (or dnf, pacman, apk, zypper); 0.8 or newer is needed."
ALLOW_NAMESPACES = (
    "Allow user namespaces: `sudo sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1`; on "
    "Ubuntu 24.04 or newer `nanoclaw doctor` shows the AppArmor profile that lets bubblewrap."
)
ISOLATION = (
    "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv",
    "--cap-drop", "ALL", "--uid", str(BOX_UID), "--gid", str(BOX_UID),
)  # fmt: skip


class BubblewrapRuntime:
    """Starts boxes with bubblewrap; construct it in the thread that runs the loop.

    `records`: a folder of the host's own for what it has started. `interpreter`: runs the launcher and the helper.
    """

    def __init__(self, records: Path, interpreter: Interpreter, program: str = "bwrap") -> None:
        self._records = BoxRecords(records)
        self._interpreter = interpreter
        self._program = program
        self._helper = NetnsHelper(str(interpreter.program), host_environment(interpreter))
        self._boxes: set[ProcessBox] = set()
        self._listening: set[asyncio.Future[list[socket.socket]]] = set()
        self._hierarchies = find_hierarchies()
        self._filter = build_filter(platform.machine())

    @property
    def name(self) -> str:
        """Its name in settings and labels."""
        return "bubblewrap"

    @property
    def kernel(self) -> Kernel:
        """This machine's own."""
        return Kernel.SHARED

    @property
    def has_cgroups(self) -> bool:
        """Whether memory, process and CPU limits are kept by cgroups here."""
        return bool(self._hierarchies)

    def check(self) -> None:
        """Raise SandboxError, with what mends it, unless an empty box can be started here. Blocks 20 ms to 10 s."""
        program = self._find_program()
        said = subprocess.run([program, "--version"], capture_output=True, env={}, check=False, timeout=CHECK_SECONDS)
        version = re.search(rb"(\d+)\.(\d+)", said.stdout)
        if version is None or (int(version[1]), int(version[2])) < OLDEST:
            raise SandboxError(f"{program} is older than bubblewrap 0.8.", mend=INSTALL)
        uid = CHECK_UID if os.geteuid() == 0 else None
        spec = SandboxSpec((), {}, {}, Limits(), ("/usr/bin/true",), "/", uid, "check", ports=())
        plan = self._plan(program, spec, uid, (), ())
        quiet = subprocess.DEVNULL
        process = launch(plan, self._interpreter, stdio=(quiet, quiet, subprocess.PIPE))
        try:
            _, stderr = process.communicate(timeout=CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise SandboxError("bubblewrap does not answer.", mend=INSTALL) from None
        if process.returncode != 0:
            raise _start_error(stderr.decode(errors="replace"))

    def capabilities(self) -> tuple[Capability, ...]:
        """Return what is kept here, and by what."""
        counted = {name for hierarchy in self._hierarchies for name in hierarchy.controllers}
        by_cgroup = {name: f"cgroup v{h.version}" for h in self._hierarchies for name in h.controllers}
        memory = Hold.KERNEL if "memory" in counted else Hold.WATCHED
        processes = by_cgroup.get("pids", "RLIMIT_NPROC, which counts every process of its uid")
        return (
            Capability("memory", memory, by_cgroup.get("memory", "added up twice a second; a box over it is ended")),
            Capability("processes", Hold.KERNEL, processes),
            Capability("cpu", Hold.KERNEL if "cpu" in counted else Hold.NONE, by_cgroup.get("cpu", "no cgroup")),
            Capability("open files", Hold.KERNEL, "RLIMIT_NOFILE"),
            Capability("temporary files", Hold.KERNEL, "the size of /tmp"),
            Capability(
                "disk",
                Hold.WATCHED,
                "counted every few seconds; a box over it is ended (a workspace that is an image: by the kernel)",
            ),
        )

    def check_image(self, image: str) -> None:
        """Boxes have no image here."""

    async def list_boxes(self, install: str) -> list[BoxLabel]:
        """Return the boxes of this install that have a record here."""
        records = await asyncio.to_thread(lambda: list(self._records.list_of(install)))
        return [BoxLabel(record.session, record.fence, record.install) for record in records]

    async def start(self, spec: SandboxSpec, label: BoxLabel) -> ProcessBox:
        """Start a held box in about 20 ms; raises SandboxError, and then nothing of it is left."""
        uid = _uid_of(spec)
        program = self._find_program()
        name = box_name(label.session, label.fence)
        cgroup = create_cgroup(self._hierarchies, label.install, name, spec.limits)
        try:
            box = self._launch(program, spec, uid, label, cgroup)
        except BaseException:  # boundary: whatever stopped the start, its cgroup goes too
            cgroup.remove()
            raise
        self._boxes.add(box)
        try:
            async with asyncio.timeout(START_SECONDS):
                await box.identify()
                box.listeners = await self._listen(box.pid, spec.ports)
                await confirm_pins(box.pid, spec.mounts)  # it opened them by path
                self._record(box, cgroup)
        except (OSError, SandboxError) as error:  # TimeoutError is an OSError
            box.kill()
            ended = await box.wait()
            raise _start_error(ended.stderr_tail or str(error)) from None
        except BaseException:  # boundary: a cancelled start leaves nothing running
            box.kill()
            raise
        return box

    def _launch(
        self, program: str, spec: SandboxSpec, uid: int | None, label: BoxLabel, cgroup: BoxCgroup
    ) -> ProcessBox:
        ends = [os.pipe() for _ in range(5)]
        (stdin, ours_in), (ours_out, stdout), (ours_err, stderr), (ours_info, info), (only_read, ours_block) = ends
        # Opened for both, so that it never reads as ended: bubblewrap takes an end for the release, and a host that
        # dies while it holds a box would let it run (run: until its release a first process outlives its monitor).
        block = os.open(f"/proc/self/fd/{only_read}", os.O_RDWR | os.O_CLOEXEC)
        os.close(only_read)
        try:
            plan = self._plan(program, spec, uid, cgroup.procs_files, (info, block))
            process = launch(plan, self._interpreter, (info, block), (stdin, stdout, stderr))
        except BaseException:  # boundary: no descriptor stays open when a start fails
            for descriptor in (ours_in, ours_out, ours_err, ours_info, ours_block):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (stdin, stdout, stderr, info, block):
                os.close(descriptor)
        pipes = BoxPipes(ours_in, ours_out, ours_err, ours_info, ours_block)
        return ProcessBox(label, process, pipes, cgroup, self._see_over)

    def _plan(
        self, program: str, spec: SandboxSpec, uid: int | None, cgroups: tuple[str, ...], held: tuple[int, ...]
    ) -> LaunchPlan:
        staging = Staging(uid)
        options = box_options(spec, staging.add)
        if held:
            options += ("--info-fd", str(held[0]), "--block-fd", str(held[1]))
        limits = spec.limits
        return LaunchPlan(
            command=(program, "--args", BLOB, "--", *spec.command),
            uid=uid,
            sources=tuple(staging.sources),
            cgroups=cgroups,
            rlimits=(("core", 0), ("fsize", limits.file_bytes), ("nofile", limits.open_files)),
            options=options,
            blobs=(self._filter, *spec.files.values()),
            expendable=True,
        )

    async def _listen(self, pid: int, ports: tuple[int, ...]) -> list[socket.socket]:
        if not ports:
            return []
        loop = asyncio.get_running_loop()
        made = loop.run_in_executor(None, self._helper.listen, pid, ports)
        self._listening.add(made)
        made.add_done_callback(self._listening.discard)
        try:
            await asyncio.wait((made,))
        except asyncio.CancelledError:
            made.add_done_callback(_close_listeners)  # they may come after we have gone
            raise
        return made.result()

    def _record(self, box: ProcessBox, cgroup: BoxCgroup) -> None:
        marks = tuple(mark for mark in (mark_of(box.monitor_pid), mark_of(box.pid)) if mark is not None)
        label = box.label
        self._records.write(BoxRecord(label.install, label.session, label.fence, boot_id(), marks, cgroup.paths))

    def _see_over(self, box: ProcessBox) -> None:
        self._boxes.discard(box)
        self._records.remove(box.label.session, box.label.fence)

    async def end_orphans(self, install: str) -> int:
        """End what earlier hosts of this install left running; return how many boxes. Before the first start."""
        return await asyncio.to_thread(self._end_orphans, install)

    def _end_orphans(self, install: str) -> int:
        live = {box_name(box.label.session, box.label.fence) for box in self._boxes}
        ended, boot = 0, boot_id()
        for record in list(self._records.list_of(install)):
            if record.name in live:
                continue
            if record.boot == boot and end_processes(record.processes, KILL_SECONDS):
                ended += 1
            self._records.remove(record.session, record.fence)
        return ended + remove_orphans(self._hierarchies, install, live)

    async def close(self) -> None:
        """Kill what still runs, wait until it is gone, end the helper."""
        for box in list(self._boxes):
            box.kill()
        for box in list(self._boxes):
            await box.wait()
        if self._listening:
            await asyncio.wait(self._listening)
        await asyncio.to_thread(self._helper.close)

    def _find_program(self) -> str:
        found = shutil.which(self._program, path=PROGRAM_PATH)
        if found is None:
            raise SandboxError("bubblewrap (bwrap) is not installed; sandboxes cannot be built.", mend=INSTALL)
        return found


def box_options(spec: SandboxSpec, place: Callable[[Path], str]) -> tuple[str, ...]:
    """Return bubblewrap's options for a spec; `place` says where a source is found. Blobs: filter, then `files`."""
    options: list[str] = [*ISOLATION, "--hostname", spec.hostname, "--seccomp", BLOB, "--ro-bind", "/usr", "/usr"]
    for link in SYSTEM_LINKS:
        if os.path.islink(link):
            options += ["--symlink", os.readlink(link), link]
        elif os.path.isdir(link):
            options += ["--ro-bind", link, link]
    for path in SYSTEM_FILES:
        options += ["--ro-bind-try", path, path]
    for folder in ("/etc", "/var", "/opt", "/home", "/session", "/session/out"):
        options += ["--perms", "0755", "--dir", folder]
    for path in spec.files:
        options += ["--perms", "0444", "--ro-bind-data", BLOB, path]
    options += ["--proc", "/proc", "--dev", "/dev", "--dir", "/run"]
    for path in filter(os.path.exists, TELLING_FILES):
        options += ["--ro-bind", "/dev/null", path]
    options += ["--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108 - in the box
    options += ["--perms", "1777", "--size", str(spec.limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108 - in the box
    options += ["--symlink", "../tmp", "/var/tmp"]  # noqa: S108 - in the box
    for mount in spec.mounts:
        options += ["--bind" if mount.writable else "--ro-bind", place(mount.source), mount.target]
    options += ["--remount-ro", "/dev", "--remount-ro", "/"]  # both are tmpfs without a size of our choosing
    for name, value in spec.env.items():
        options += ["--setenv", name, value]
    return (*options, "--chdir", spec.workdir)


def _uid_of(spec: SandboxSpec) -> int | None:
    """Return the uid to drop to, None where the host is a normal user; refuses a box that would run as root."""
    own = os.geteuid()
    if own == 0:
        if not spec.host_uid:
            raise SandboxError("A host that runs as root never starts a sandbox as root; it needs a uid of its own.")
        return spec.host_uid
    if spec.host_uid not in (None, own):
        raise SandboxError("A host that is not root can only start sandboxes as its own user.")
    return None


def _start_error(said: str) -> SandboxError:
    """Say in plain words why a box did not start."""
    text = said.strip()[-500:] or "it took too long"
    if re.search(r"namespace|uid map|gid map|clone|loopback: Failed", text):
        return SandboxError(f"This machine does not let a user build sandboxes: {text}", mend=ALLOW_NAMESPACES)
    return SandboxError(text if text.startswith("The sandbox") else f"The sandbox did not start: {text}")


def _close_listeners(made: asyncio.Future[list[socket.socket]]) -> None:
    if not made.cancelled() and made.exception() is None:
        for listener in made.result():
            listener.close()
