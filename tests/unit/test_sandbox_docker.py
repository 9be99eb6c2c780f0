"""What the engine is told for a box, its seccomp profile, its frames, and what its answers become: no engine needed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import subprocess
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any, ClassVar, cast

import pytest

from nanoclaw.boxes import make_runtimes
from nanoclaw.config import load_config
from nanoclaw.domain.group import GroupConfig, Kernel
from nanoclaw.domain.limits import Limits
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.records import find_gone
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.docker import BUILD, DockerRuntime
from nanoclaw.sandbox.runtimes.docker_box import Frames
from nanoclaw.sandbox.runtimes.docker_spec import BoxPlan, container_body, labels_of
from nanoclaw.sandbox.runtimes.docker_start import open_process
from nanoclaw.sandbox.runtimes.engine import Engine, find_socket
from nanoclaw.sandbox.runtimes.engine_seccomp import all_but, engine_profile
from nanoclaw.sandbox.runtimes.engine_words import EngineError
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.sandbox.runtimes.seccomp import ABSENT, LEASES, REFUSED, TERMINAL_INJECTION
from nanoclaw.sandbox.spec import Mount, SandboxSpec

SPEC = SandboxSpec(
    mounts=(Mount(Path("/srv/workspace"), "/workspace", writable=True), Mount(Path("/srv/py"), "/opt/python")),
    files={"/etc/passwd": b"x"},
    env={"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/opt/python/lib"},
    limits=Limits(),
    command=("/opt/python/bin/python3.12", "-I", "/opt/nanoclaw"),
    workdir="/workspace",
    host_uid=1_900_000_001,
    hostname="agent",
)
PLAN = BoxPlan(
    BoxLabel("S1", 3, "0badcafe"), "docker:runsc", "runsc", 1_900_000_001, 1_900_000_001, {"/etc/passwd": Path("/f/0")}
)


def body(spec: SandboxSpec = SPEC, plan: BoxPlan = PLAN) -> Any:
    return cast("Any", container_body(spec, plan))


def test_a_container_has_no_way_out_no_right_and_no_place_to_write_that_was_not_given() -> None:
    made = body()
    host = made["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"] is True
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["LogConfig"] == {"Type": "none"}
    assert made["User"] == "1900000001:1900000001"
    assert [mount["Target"] for mount in host["Mounts"] if not mount["ReadOnly"]] == ["/workspace"]
    assert host["Memory"] == host["MemorySwap"] == SPEC.limits.memory_bytes
    assert host["PidsLimit"] == SPEC.limits.processes
    assert (host["Privileged"], host["PidMode"], host["IpcMode"], host["CgroupnsMode"]) == (
        False, "", "private", "private",
    )  # fmt: skip
    assert f"seccomp={engine_profile()}" in host["SecurityOpt"]
    assert {"Name": "nofile", "Soft": SPEC.limits.open_files, "Hard": SPEC.limits.open_files} in host["Ulimits"]
    assert all(mount["BindOptions"] == {"Propagation": "rprivate", "NonRecursive": True} for mount in host["Mounts"])
    assert host["Runtime"] == "runsc"


def test_a_container_never_runs_as_root() -> None:
    with pytest.raises(SandboxError, match="root"):
        container_body(SPEC, replace(PLAN, uid=0))


def test_an_image_brings_its_own_python_and_nothing_of_the_hosts() -> None:
    made = body()
    assert made["Cmd"] == ["/usr/bin/python3", "-I", "/opt/nanoclaw"]
    assert made["Env"] == ["PATH=/usr/bin"]
    assert "/opt/python" not in [mount["Target"] for mount in made["HostConfig"]["Mounts"]]


def test_a_mount_that_was_checked_as_a_descriptor_is_mounted_from_where_that_is_now(tmp_path: Path) -> None:
    checked = tmp_path / "photos"
    checked.mkdir()
    descriptor = os.open(checked, os.O_PATH)
    checked.rename(tmp_path / "moved")
    checked.symlink_to("/etc")
    spec = replace(SPEC, mounts=(Mount(checked, "/opt/extra/photos", descriptor=descriptor),))
    sources = [mount["Source"] for mount in body(spec)["HostConfig"]["Mounts"]]
    os.close(descriptor)
    assert sources[0] == str(tmp_path / "moved")


def test_listeners_that_cannot_be_made_inside_are_led_to_by_a_forwarder_before_the_command() -> None:
    made = body(plan=replace(PLAN, gate=Path("/f/gate")))
    assert made["Cmd"][3:7] == ["/opt/nanoclaw/nanoclaw/runner/forward.py", "3128", "443", "--"]
    gate = next(mount for mount in made["HostConfig"]["Mounts"] if mount["Target"] == "/session/gate")
    assert gate["ReadOnly"] is True


def test_the_profile_allows_none_of_what_bubblewraps_filter_refuses() -> None:
    profile = json.loads(engine_profile())
    allowed = {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
        for name in rule["names"]
    }
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not allowed & (set(REFUSED) | set(ABSENT))
    assert not allowed & {"clone", "socket", "socketpair", "ioctl", "fcntl", "personality", "socketcall", "ptrace"}
    assert {"read", "execve", "futex", "openat2", "epoll_wait"} <= allowed
    assert all(machine["subArchitectures"] == [] for machine in profile["archMap"])


@pytest.mark.parametrize("values", [TERMINAL_INJECTION, LEASES, (0,), (2**32 - 1, 0)])
def test_all_but_some_values_matches_each_other_value_exactly_once(values: tuple[int, ...]) -> None:
    rules = list(all_but(values))
    near = {value ^ (1 << bit) for value in values for bit in range(32)} - set(values)
    for value in {*near, 1, 0x7FFFFFFF} - set(values):
        assert sum(value & mask == wanted for mask, wanted in rules) == 1
    for value in values:
        assert not any(value & mask == wanted for mask, wanted in rules)
        assert not any((value | 1 << 40) & mask == wanted for mask, wanted in rules)


def test_frames_come_apart_however_they_are_cut() -> None:
    def frame(stream: int, payload: bytes) -> bytes:
        return bytes((stream, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload

    whole = frame(1, b"oh") + frame(2, b"") + frame(2, b"words") + frame(1, b"o")
    for size in range(1, len(whole) + 1):
        taken: dict[int, bytes] = {}
        frames = Frames(lambda stream, data, taken=taken: taken.update({stream: taken.get(stream, b"") + data}))
        for start in range(0, len(whole), size):
            frames.feed(whole[start : start + size])
        assert taken == {1: b"oho", 2: b"words"}


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".hidden", "a b", "x" * 65, "runsc\n"])
def test_a_name_that_could_be_a_path_is_no_runtime(name: str) -> None:
    with pytest.raises(SandboxError, match="cannot be the name"):
        DockerRuntime(name, Path("/nonexistent"), Interpreter(Path("/usr/bin/python3")))


class Scripted(BaseHTTPRequestHandler):
    """An engine that answers as it was told, by path."""

    answers: dict[str, tuple[int, object]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        status, content = next((a for end, a in self.answers.items() if path.endswith(end)), (404, {"message": "no"}))
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def scripted_engine(
    folder: Path, answers: dict[str, tuple[int, object]], kind: type[Scripted] = Scripted
) -> Iterator[Path]:
    place = folder / "engine.sock"
    server = ThreadingUnixStreamServer(str(place), type("Handler", (kind,), {"answers": answers}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def info(**more: object) -> dict[str, tuple[int, object]]:
    known = {"runc": {"path": "runc"}, "runsc": {"path": "/usr/bin/runsc"}, "kata-lie": {"path": "/usr/bin/runc"}}
    answer = {"OSType": "linux", "DefaultRuntime": "runc", "Runtimes": known, "SecurityOptions": ["name=seccomp"]}
    return {"/version": (200, {"ApiVersion": "1.41"}), "/info": (200, answer | more)}


def runtime(oci: str, folder: Path, place: Path) -> DockerRuntime:
    return DockerRuntime(oci, folder, Interpreter(Path("/usr/bin/python3")), str(place))


def test_a_runtime_that_the_engine_has_not_got_is_named_with_those_it_has(tmp_path: Path) -> None:
    with scripted_engine(tmp_path, info()) as place:
        runtime("runsc", tmp_path, place).check()
        with pytest.raises(SandboxError, match=r"no runtime 'crun'\. It has: kata-lie, runc, runsc"):
            runtime("crun", tmp_path, place).check()


def test_an_image_that_is_not_there_yet_is_told_with_what_makes_it(tmp_path: Path) -> None:
    there = {"/images/nanoclaw-base/json": (200, {"Id": "sha256:1"})}
    with scripted_engine(tmp_path, info() | there) as place:
        docker = runtime("", tmp_path, place)
        docker.check()
        docker.check_image("")
        with pytest.raises(SandboxError, match="no image nanoclaw-group-x:1 yet") as refused:
            docker.check_image("nanoclaw-group-x:1")
    assert refused.value.mend == "Make it: nanoclaw image build."


def test_a_runtime_that_only_calls_itself_kata_is_refused(tmp_path: Path) -> None:
    with scripted_engine(tmp_path, info()) as place:
        lie = runtime("kata-lie", tmp_path, place)
        assert lie.kernel is Kernel.SEPARATE
        with pytest.raises(SandboxError, match="no kernel of its own"):
            lie.check()


@pytest.mark.parametrize(
    ("more", "words"),
    [({"SecurityOptions": ["name=rootless"]}, "without root"), ({"OSType": "windows"}, "windows containers")],
)
def test_an_engine_that_cannot_run_boxes_says_why(tmp_path: Path, more: dict[str, object], words: str) -> None:
    with (
        scripted_engine(tmp_path, info(**more)) as place,
        pytest.raises(SandboxError, match=words),
    ):
        runtime("", tmp_path, place).check()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"/version": (200, {"ApiVersion": "1.24"})}, "too old"),
        ({"/version": (200, b"<html>")}, "cannot be read"),
        ({"/version": (200, {"ApiVersion": "1.41-x"})}, "cannot be read"),
        ({"/version": (200, {"ApiVersion": "1.41"}), "/info": (500, b"boom")}, "refused: boom"),
        (
            {
                "/version": (200, {"ApiVersion": "1.41"}),
                "/info": (500, {"message": "write x: no space left on device"}),
            },
            "no space left",
        ),
    ],
)
def test_what_an_engine_answers_amiss_is_said_plainly(
    tmp_path: Path, answers: dict[str, tuple[int, object]], words: str
) -> None:
    with scripted_engine(tmp_path, answers) as place, pytest.raises(EngineError, match=words):
        Engine(place).info()


def test_no_engine_at_all_is_said_with_what_mends_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no container engine at") as caught:
        Engine(tmp_path / "gone.sock").info()
    assert "apt install" in caught.value.mend
    assert "systemctl start docker" in caught.value.mend
    with pytest.raises(EngineError, match="No container engine was found"):
        find_socket("", (tmp_path / "gone.sock", tmp_path))
    assert find_socket("unix:///run/x.sock", ()) == Path("/run/x.sock")


class Slow(Scripted):
    """An engine that lists only when something new is there, and makes nothing before it was told to."""

    asked, made, go = threading.Event(), threading.Event(), threading.Event()
    removed: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if "/containers/json" in self.path:
            self.asked.set()
            assert self.made.wait(5)
        super().do_GET()

    def do_POST(self) -> None:
        self.made.set()
        self.go.wait(5)
        super().do_GET()

    def do_DELETE(self) -> None:
        self.removed.append(self.path)
        super().do_GET()


async def test_a_box_that_starts_while_a_slow_engine_lists_is_no_orphan(tmp_path: Path) -> None:
    label = BoxLabel("S1", 3, "0badcafe")
    listed = [{"Id": "abc", "State": "running", "Labels": labels_of(label, "docker")}]
    answers = info() | {"/containers/json": (200, listed), "/containers/create": (500, {"message": "told to"})}
    with scripted_engine(tmp_path, answers, Slow) as place:
        slow = runtime("", tmp_path, place)
        async with asyncio.TaskGroup() as tasks:
            sweep = tasks.create_task(slow.end_orphans(label.install))
            await asyncio.to_thread(Slow.asked.wait, 5)
            spec = replace(SPEC, mounts=(), host_uid=SPEC.host_uid if os.geteuid() == 0 else None)
            start = tasks.create_task(with_reason(slow.start(spec, label)))
            swept = await sweep
            removed = list(Slow.removed)
            Slow.go.set()
            assert "told to" in await start
        await slow.close()
    assert (swept, removed) == (0, [])


class Removing(Scripted):
    """Notes what it is told to remove."""

    removed: ClassVar[list[str]] = []

    def do_DELETE(self) -> None:
        self.removed.append(self.path.rpartition("/")[2].partition("?")[0])
        super().do_GET()


async def test_a_lost_box_is_swept_in_mid_life_and_an_image_that_is_being_built_is_not(tmp_path: Path) -> None:
    labels = {"lost": BoxLabel("S1", 3, "0badcafe"), "built": BoxLabel(f"{BUILD}B1", 1, "0badcafe")}
    listed = [{"Id": name, "State": "running", "Labels": labels_of(of, "docker")} for name, of in labels.items()]
    with scripted_engine(tmp_path, info() | {"/containers/json": (200, listed)}, Removing) as place:
        docker = runtime("", tmp_path, place)
        await asyncio.to_thread(docker._sweep, "0badcafe")
        assert Removing.removed == ["lost"]
        await docker.end_orphans("0badcafe")
        assert Removing.removed == ["lost", "lost", "built"], "at a start, nobody builds"
        await docker.close()


async def with_reason(starting: Awaitable[object]) -> str:
    """Why a start failed."""
    with pytest.raises(SandboxError) as caught:
        await starting
    return str(caught.value)


def test_a_process_that_cannot_be_looked_at_leaves_no_descriptor_open() -> None:
    before = os.listdir("/proc/self/fd")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # one more, the pidfd, and none for its cgroup
    try:
        assert open_process(os.getpid(), "abc") is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir("/proc/self/fd") == before


def test_the_end_of_a_process_is_seen_by_a_descriptor_of_any_number() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    child = subprocess.Popen(["sleep", "60"])
    low = os.pidfd_open(child.pid)
    high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 2000)
    try:
        assert find_gone([low, high], 0) == []
        child.kill()
        assert set(find_gone([high], 5)) == {high}
    finally:
        os.close(low)
        os.close(high)
        child.wait()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", ["bubblewrap:runsc", "apple:x"])
def test_what_has_no_runtimes_of_its_own_takes_no_name_of_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path))
    made = make_runtimes(load_config(), Interpreter(Path("/usr/bin/python3")))
    with pytest.raises(SandboxError, match="no runtimes of its own"):
        made.get(name)


async def test_a_runtime_that_does_not_work_is_never_chosen_and_not_kept_in_mind(tmp_path: Path) -> None:
    used = tmp_path / "used"
    runtimes = Runtimes({"docker": lambda oci: runtime(oci, tmp_path, tmp_path / "engine.sock")}, used=used)
    with pytest.raises(EngineError, match="no container engine at"):
        await runtimes.choose(GroupConfig(runtime="docker"))
    assert not used.exists()
    with scripted_engine(tmp_path, info()):
        assert (await runtimes.choose(GroupConfig(runtime="docker"))).name == "docker"
    assert used.read_text() == "docker\n"
    await runtimes.close()
