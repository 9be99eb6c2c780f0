"""The tests of whole hosts once more, with boxes that are containers: one setting changes, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.engine import Engine, engine

__all__ = ["engine"]  # the fixture

pytestmark = pytest.mark.ci  # everything once more, each box 0.3 s slower, and an engine to start
SUITES = ("tests/e2e/test_message.py",)


def run_on(engine: Engine, runtime: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run tests with this runtime in the settings of every host."""
    engine.docker("tag", engine.image, "nanoclaw-base")
    told = {"NANOCLAW_TEST_RUNTIME": runtime, "NANOCLAW_TEST_ENGINE": str(engine.socket)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize("runtime", ["docker", "docker:runsc"])
def test_whole_hosts_pass_their_tests_with_containers(runtime: str, engine: Engine) -> None:
    ran = run_on(engine, runtime, *SUITES)
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert engine.docker("ps", "-aq").stdout == "", "a container was left"
