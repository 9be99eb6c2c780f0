"""A fresh clone in the hands of a normal user of this machine: everything a person does, with nobody's help.

Everywhere else the tests run as whoever runs pytest, which is root in CI; much is different without root: no uid of
their own for boxes and gateway, no launcher, no cgroups. So root makes a user here, and takes it away again.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live import wait_until

ROOT = Path(__file__).resolve().parents[2]
MARKER = "KNOWN-ONLY-OUTSIDE"
PATIENCE_SECONDS = 120
SETUP_SECONDS = 600
ABOUT_PACKAGES = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
FITS = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"


@dataclass(frozen=True)
class Person:
    """A user of this machine with a clone in the home folder."""

    name: str
    uid: int
    home: Path

    def types(self, command: str, seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run a command line in a login shell; how this machine reaches its package index goes along."""
        kept = {name: value for name, value in os.environ.items() if name.upper().startswith(ABOUT_PACKAGES) and value}
        exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in kept.items())
        return subprocess.run(
            ["su", "-", self.name, "-c", exports + command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def nanoclaw(self, *words: str, seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        return self.types(f"~/clone/nanoclaw.sh {shlex.join(words)}", seconds)

    def chat(self, text: str) -> str:
        """Ask once; return what was on stdout. It must be answered."""
        done = self.nanoclaw("chat", text)
        assert done.returncode == 0, (done.stdout, done.stderr, self.log())
        return done.stdout

    def log(self) -> str:
        path = self.home / ".nanoclaw" / "logs" / "host.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def kill_host(self) -> None:
        """SIGKILL to the host alone, as the kernel does when memory is short."""
        os.kill(int((self.home / ".nanoclaw" / "run" / "lock").read_text()), signal.SIGKILL)

    def belongings(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Return what lies in the home, besides the clone and NanoClaw's own folder: mode, owner, time, content."""
        found: dict[str, tuple[int, int, int, bytes]] = {}
        for path in sorted(self.home.rglob("*")):
            place = path.relative_to(self.home)
            if place.parts[0] in ("clone", ".nanoclaw", ".cache"):
                continue
            about = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(place)] = (about.st_mode, about.st_uid, about.st_mtime_ns, content)
        return found

    def processes(self) -> list[int]:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._owns(entry)]

    def _owns(self, entry: Path) -> bool:
        try:
            return entry.stat().st_uid == self.uid and (entry / "cmdline").read_bytes() != b""
        except OSError:
            return False


def make_person() -> Person:
    name = f"nanoclaw-t{os.getpid()}"
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
    entry = pwd.getpwnam(name)
    return Person(name, entry.pw_uid, Path(entry.pw_dir))


def remove_person(person: Person) -> None:
    def all_gone() -> bool:
        for pid in person.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not person.processes()

    wait_until(all_gone, f"the processes of {person.name} to be gone")
    subprocess.run(["userdel", "--remove", person.name], check=True, capture_output=True)
    assert not person.home.exists()


@pytest.fixture(scope="module")
def ada() -> Iterator[Person]:
    """A user with a fresh clone that has been set up by its first command."""
    missing = [tool for tool in ("useradd", "userdel", "su", "git") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"makes a user: run the tests as root, with {' '.join(missing) or 'useradd'}")
    person = make_person()
    try:
        if person.types(f"python3 -I -c {shlex.quote(FITS)}").returncode != 0:
            pytest.skip("no Python 3.11 with venv that a normal user may run: apt-get install python3-venv")
        clone = person.home / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run(["chown", "-R", f"{person.name}:", str(clone)], check=True)
        (person.home / "diary.txt").write_text(f"{MARKER}\n")
        (person.home / "diary.txt").chmod(0o644)
        first = person.nanoclaw("--version", seconds=SETUP_SECONDS)
        assert first.returncode == 0, first.stderr
        yield person
    finally:
        person.types("test ! -x ~/clone/.venv/bin/nanoclaw || ~/clone/nanoclaw.sh stop")
        remove_person(person)


@pytest.mark.ci
def test_a_normal_user_is_answered_by_an_agent_in_a_sandbox(ada: Person) -> None:
    """`ci`: root makes a user and a whole .venv for it, 15 s and a package index."""
    assert ada.chat("hello").startswith("You said: hello\n")
    assert ada.chat("run: id -u; hostname").split() == ["1000", "agent"]
    assert ada.chat(f"run: cat {ada.home}/diary.txt {ada.home}/.bashrc 2>&1 | grep -c 'No such file'").strip() == "2"
    assert ada.chat("run: grep -c . /proc/net/route").strip() in ("0", "1")  # the heading at most: no way out
    doctor = ada.nanoclaw("doctor")
    assert (doctor.returncode, doctor.stderr) == (0, "")
    assert "boxes run as your own user" in doctor.stdout
    assert ada.nanoclaw("audit", "--verify").returncode == 0


@pytest.mark.ci
def test_without_a_cgroup_a_sandbox_over_its_memory_is_ended_and_it_is_told(ada: Person) -> None:
    """`ci`: of the user that root makes above; three attempts with 5 and 20 s between."""
    ada.chat("hello")
    ncl = shlex.quote(str(ada.home / "clone" / ".venv" / "bin" / "ncl"))
    assert ada.types(f"{ncl} groups config update main --memory 512M").returncode == 0
    hog = """run: python3 -c "x = b'x' * 1_500_000_000; import time; time.sleep(20)"; echo lived"""
    told = ada.nanoclaw("chat", hog, seconds=150)
    assert "ran out of its memory of 512 MB" in told.stdout + told.stderr
    assert ada.types(f"{ncl} groups config update main --memory default").returncode == 0


@pytest.mark.ci
def test_what_a_normal_users_assistant_remembers_outlives_a_killed_host(ada: Person) -> None:
    """`ci`: of the user that root makes above; three starts of a host."""
    assert "Tom" in ada.chat("remember: the cat is called Tom")
    for _ in range(3):
        ada.kill_host()
        assert "the cat is called Tom" in ada.chat("recall")


@pytest.mark.ci
def test_links_that_an_agent_plants_change_and_show_nothing_of_its_user(ada: Person) -> None:
    """`ci`: of the user that root makes above; four starts of a host."""
    ada.chat("hello")
    before = ada.belongings()
    home = shlex.quote(str(ada.home))
    links = [
        f"ln -sfn {home}/diary.txt /workspace/CLAUDE.md",
        f"ln -sfn {home}/diary.txt /workspace/CLAUDE.local.md",
        f"ln -sfn {home}/.bashrc /workspace/AGENTS.md",
        "mkdir -p /workspace/.claude",
        f"ln -sfn {home}/.profile /workspace/.claude/settings.json",
        f"ln -sfn {home} /workspace/everything",
        "rm -rf /home/agent/.claude /home/agent/.claude.json",
        f"ln -sfn {home} /home/agent/.claude",
        f"ln -sfn {home}/.bashrc /home/agent/.claude.json",
        "echo planted",
    ]
    assert "planted" in ada.chat("run: " + "; ".join(links))
    for end in (lambda: ada.nanoclaw("stop"), ada.kill_host):
        end()
        said = ada.chat("hello")
        said += ada.nanoclaw("chat", "remember: the moon").stdout
        end()
        said += (
            ada.chat("recall") + ada.nanoclaw("chat", "run: cat /workspace/CLAUDE.md /workspace/everything/*").stdout
        )
        assert MARKER not in said
    assert (ada.home / ".nanoclaw" / "groups" / "main" / "CLAUDE.local.md").is_symlink()
    assert ada.belongings() == before
