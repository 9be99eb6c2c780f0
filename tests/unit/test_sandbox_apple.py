"""The command for Apple's container, which runs on no machine of these tests, and what the runtime says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.domain.limits import Limits
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.apple import AppleRuntime, container_command
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.spec import Mount, SandboxSpec

LABEL = BoxLabel("S1", 3, "0badcafe")
SPEC = SandboxSpec(
    mounts=(Mount(Path("/Users/ann/ws"), "/workspace", writable=True), Mount(Path("/Users/ann/c"), "/etc/claude-code")),
    files={"/etc/passwd": b"x"},
    env={"HOME": "/home/agent", "ODD": "a b=c;$(d)"},
    limits=Limits(cpu_cores=1.5),
    command=("/opt/python/bin/python3.12", "-I", "/opt/nanoclaw"),
    workdir="/workspace",
    host_uid=None,
    hostname="agent",
)


def words(spec: SandboxSpec = SPEC) -> list[str]:
    return list(container_command(spec, LABEL, (501, 20), {"/etc/passwd": Path("/Users/ann/f/0")}))


def after(option: str, command: list[str]) -> list[str]:
    return [command[index + 1] for index, word in enumerate(command) if word == option]


def test_the_command_takes_network_rights_and_a_writable_root_away() -> None:
    command = words()
    assert command[:3] == ["container", "run", "--interactive"]
    assert after("--network", command) == ["none"]
    assert after("--cap-drop", command) == ["ALL"]
    assert "--read-only" in command
    assert after("--uid", command) == ["501"]
    assert after("--memory", command) == ["2048M"]
    assert after("--cpus", command) == ["1"]
    assert "nproc=512:512" in after("--ulimit", command)
    assert "nanoclaw.fence=3" in after("--label", command)


def test_only_what_the_spec_makes_writable_can_be_written() -> None:
    assert after("--mount", words()) == [
        "type=bind,source=/Users/ann/ws,target=/workspace",
        "type=bind,source=/Users/ann/c,target=/etc/claude-code,readonly",
        "type=bind,source=/Users/ann/f/0,target=/etc/passwd,readonly",
    ]


def test_the_command_is_held_by_a_gate_and_each_word_stays_one_word() -> None:
    command = words()
    assert command[command.index("--entrypoint") + 1 :][:2] == ["/bin/sh", "nanoclaw-base"]
    assert command[-6] == "-c"
    assert command[-4:] == ["gate", "/usr/bin/python3", "-I", "/opt/nanoclaw"]
    assert "ODD=a b=c;$(d)" in after("--env", command)


def test_root_and_a_path_that_would_become_an_option_of_the_mount_are_refused() -> None:
    with pytest.raises(SandboxError, match="never runs as root"):
        container_command(SPEC, LABEL, (0, 0), {})
    with pytest.raises(SandboxError, match="comma"):
        words(replace(SPEC, mounts=(Mount(Path("/a,readonly=false"), "/workspace"),)))


async def test_the_runtime_says_that_it_was_not_run_and_starts_nothing() -> None:
    runtime = AppleRuntime()
    with pytest.raises(SandboxError, match=r"Apple's container"):
        runtime.check()
    with pytest.raises(SandboxError, match=r"Apple's container"):
        await runtime.start(SPEC, LABEL)
    assert await runtime.list_boxes("0badcafe") == []
    assert await runtime.end_orphans("0badcafe") == 0
    assert [line.how for line in runtime.capabilities()] == ["not run by us"]
    await runtime.close()
