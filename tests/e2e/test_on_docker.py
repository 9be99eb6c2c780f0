"""The tests of whole hosts once more, with boxes that are containers: one setting changes, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.engine import Engine

pytestmark = pytest.mark.ci  # everything once more, each box 0.3 s slower, and an engine to start
USUAL = ("message", "agents", "clients_in_box")
OTHERS = ("bad_input", "held_calls", "idle", "model_key", "ncl", "claw")
PROMISES = "works_as_nobody or nothing_outside or second_box"  # of test_message.py


def suites(*names: str) -> list[str]:
    return [f"tests/e2e/test_{name}.py" for name in names]


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
    passes(engine, "docker", *suites(*USUAL))


@pytest.mark.long  # a minute: what is the same with every runtime
def test_whole_hosts_pass_their_other_tests_with_containers(engine: Engine) -> None:
    passes(engine, "docker", *suites(*OTHERS))


def test_a_whole_host_keeps_its_promises_with_a_kernel_for_each_box(engine: Engine) -> None:
    """gVisor."""
    passes(engine, "docker:runsc", *suites("message"), "-k", PROMISES)


@pytest.mark.long  # most of a minute: the agent's program takes seconds to start in gVisor
def test_a_whole_host_passes_its_tests_with_a_kernel_for_each_box(engine: Engine) -> None:
    passes(engine, "docker:runsc", *suites("message"))
