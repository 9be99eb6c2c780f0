"""`nanoclaw doctor --prove`: a real wall is tried, every canary has its line, and what got through is an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from nanoclaw.cli.finding import State
from nanoclaw.cli.prove import describe
from nanoclaw.sandbox.prove import LIMIT_MEANINGS, MEANINGS, Finding, Result


def test_doctor_proves_a_wall_without_a_host_and_leaves_nothing(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("nanoclaw")
    environment = {"NANOCLAW_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    words = [str(program), "doctor", "--prove", "--json"]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    findings = {line["what"]: line["state"] for line in json.loads(said.stdout)}
    assert said.returncode == 0, said.stderr
    assert set(findings) == {*MEANINGS, *LIMIT_MEANINGS, "bubblewrap"}
    assert set(findings.values()) == {"ok"}
    assert not list(tmp_path.glob("nanoclaw-*"))


def test_doctor_names_what_got_through_and_what_it_means() -> None:
    failed = describe(Result("dns", Finding.FAILED, "127.0.0.53 resolves names"))
    assert failed.state is State.WRONG
    assert "the agent could send data out in name look-ups (127.0.0.53 resolves names)" in failed.words
    assert describe(Result("memory", Finding.NOT_KEPT, "no cgroup")).state is State.NOTE


def test_doctor_refuses_a_runtime_that_nobody_knows_and_one_without_prove(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("nanoclaw")
    environment = {"NANOCLAW_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    for words, code, said in (
        (("--prove", "--runtime", "chroot"), 1, "There is no runtime 'chroot'"),
        (("--runtime", "docker"), 2, "--runtime goes with --prove"),
    ):
        ran = subprocess.run(
            [str(program), "doctor", *words], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == code
        assert said in ran.stderr
