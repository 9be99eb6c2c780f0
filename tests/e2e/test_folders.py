"""A folder of the machine, from `mounts allow` to the agent that reads it, on a real host with real boxes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import Chat, LiveHost

pytestmark = pytest.mark.ci  # a host and four boxes: ten seconds


def types(host: LiveHost, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(host.home)}
    command = [sys.executable, "-I", "-m", module, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_a_folder_is_allowed_given_read_written_and_forgotten(host: LiveHost, disk_path: Path) -> None:
    scans = disk_path / "letters" / "scans"
    scans.mkdir(parents=True)
    disk_path.chmod(0o755)
    (scans / "cat.txt").write_text("the cat is Tom")
    give = ("groups", "config", "add-mount", "main", "--path", str(scans), "--read-write")

    def ncl(*words: str) -> subprocess.CompletedProcess[str]:
        return types(host, "nanoclaw.admin.cli", *words)

    def mounts(*words: str) -> None:
        done = types(host, "nanoclaw.cli.main", "mounts", *words)
        assert done.returncode == 0, done.stderr

    host.start()
    chat = Chat(host)
    refused = ncl(*give)
    assert refused.returncode == 1 and "mounts allow" in refused.stderr
    mounts("allow", str(disk_path / "letters"))
    assert "is allowed read-only" in ncl(*give).stderr
    assert "the cat is Tom" in chat.ask("run: cat /extra/scans/cat.txt", "q0")
    assert "Read-only" in chat.ask("run: touch /extra/scans/new", "q1")
    mounts("allow", str(disk_path / "letters"), "--read-write")
    scans.chmod(0o777)
    ncl("groups", "restart", "main")
    assert "done-0" in chat.ask("run: touch /extra/scans/new; echo done-$?", "q2")
    assert (scans / "new").exists()
    mounts("forget", str(disk_path / "letters"))
    ncl("groups", "restart", "main")
    assert "No such file" in chat.ask("run: ls /extra/scans", "q3")
    assert "below no folder that you have allowed" in ncl("groups", "config", "get", "main").stdout
