"""Where the system's Python is too old for boxes, they run on the host's own, which may lie below a closed folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nanoclaw.sandbox.interpreter import own_interpreter
from tests.live import Chat, LiveHost, wait_until

# in a mount namespace of its own the host finds another program in the place of the system's Python
WITH_OLD_PYTHON = 'test ! -e /usr/bin/python3 || mount --bind "$0" /usr/bin/python3 && exec "$@"'


def start_beside_an_old_python(host: LiveHost, old: Path) -> None:
    """Start the host where /usr/bin/python3 says that it is Python 3.9."""
    old.write_text("#!/bin/sh\necho Python 3.9.2\n")
    old.chmod(0o755)
    host.home.mkdir(parents=True, exist_ok=True)
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", WITH_OLD_PYTHON, str(old)]
    with (host.home / "host.log").open("ab") as log:
        host.process = subprocess.Popen(
            [*unshare, sys.executable, "-m", "nanoclaw.cli.main", "up"],
            env={"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(host.home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    wait_until(lambda: host.is_dead() or can_connect(host), "a host", 15)
    assert not host.is_dead(), host.log()


def can_connect(host: LiveHost) -> bool:
    try:
        Chat(host).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="hides the system's Python: run the tests as root"
)
def test_boxes_run_on_the_hosts_own_python_where_the_systems_is_too_old(host: LiveHost, tmp_path: Path) -> None:
    own = own_interpreter()
    if own.prefix is None:
        pytest.skip("this Python lies in /usr; run with one that does not (uv python, pyenv)")
    start_beside_an_old_python(host, tmp_path / "old-python")
    chat = Chat(host)
    command = chat.ask("run: tr '\\0' ' ' < /proc/2/cmdline; env | grep LD_LIBRARY; ls -A /opt/python/bin", "one")
    assert command.startswith(f"{own.in_box} -I -S /opt/nanoclaw")
    assert own.in_box.startswith("/opt/python/bin/python3.")
    assert "LD_LIBRARY" not in command  # the runner's alone: the agent's own programs find the system's libraries
    assert own.program.name in command
    assert chat.ask("remember: the cat is called Tom", "two") == "Remembered: the cat is called Tom"
