"""nanoclaw.sh: the first command of a stranger, on machines that lack something, are cut off, or have all there is.

Most tests run the real script in a clone whose Python and package manager are small scripts of the test; the last ones
make a real .venv.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "cat", "cksum", "cp", "env", "flock", "mkdir", "readlink", "rm", "sleep", "tail", "touch")
PYTHON = """#!/bin/bash
echo "$*" >> {calls}
case "$*" in
    *"print("*) echo {version} ;;
    *"sys.exit("* | *"import venv"*) exit 0 ;;
    *"-m venv"*) mkdir -p "${{@: -1}}/bin"; cp "$0" "${{@: -1}}/bin/python" ;;
    *"-m pip"*) . {pip} ;;
    *) printf 'ran'; printf ' [%s]' "${{@:3}}"; echo ;;
esac
"""


class Machine:
    """A clone on a machine that has only what the test gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / "clone"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.pip = folder / "pip"
        self.clone.mkdir(parents=True)
        self.bin.mkdir()
        self.calls.write_text("")
        shutil.copy(ROOT / "nanoclaw.sh", self.clone)
        shutil.copy(ROOT / "pyproject.toml", self.clone)
        shutil.copytree(ROOT / "requirements", self.clone / "requirements")
        for tool in TOOLS:
            path = shutil.which(tool)
            assert path is not None
            (self.bin / tool).symlink_to(path)
        self.gives("bwrap", "exit 0")

    def gives(self, name: str, script: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def has_python(self, version: str = "3.12", pip: str = "exit 0") -> Machine:
        self.pip.write_text(pip)
        self.gives("python3", PYTHON.format(calls=self.calls, version=version, pip=self.pip).partition("\n")[2])
        return self

    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "HOME": ""}

    def run(self, *arguments: str, script: Path | None = None, uid: int | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            [str(script or self.clone / "nanoclaw.sh"), *arguments],
            env=self.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            user=uid,
        )
        return done.returncode, done.stdout, done.stderr

    def count(self, call: str) -> int:
        return sum(call in line for line in self.calls.read_text().splitlines())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_without_python_it_says_which_package_to_install(machine: Machine) -> None:
    machine.gives("apt-get", "exit 1")
    code, stdout, stderr = machine.run("chat", "hi")
    assert (code, stdout) == (2, "")
    assert "no Python found" in stderr and "apt-get install python3" in stderr


def test_an_old_python_is_named(machine: Machine) -> None:
    code, stdout, stderr = machine.has_python("3.9").run()
    assert (code, stdout) == (2, "")
    assert "Python 3.9 is too old; 3.11 or newer is needed" in stderr


def test_the_first_run_sets_up_and_says_so_on_stderr_only(machine: Machine) -> None:
    code, stdout, stderr = machine.has_python().run("chat", "a  b", "*")
    assert (code, stdout) == (0, "ran [chat] [a  b] [*]\n")
    assert "installing the Python packages ... done" in stderr
    assert machine.count("--require-hashes") == 2
    assert machine.count("--no-deps --require-hashes") == 1
    assert machine.count("--no-build-isolation -e") == 1


def test_later_runs_do_nothing_and_are_quick(machine: Machine) -> None:
    machine.has_python().run("status")
    machine.calls.write_text("")

    def took() -> float:
        began = time.perf_counter()
        assert machine.run("status") == (0, "ran [status]\n", "")
        return time.perf_counter() - began

    assert min(took() for _ in range(5)) <= 0.3
    assert machine.count("pip") == 0


def test_without_a_word_it_opens_the_chat(machine: Machine) -> None:
    assert machine.has_python().run()[1] == "ran [chat]\n"


def test_it_works_through_links_and_from_anywhere(machine: Machine) -> None:
    machine.has_python().run("status")
    (machine.folder / "one").symlink_to("clone/nanoclaw.sh")
    (machine.folder / "two").symlink_to(machine.folder / "one")
    assert machine.run("status", script=machine.folder / "two")[1] == "ran [status]\n"


def test_a_changed_pin_is_installed_at_the_next_run(machine: Machine) -> None:
    machine.has_python().run("status")
    machine.calls.write_text("")
    with (machine.clone / "requirements" / "base.txt").open("a") as pins:
        pins.write("# changed\n")
    machine.run("status")
    assert machine.count("-m pip") == 3 and machine.count("-m venv") == 0


def test_a_clone_that_was_moved_gets_a_new_environment(machine: Machine) -> None:
    machine.has_python().run("status")
    machine.calls.write_text("")
    moved = machine.clone.rename(machine.folder / "moved")
    assert machine.run("status", script=moved / "nanoclaw.sh")[0] == 0
    assert machine.count("-m venv") == 1


def test_a_machine_that_is_offline_is_told_so_and_what_is_done_is_kept(machine: Machine) -> None:
    machine.has_python(pip="echo 'Temporary failure in name resolution'; exit 1")
    code, stdout, stderr = machine.run("chat", "hi")
    assert (code, stdout) == (2, "") and "seems to be offline" in stderr
    machine.pip.write_text("exit 0")
    assert machine.run("status")[0] == 0
    assert machine.count("-m venv") == 1


def test_a_full_disk_is_named_and_the_next_run_begins_afresh(machine: Machine) -> None:
    machine.has_python(pip="echo 'OSError: [Errno 28] No space left on device'; exit 1")
    code, stdout, stderr = machine.run("chat", "hi")
    assert (code, stdout) == (2, "") and "the disk" in stderr and "is full" in stderr
    machine.pip.write_text("exit 0")
    assert machine.run("status")[0] == 0
    assert machine.count("-m venv") == 2


def test_a_set_up_that_was_killed_is_made_again(machine: Machine) -> None:
    machine.has_python(pip=f"touch {machine.folder}/installing; sleep 30")
    killed = subprocess.Popen(
        [str(machine.clone / "nanoclaw.sh"), "status"],
        env=machine.environment(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until((machine.folder / "installing").exists)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    machine.pip.write_text("exit 0")
    assert machine.run("status")[1] == "ran [status]\n"
    assert machine.count("-m venv") == 2


def test_two_set_ups_at_once_make_one_environment(machine: Machine) -> None:
    machine.has_python(pip="sleep 0.05")
    both = [
        subprocess.Popen(
            [str(machine.clone / "nanoclaw.sh"), "status"],
            env=machine.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    assert [process.communicate()[0] for process in both] == [b"ran [status]\n"] * 2
    assert machine.count("-m venv") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="installs as root: run the tests as root")
def test_a_missing_bubblewrap_is_installed_where_we_may(machine: Machine) -> None:
    machine.has_python()
    (machine.bin / "bwrap").unlink()
    machine.gives("apt-get", f"echo apt-get $* >> {machine.calls}; cp {machine.bin}/apt-get {machine.bin}/bwrap")
    code, stdout, stderr = machine.run("chat", "hi")
    assert (code, stdout) == (0, "ran [chat] [hi]\n")
    assert machine.count("apt-get install -y --no-install-recommends bubblewrap") == 1
    assert "installing bubblewrap ... done" in stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="installs as root: run the tests as root")
def test_a_bubblewrap_that_cannot_be_installed_ends_with_the_command(machine: Machine) -> None:
    machine.has_python()
    (machine.bin / "bwrap").unlink()
    machine.gives("apt-get", "echo E: no network; exit 100")
    code, stdout, stderr = machine.run("chat", "hi")
    assert (code, stdout) == (2, "")
    assert "E: no network" in stderr and "sudo apt-get install -y --no-install-recommends bubblewrap" in stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run the tests as root")
def test_a_user_who_may_not_install_is_given_the_command(tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = Machine(Path("/tmp") / tmp_path_factory.mktemp("x").name / str(os.getpid()))
    try:
        machine.folder.parent.chmod(0o755)
        for path in (machine.folder, *machine.folder.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
        machine.has_python()
        (machine.bin / "bwrap").unlink()
        machine.gives("dnf", "exit 1")
        code, stdout, stderr = machine.run("chat", "hi", uid=65534)
        assert (code, stdout) == (2, "")
        assert "the sandbox needs bubblewrap" in stderr and "sudo dnf install -y bubblewrap" in stderr
    finally:
        shutil.rmtree(machine.folder.parent)


def test_verbs_that_mend_things_work_without_bubblewrap(machine: Machine) -> None:
    machine.has_python()
    (machine.bin / "bwrap").unlink()
    assert machine.run("doctor")[:2] == (0, "ran [doctor]\n")


@pytest.mark.ci
def test_a_fresh_clone_sets_itself_up_below_a_private_folder_with_an_empty_home(tmp_path: Path) -> None:
    """`ci`: makes a whole .venv, 10 s and a package index."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    subprocess.run(["git", "clone", "-q", str(ROOT), str(private / "clone")], check=True)
    environment = {**os.environ, "HOME": "", "NANOCLAW_HOME": str(private / "home")}
    command = [str(private / "clone" / "nanoclaw.sh"), "--version"]
    first = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=600)
    assert first.returncode == 0 and first.stdout.startswith("nanoclaw ")
    began = time.perf_counter()
    second = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert time.perf_counter() - began <= 0.36  # 0.3 s of its own, 60 ms for the version
