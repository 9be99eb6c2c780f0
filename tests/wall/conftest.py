"""A real wall for each test: bubblewrap, this home's own install id, and probes that run inside a box.

A probe is Python source run in the box by the box's interpreter; what it prints to stderr comes back. Tests run as
whoever runs pytest; as root, test_as_normal_user.py runs them all again as an unprivileged uid.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import nanoclaw
from nanoclaw.sandbox.inbound import RunRow
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.mailbox import Mailbox, create_mailbox
from nanoclaw.sandbox.mounts import remove_tree
from nanoclaw.sandbox.runtimes.base import BoxExit, BoxLabel
from nanoclaw.sandbox.runtimes.bubblewrap import BubblewrapRuntime
from nanoclaw.sandbox.runtimes.process import ProcessBox
from nanoclaw.sandbox.spec import BoxInputs, Limits, SandboxSpec, build_spec
from nanoclaw.sandbox.surroundings import hosts_text

BOX_UID = 1_900_000_001 if os.geteuid() == 0 else os.geteuid()
DEADLINE_SECONDS = 20


@dataclass
class Wall:
    """One install with one group: its folders, its runtime, and what was started in it."""

    root: Path
    runtime: BubblewrapRuntime
    install: str
    mailbox: Mailbox
    inputs: BoxInputs
    fence: int = 0

    def label(self) -> BoxLabel:
        """A label no earlier box of this install had."""
        self.fence += 1
        return BoxLabel("01TESTSESSION", self.fence, self.install)

    def spec(self, code: str, limits: Limits | None = None) -> SandboxSpec:
        """The real spec of a run, with a probe in the runner's place."""
        spec = build_spec(self.inputs)
        return replace(spec, command=(*self.python(), textwrap.dedent(code)), limits=limits or spec.limits)

    def python(self) -> tuple[str, ...]:
        return (self.inputs.interpreter.in_box, "-I", "-S", "-c")

    async def start(self, code: str, limits: Limits | None = None) -> ProcessBox:
        """A released box that runs `code`."""
        box = await self.runtime.start(self.spec(code, limits), self.label())
        box.release()
        return box

    async def run(self, code: str, limits: Limits | None = None) -> BoxExit:
        """Run `code` in a box to its end."""
        box = await self.start(code, limits)
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await box.wait()

    async def probe(self, code: str) -> str:
        """What `code` said on stderr; it must end well."""
        ended = await self.run(
            "import os, sys\ndef say(*words): print(*words, file=sys.stderr)\n" + textwrap.dedent(code)
        )
        assert ended.code == 0, ended
        return ended.stderr_tail


def make_inputs(root: Path, mailbox: Mailbox) -> BoxInputs:
    """A group's folders, as the host makes them at its first start."""
    for name, mode in (("workspace", 0o700), ("home", 0o700), ("compose", 0o755)):
        (root / name).mkdir(mode=mode)
    for name in ("workspace", "home"):
        os.chown(root / name, BOX_UID, BOX_UID if os.geteuid() == 0 else -1)
    for name, text in (("CLAUDE.md", "be kind\n"), ("hosts", hosts_text("agent")), ("ca.pem", "")):
        (root / "compose" / name).write_text(text)
    return BoxInputs(
        in_directory=mailbox.in_directory,
        outbound_db=mailbox.outbound_db,
        outbound_journal=mailbox.outbound_journal,
        outbox=mailbox.outbox,
        workspace=root / "workspace",
        home=root / "home",
        compose=root / "compose",
        runner_source=Path(nanoclaw.__file__).parent,
        interpreter=find_interpreter(),
        agent_binary=None,
        timezone="Europe/Vienna",
        host_uid=BOX_UID if os.geteuid() == 0 else None,
    )


@pytest.fixture
async def wall(tmp_path: Path) -> AsyncIterator[Wall]:
    """A wall; afterwards nothing of it may be left: no process, cgroup, record or descriptor."""
    before = open_descriptors()
    tmp_path.chmod(0o700)
    mailbox = create_mailbox(
        tmp_path / "1", RunRow(1, "01TESTSESSION", "{}"), BOX_UID, BOX_UID if os.geteuid() == 0 else -1
    )
    install = secrets.token_hex(4)
    interpreter = find_interpreter()
    runtime = BubblewrapRuntime(tmp_path / "boxes", interpreter)
    yield Wall(tmp_path, runtime, install, mailbox, make_inputs(tmp_path, mailbox))
    await runtime.close()
    for left in (tmp_path / "workspace", mailbox.directory):
        remove_tree(left)  # pytest's own cleaning gives up on what hostile boxes leave
        assert not left.exists()
    assert not list((tmp_path / "boxes").glob("*")), "a record was left"
    assert not cgroups_of(install), "a cgroup was left"
    assert open_descriptors() <= before, "a descriptor was left open"


def open_descriptors() -> set[tuple[str, str]]:
    """This process's pipes, sockets and the like; the loop's own are the same before and after."""
    found: set[tuple[str, str]] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
        if not target.endswith(".py"):  # the loop watch reads source lines in a thread of its own
            found.add((name, target))
    return found


def cgroups_of(install: str) -> list[Path]:
    # os.walk goes on where another host's cgroup vanishes under it; glob does not
    found = os.walk("/sys/fs/cgroup")
    return [Path(top, name) for top, folders, _ in found for name in folders if name == f"nanoclaw-{install}"]
