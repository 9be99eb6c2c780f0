"""Boxes as containers of Docker or Podman, over the Engine API; each with the OCI runtime that the name says.

`docker`: the engine's default; `docker:runsc` (gVisor), `docker:kata`, `docker:crun`: that one. In: SandboxSpec,
BoxLabel. Out: a held Box. Order of a start, in a thread: files of the box -> create -> attach -> start (a gate waits
on stdin) -> pidfd -> listeners -> what is mounted is what was checked -> the caller.
Listeners are the box's own loopback where the host may enter its network (root on this very machine, no kernel of its
own); elsewhere unix sockets in a folder that is mounted, to which runner/forward.py leads.
Never: a container as root, with a capability, a network or a writable root; another install's container; a runtime
called `runsc` or `kata` that is neither. Fails: SandboxError, and then nothing of the box is left, or is swept later.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from nanoclaw.domain.group import Kernel
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.listeners import NetnsHelper
from nanoclaw.sandbox.plan import host_environment
from nanoclaw.sandbox.records import box_name, find_gone
from nanoclaw.sandbox.runtimes.base import BoxLabel, Capability, Hold
from nanoclaw.sandbox.runtimes.docker_box import Built, DockerBox
from nanoclaw.sandbox.runtimes.docker_spec import (
    DEFAULT_IMAGE,
    LABELS,
    BoxPlan,
    container_body,
    container_name,
)
from nanoclaw.sandbox.runtimes.docker_start import Making, compare_mounts, take_down
from nanoclaw.sandbox.runtimes.engine import Engine, find_socket
from nanoclaw.sandbox.runtimes.engine_words import EngineError, EngineInfo
from nanoclaw.sandbox.spec import SandboxSpec
from nanoclaw.sandbox.surroundings import etc_files

T = TypeVar("T")

THREADS = 8
SWEEP_SECONDS = 3.0  # at a host's start; an engine that is slower is swept before its next box
CLOSE_SECONDS = 60.0  # a box is buried within 25 s, and THREADS of them at a time
OCI_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SEPARATE = re.compile(r"runsc|kata|gvisor", re.IGNORECASE)
NOT_FOUND = 404
KERNEL_THREADS = 256  # gVisor with two processes in it took 130 of the host's (run)
IMAGE = "Make it: nanoclaw image build"
BUILD = "build-"  # how the labels of packages_image.py begin


class DockerRuntime:
    """Starts boxes in an engine; construct it in the thread that runs the loop.

    `oci`: the engine's OCI runtime, '' for its default. `folder`: of the host's own, for what boxes are given.
    `socket_path`: the engine's, as the operator told; '': the first of `places`.
    """

    close_seconds = CLOSE_SECONDS

    def __init__(
        self, oci: str, folder: Path, interpreter: Interpreter, socket_path: str = "", places: Iterable[Path] = ()
    ) -> None:
        if oci and not OCI_NAME.fullmatch(oci):
            raise SandboxError(f"{oci!r} cannot be the name of an engine's runtime.")
        self._oci = oci
        self._folder = folder / "engine" / (oci or "default")
        self._told = socket_path
        self._places = tuple(places)
        self._engine: Engine | None = None
        self._info = EngineInfo()
        self._helper = NetnsHelper(str(interpreter.program), host_environment(interpreter))
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="engine")
        self._boxes: set[DockerBox] = set()
        self._building: set[str] = set()
        self._pending: set[asyncio.Future[Any]] = set()
        self._unswept: set[str] = set()  # installs some of whose containers could not be removed yet

    @property
    def name(self) -> str:
        """Its name in settings and labels."""
        return f"docker:{self._oci}" if self._oci else "docker"

    @property
    def kernel(self) -> Kernel:
        """A kernel of its own for gVisor and Kata; `check` sees that the name does not lie."""
        return Kernel.SEPARATE if SEPARATE.search(self._oci) else Kernel.SHARED

    def check(self) -> None:
        """Raise SandboxError, with what mends it, unless the engine can run boxes. Blocks up to 10 s."""
        engine = Engine(find_socket(self._told, self._places))
        info = engine.info()
        if info.kind != "linux":
            raise SandboxError(f"The container engine runs {info.kind} containers, and boxes are Linux.")
        if info.is_rootless:
            raise SandboxError(
                "This container engine runs without root, and its containers would see your user as root, which the "
                "agent refuses to be.",
                mend="Choose bubblewrap, which needs no root either, or an engine that runs as root.",
            )
        if self._oci and self._oci not in info.runtimes:
            known = ", ".join(sorted(info.runtimes))
            mend = "Install it and name it in /etc/docker/daemon.json (docs/guides/sandboxes.md)."
            raise SandboxError(f"The container engine has no runtime {self._oci!r}. It has: {known}.", mend=mend)
        if self.kernel is Kernel.SEPARATE and not self._is_separate(info):
            program = info.runtimes[self._oci].path
            raise SandboxError(f"The engine's runtime {self._oci!r} is {program}, which has no kernel of its own.")
        self._engine, self._info = engine, info

    def check_image(self, image: str) -> None:
        """Raise SandboxError unless the engine has it; after `check`."""
        image = image or DEFAULT_IMAGE
        if self._engine is not None and not self._engine.has_image(image):
            raise SandboxError(f"The container engine has no image {image} yet.", mend=f"{IMAGE}.")

    def _is_separate(self, info: EngineInfo) -> bool:
        """Whether containers have a kernel of their own, by the program that runs them and not by its name."""
        found = info.runtimes.get(self._oci or info.default_runtime)
        return found is not None and bool(SEPARATE.search(f"{Path(found.path).name} {found.runtime_type}"))

    def capabilities(self) -> tuple[Capability, ...]:
        """Return what is kept here, and by what; after `check`."""
        by = "gVisor and the engine's cgroup" if self.kernel is Kernel.SEPARATE else "the engine's cgroup"
        whole = "; over it the whole box ends" if self.kernel is Kernel.SEPARATE else ""
        return (
            Capability("memory", Hold.KERNEL, f"{by}{whole}"),
            Capability("processes", Hold.KERNEL, f"{by}{whole}"),
            Capability("cpu", Hold.KERNEL, "the engine's cgroup"),
            Capability("open files", Hold.KERNEL, "RLIMIT_NOFILE"),
            Capability("temporary files", Hold.KERNEL, "the size of /tmp"),
            Capability("disk", Hold.WATCHED, "counted every few seconds; a box over it is ended"),
        )

    async def list_boxes(self, install: str) -> list[BoxLabel]:
        """Return the boxes of this install that the engine knows; SandboxError when it does not answer."""
        return await self._in_thread(lambda: [label for _, label, _ in self._list(install)])

    async def start(self, spec: SandboxSpec, label: BoxLabel) -> DockerBox:
        """Start a held box in about 0.3 s; raises SandboxError, and then nothing of it is left."""
        name = container_name(label)
        self._building.add(name)
        made = self._in_thread(lambda: self._build(spec, label))
        try:
            await asyncio.wait((made,))
        except asyncio.CancelledError:
            made.add_done_callback(self._abandon)
            made.add_done_callback(lambda _: self._building.discard(name))
            raise
        try:
            built = made.result()
            if self._engine is None:
                raise SandboxError("The container engine is gone.")
            box = DockerBox(built, self._engine, self._in_thread, self._see_over)
            self._boxes.add(box)
        finally:
            self._building.discard(name)  # last: what is in neither set is an orphan to a sweep in its thread
        return box

    async def end_orphans(self, install: str) -> int:
        """End what earlier hosts of this install left running. An engine that does not answer is swept later."""
        try:
            async with asyncio.timeout(SWEEP_SECONDS):
                return await self._in_thread(lambda: self._end_orphans(install))
        except (SandboxError, TimeoutError):
            self._unswept.add(install)
            return 0

    async def close(self) -> None:
        """Kill what still runs, wait until it is gone, up to 60 s, end the helper."""
        for box in list(self._boxes):
            box.kill()
        with suppress(TimeoutError):  # what is left then is an orphan to the next host
            async with asyncio.timeout(self.close_seconds):
                for box in list(self._boxes):
                    await box.wait()
                while self._pending:
                    await asyncio.wait(set(self._pending))
        await asyncio.to_thread(self._helper.close)
        self._threads.shutdown(wait=False)

    # what runs in threads

    def _connect(self) -> Engine:
        if self._engine is None:
            self.check()
        if self._engine is None:
            raise SandboxError("There is no container engine.")
        return self._engine

    def _build(self, spec: SandboxSpec, label: BoxLabel) -> Built:
        engine = self._connect()
        if self.kernel is Kernel.SEPARATE:
            self.check()  # an engine that was told anew may run another program under the same name
        for install in list(self._unswept):
            self._sweep(install)
        uid, gid = _ids(spec)
        direct = os.geteuid() == 0 and not self._info.is_remote and not self._is_separate(self._info)
        try:
            making = Making(engine, self._folder / box_name(label.session, label.fence))
        except OSError as error:
            raise SandboxError(f"The sandbox did not start: {error}") from None
        try:
            gate, listeners = (None, []) if direct else making.open_gate(spec.ports)
            plan = BoxPlan(
                label=label,
                runtime=self.name,
                oci_runtime=self._oci,
                uid=uid,
                gid=gid,
                files=making.write_files(_files(spec, uid)),
                gate=gate,
                beside=KERNEL_THREADS if self._is_separate(self._info) else 0,
                userns="host" if self._has_option("userns") else "",
                unlabelled=self._has_option("selinux"),
            )
            built = making.start(container_name(label), container_body(spec, plan), label, listeners)
            if direct:
                made = self._listen(built, spec.ports)
                making.keep(made)
                built.listeners.extend(made)
            compare_mounts(built, spec)
        except (OSError, SandboxError) as error:
            if not making.undo(container_name(label)):
                self._unswept.add(label.install)
            if isinstance(error, EngineError) and error.status == NOT_FOUND and "image" in str(error).lower():
                raise SandboxError(str(error), mend=IMAGE) from None
            if isinstance(error, SandboxError):
                raise
            raise SandboxError(f"The sandbox did not start: {error}") from None
        return built

    def _sweep(self, install: str) -> None:
        self._unswept.discard(install)  # first: what is lost meanwhile puts it back
        try:
            self._end_orphans(install, in_mid_life=True)
        except SandboxError:
            self._unswept.add(install)
            raise

    def _has_option(self, name: str) -> bool:
        return any(option.startswith(f"name={name}") for option in self._info.security_options)

    def _listen(self, built: Built, ports: tuple[int, ...]) -> list[socket.socket]:
        if not ports:
            return []
        if built.handle is None:
            raise SandboxError("The container's first process cannot be seen; is the engine on this machine?")
        made = self._helper.listen(built.pid, ports, owned=True)
        if find_gone([built.handle], 0):  # its pid may have been another's by then
            for listener in made:
                listener.close()
            raise SandboxError("The sandbox ended before it began.")
        return made

    def _list(self, install: str) -> list[tuple[str, BoxLabel, bool]]:
        found: list[tuple[str, BoxLabel, bool]] = []
        for listed in self._connect().list_labelled(f"{LABELS[0]}={install}"):
            labels = listed.labels or {}
            values = [labels.get(name, "") for name in LABELS]
            if values[1] == self.name and values[3].isdigit():
                found.append((listed.id, BoxLabel(values[2], int(values[3]), install), listed.state == "running"))
        return found

    def _end_orphans(self, install: str, *, in_mid_life: bool = False) -> int:
        engine, ended = self._connect(), 0
        listed = self._list(install)  # first: what is started while a slow engine lists is building by now, or a box
        live = set(self._building) | {container_name(box.label) for box in list(self._boxes)}
        for container, label, was_running in listed:
            is_building = in_mid_life and label.session.startswith(BUILD)  # images are built beside this runtime
            if container_name(label) not in live and not is_building:
                engine.remove(container)
                shutil.rmtree(self._folder / box_name(label.session, label.fence), ignore_errors=True)
                ended += was_running
        return ended

    def _in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def _abandon(self, made: asyncio.Future[Built]) -> None:
        """A start that nobody waits for any more: what it made goes."""
        if made.cancelled() or made.exception() is not None or self._engine is None:
            return
        built, engine = made.result(), self._engine
        self._in_thread(lambda: take_down(engine, built))

    def _see_over(self, box: DockerBox, is_lost: bool) -> None:
        self._boxes.discard(box)
        if is_lost:
            self._unswept.add(box.label.install)


def _ids(spec: SandboxSpec) -> tuple[int, int]:
    """Return the uid and gid of the container's processes; refuses root, and another user's where we are a user."""
    own = os.geteuid()
    if own == 0:
        if not spec.host_uid:
            raise SandboxError("A sandbox never runs as root; it needs a uid of its own.")
        return spec.host_uid, spec.host_uid
    if spec.host_uid not in (None, own):
        raise SandboxError("A host that is not root can only start sandboxes as its own user.")
    return own, os.getegid()


def _files(spec: SandboxSpec, uid: int) -> dict[str, bytes]:
    """Return the spec's files; those that name the box's user name the uid that it has here, inside and outside."""
    named = etc_files(spec.hostname, uid)
    return {path: named.get(path, content) for path, content in spec.files.items()}
