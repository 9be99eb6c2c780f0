"""Run as root, this runs the whole of tests/wall again as an unprivileged uid that owns nothing of the machine.

The product, these tests and the few packages they need are copied to a folder that uid can read.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw.sandbox.interpreter import find_interpreter

NOBODYS_UID = 1_900_000_777
PARTS = ("src/nanoclaw/sandbox", "src/nanoclaw/domain", "src/nanoclaw/contract", "src/nanoclaw/runner", "tests/wall")
# The attempts to get out need the gateway, whose namespaces need root; test_wall.py has its own run as such a user.
# Engines and disk images need root too.
LEFT_OUT = (
    "__pycache__", "*.pyc", "*egress.py", "attempts_*.py", "internet.py", "test_wall.py", "*_docker.py",
    "test_disk_image.py", "test_packages.py", "registries.py",
)  # fmt: skip
PACKAGES = (
    "pytest", "pytest-asyncio", "typing-extensions", "pluggy", "iniconfig", "packaging", "pygments", "msgspec",
    "structlog",
)  # fmt: skip
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that any uid can read: `pytest`'s own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="nanoclaw-wall-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def copy_distribution(name: str, into: Path) -> None:
    for file in importlib.metadata.files(name) or ():
        if ".." not in file.parts and file.suffix != ".pyc":
            target = into / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target)


def copy_for_a_normal_user(readable: Path) -> Path:
    """Copy the product, these tests and what they need; return a folder that user may write."""
    for name in PARTS:
        shutil.copytree(REPOSITORY / name, readable / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in ("config.py", "errors.py", "clock.py", "log.py", "__init__.py"):
        shutil.copy(REPOSITORY / "src/nanoclaw" / name, readable / "src/nanoclaw" / name)
    (readable / "tests/unit").mkdir()
    for name in (
        "pyproject.toml",
        "tests/conftest.py",
        "tests/engine.py",
        "tests/live.py",
        "tests/loop_watch.py",
        "tests/runner_process.py",
        "tests/unit/test_mailbox_hostile.py",
    ):
        shutil.copy(REPOSITORY / name, readable / name)
    for name in PACKAGES:
        copy_distribution(name, readable / "packages")
    scratch = readable / "scratch"
    scratch.mkdir()
    os.chown(scratch, NOBODYS_UID, NOBODYS_UID)
    return scratch


def run_as_a_normal_user(readable: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the copy as a user that owns nothing but `scratch`."""
    scratch = readable / "scratch"
    return subprocess.run(
        [str(find_interpreter().program), "-m", *words],
        cwd=readable, user=NOBODYS_UID, group=NOBODYS_UID, extra_groups=[], capture_output=True, text=True, timeout=240,
        env={"PATH": "/usr/bin:/bin", "HOME": str(scratch), "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1",
             "PYTHONPATH": f"{readable / 'packages'}:{readable / 'src'}"},
    )  # fmt: skip


@pytest.mark.ci  # the whole wall once more: half a minute
@pytest.mark.skipif(os.geteuid() != 0, reason="already runs as a normal user")
def test_every_test_of_the_wall_holds_for_a_normal_user(readable: Path) -> None:
    interpreter = find_interpreter()
    if interpreter.prefix is not None:
        pytest.skip("there is no Python 3.11 in /usr that another uid could read: install python3")
    scratch = copy_for_a_normal_user(readable)
    words = ("pytest", "-p", "no:cacheprovider", "tests/wall", "-rs", f"--basetemp={scratch}/t")
    ran = run_as_a_normal_user(readable, *words)
    sys.stdout.write(ran.stdout[-6000:])
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout
