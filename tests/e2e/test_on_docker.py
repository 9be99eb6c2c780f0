"""The tests of whole hosts once more, with boxes that are containers: one setting changes, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.engine import Engine, engine

__all__ = ["engine"]  # the fixture

pytestmark = pytest.mark.ci  # everything once more, each box 0.3 s slower, and an engine to start
SUITES = tuple(
    f"tests/e2e/test_{name}.py"
    for name in ("message", "agents", "bad_input", "clients_in_box", "held_calls", "idle", "model_key", "ncl", "claw")
)


def run_on(engine: Engine, runtime: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run tests with this runtime in the settings of every host."""
    engine.docker("tag", engine.image, "nanoclaw-base")
    told = {"NANOCLAW_TEST_RUNTIME": runtime, "NANOCLAW_TEST_ENGINE": str(engine.socket)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False, timeout=600)


def passes(engine: Engine, runtime: str, *words: str) -> None:
    ran = run_on(engine, runtime, *words)
    assert ran.returncode == 0, ran.stdout[-6000:]
    assert engine.docker("ps", "-aq").stdout == "", "a container was left"


def test_whole_hosts_pass_their_tests_with_containers(engine: Engine) -> None:
    passes(engine, "docker", *SUITES)


def test_a_whole_host_passes_its_tests_with_a_kernel_for_each_box(engine: Engine) -> None:
    """gVisor: what a user is promised (tests/e2e/test_message.py)."""
    passes(engine, "docker:runsc", SUITES[0])
