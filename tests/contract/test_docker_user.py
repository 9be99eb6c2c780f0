"""A host that runs as a normal user on root's engine: its boxes are its own user, and get out by the forwarder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw.sandbox.interpreter import find_interpreter
from tests.engine import Engine, new_engine
from tests.wall.test_as_normal_user import NOBODYS_UID, REPOSITORY, copy_distribution

pytestmark = pytest.mark.ci  # an engine whose socket others may use, and containers


@pytest.fixture(scope="module")
def open_engine() -> Iterator[Engine]:
    """An engine that any user may use, as members of the group `docker` may."""
    for engine in new_engine():
        engine.folder.chmod(0o711)
        engine.socket.chmod(0o666)
        yield engine


@pytest.fixture
def place() -> Iterator[Path]:
    """A copy of the product that any uid can read, and a folder that the user may write."""
    folder = Path(tempfile.mkdtemp(prefix="nanoclaw-user-"))
    folder.chmod(0o755)
    shutil.copytree(REPOSITORY / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("boxes_of_a_user.py"), folder / "boxes_of_a_user.py")
    for name in ("msgspec", "typing-extensions"):
        copy_distribution(name, folder / "packages")
    (folder / "scratch").mkdir()
    os.chown(folder / "scratch", NOBODYS_UID, NOBODYS_UID)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("oci", "checked"), [("", "checked killed"), ("runsc", "refused what is mounted cannot be seen.")]
)
def test_a_users_host_runs_boxes_as_that_user(oci: str, checked: str, open_engine: Engine, place: Path) -> None:
    """gVisor's gofer is root, so that a user cannot compare what it mounts: a checked folder is refused there."""
    interpreter = find_interpreter()
    if interpreter.prefix is not None:
        pytest.skip("there is no Python 3.11 in /usr that another uid could read: install python3")
    ran = subprocess.run(
        [interpreter.program, place / "boxes_of_a_user.py", oci, open_engine.socket, open_engine.image,
         place / "scratch"],
        cwd=place, user=NOBODYS_UID, group=NOBODYS_UID, extra_groups=[], capture_output=True, text=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{place / 'packages'}:{place / 'src'}"}, check=False,
    )  # fmt: skip
    assert ran.stdout.splitlines() == ["0 agent out True", checked], ran.stderr[-3000:]
    assert open_engine.docker("ps", "-aq").stdout == ""
