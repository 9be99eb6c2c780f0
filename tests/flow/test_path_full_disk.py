"""A full disk: nothing is lost, nothing is said twice, the host stays up and goes on when there is room again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.full_disk import NAMES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("full")
    command = [sys.executable, "-m", "tests.flow.full_disk", str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    if "cannot" in said:
        pytest.skip(f"no mount namespace here ({said['cannot']}); run as root, or allow user namespaces")
    return said


@pytest.mark.parametrize("scenario", NAMES)
def test_on_a_full_disk_it_is_true_that(played: dict[str, str], scenario: str) -> None:
    assert played[scenario] == "ok", played[scenario]
