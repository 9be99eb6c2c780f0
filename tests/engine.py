"""A real Docker engine for a session's tests: a dockerd of its own, with runc and gVisor, and a Debian base image.

`tests/conftest.py` offers the `engine` fixture to every test, one for the session. The engine has its own socket,
folders and no network, and is ended by its pid. The image is a root file system that debootstrap makes once a machine
(about a minute); the tar is kept outside the clone, under /var/tmp, for the sessions that follow. Everything with it
belongs to the ci tier: an engine is big and slow to start.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.live import wait_until

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "curl", "git", "iproute2", "jq", "nodejs", "procps", "python3", "ripgrep")
IMAGE = "nanoclaw-test-base:1"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
CACHE = Path("/var/tmp") / f"nanoclaw-tests-{os.geteuid()}"
RUNSC_OPTIONS = ["--network=none", "--platform=ptrace", "--host-uds=open"]


@dataclass
class Engine:
    """One dockerd in a folder of its own."""

    folder: Path
    image: str = IMAGE
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def socket(self) -> Path:
        """Where the engine's API is spoken."""
        return self.folder / "engine.sock"

    @property
    def log(self) -> str:
        """What the engine said."""
        path = self.folder / "dockerd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Engine:
        """Start the engine and wait until it answers; also again after `stop` or `kill`, with all it had."""
        self._forget_dead_containerd()
        config = self.folder / "daemon.json"
        runtimes = {"runsc": {"path": shutil.which("runsc") or "/usr/bin/runsc", "runtimeArgs": RUNSC_OPTIONS}}
        config.write_text(json.dumps({"runtimes": runtimes}))
        with (self.folder / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "dockerd",
                    f"--config-file={config}",
                    f"--host=unix://{self.socket}",
                    f"--data-root={self.folder}/data",
                    f"--exec-root={self.folder}/exec",
                    f"--pidfile={self.folder}/dockerd.pid",
                    "--bridge=none",
                    "--iptables=false",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(
            lambda: self.process is None or self.process.poll() is not None or self.answers(),
            "an engine",
            START_SECONDS,
        )
        if self.process.poll() is not None:
            raise AssertionError(f"dockerd did not start:\n{self.log[-2000:]}")
        return self

    def answers(self) -> bool:
        """Whether the engine answers now."""
        return self.docker("version", check=False).returncode == 0

    def docker(self, *words: str, check: bool = True, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the docker client against this engine."""
        return subprocess.run(
            ["docker", "--host", f"unix://{self.socket}", *words],
            capture_output=True,
            text=True,
            check=check,
            timeout=seconds,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )

    def stop(self) -> None:
        """End the engine as an operator does: its containers end too."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the engine as a crash does: its containerd and containers may live on."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """The engine stops answering."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The engine answers again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """End the engine, what it started, and remove its folders."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            identifiers = self.docker("ps", "-aq", check=False).stdout.split()
            if identifiers:
                self.docker("rm", "-f", *identifiers, check=False)
            self.stop()
        for pid in self._left():
            os.kill(pid, signal.SIGKILL)
        for mount in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def import_image(self) -> None:
        """Make the base image, unless the engine has it."""
        if not self.docker("images", "-q", self.image).stdout.strip():
            self.docker("import", str(root_filesystem()), self.image, seconds=300)

    def _forget_dead_containerd(self) -> None:
        """After a kill its containerd may be a zombie that nobody reaps, and the next dockerd would wait for it."""
        record = self.folder / "exec" / "containerd" / "containerd.pid"
        if record.exists():
            state = Path("/proc") / record.read_text().strip() / "stat"
            if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
                record.unlink()

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(STOP_SECONDS)

    def _left(self) -> list[int]:
        """Return processes of this engine that outlived it: each names this folder on its command line."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.folder).encode() in words and words.split(b"\0")[0].split(b"/")[-1] in ENGINE_PROGRAMS:
                    found.append(int(entry.name))
        return found

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [place for place in (line.split()[4] for line in lines) if place.startswith(f"{self.folder}/")]


ENGINE_PROGRAMS = {b"containerd", b"containerd-shim-runc-v2", b"runsc", b"runsc-gofer", b"runsc-sandbox"}


def root_filesystem() -> Path:
    """Return the tar of the base root file system; makes it when this machine has none. Blocks up to some minutes."""
    version = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    CACHE.mkdir(mode=0o700, exist_ok=True)
    if CACHE.is_symlink() or CACHE.stat().st_uid != os.geteuid():
        raise AssertionError(f"{CACHE} is somebody else's")
    tar = CACHE / f"{SUITE}-{version}.tar"
    with (CACHE / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one session makes it, the others wait
        if not tar.exists():
            _make_root_filesystem(tar)
    return tar


def _make_root_filesystem(tar: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="rootfs-", dir=CACHE) as scratch:
        root, fresh = Path(scratch) / "root", tar.with_suffix(".new")
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise AssertionError(f"debootstrap failed:\n{made.stdout[-2000:]}{made.stderr[-500:]}")
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / waste, ignore_errors=True)
        subprocess.run(["tar", "-C", str(root), "--numeric-owner", "-cf", str(fresh), "."], check=True)
        fresh.replace(tar)


def missing_for_engine() -> str:
    """Return why no engine can be started here, '' when one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "an engine of one's own needs root on Linux; run: sudo ./nanoclaw.sh test --ci -m ci"
    missing = [name for name in ("dockerd", "docker", "debootstrap", "runc") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}; run: apt install docker.io debootstrap runc runsc" if missing else ""


def new_engine() -> Iterator[Engine]:
    """Yield a running engine with the base image, for a test that breaks it; afterwards nothing is left of it."""
    if reason := missing_for_engine():
        pytest.skip(reason)
    made = Engine(Path(tempfile.mkdtemp(prefix="nc-engine-", dir="/var/tmp")))
    try:
        made.start().import_image()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The session's engine, for all tests that leave it as it was."""
    yield from new_engine()
