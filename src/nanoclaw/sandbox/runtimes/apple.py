"""Boxes as Apple's containers (macOS 26, Apple silicon): the command is built and tested, and was never run by us.

Each of Apple's containers is a virtual machine of its own. In: SandboxSpec, BoxLabel. Out: the `container run` command
(`container_command`; flags: docs/command-reference.md of apple/container, 1.x). The runtime itself refuses: no host of
ours has run it, and a unix socket of the host does not cross into the machine, so a box had no way to the gateway.
Never: a box that is said to be built and was not. Fails: SandboxError, always, in plain words.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from nanoclaw.domain.group import Kernel
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.base import Box, BoxLabel, Capability, Hold
from nanoclaw.sandbox.runtimes.docker_spec import (
    DEFAULT_IMAGE,
    GATE,
    VAR_TMP_BYTES,
    container_name,
    labels_of,
    source_of,
    with_image_python,
)
from nanoclaw.sandbox.spec import MIB, Mount, SandboxSpec

PROGRAM = "container"
NAME = "apple"
INSTEAD = "Run NanoClaw on Linux, with bubblewrap or Docker."


def container_command(
    spec: SandboxSpec, label: BoxLabel, ids: tuple[int, int], files: dict[str, Path]
) -> tuple[str, ...]:
    """Return the command that would run the box, held until a line `go` on its stdin. Raises SandboxError for uid 0."""
    uid, gid = ids
    if uid == 0:
        raise SandboxError("A sandbox never runs as root; it needs a uid of its own.")
    spec, limits = with_image_python(spec), spec.limits
    words = [PROGRAM, "run", "--interactive", "--rm", "--progress", "none", "--name", container_name(label)]
    for name, value in labels_of(label, NAME).items():
        words += ["--label", f"{name}={value}"]
    words += ["--network", "none", "--no-dns", "--read-only", "--cap-drop", "ALL", "--uid", str(uid), "--gid", str(gid)]
    words += ["--cpus", str(max(1, int(limits.cpu_cores))), "--memory", f"{limits.memory_bytes // MIB}M"]
    words += ["--ulimit", f"nofile={limits.open_files}:{limits.open_files}", "--ulimit", "core=0:0"]
    words += ["--ulimit", f"nproc={limits.processes}:{limits.processes}"]
    words += ["--ulimit", f"fsize={limits.file_bytes}:{limits.file_bytes}"]
    words += ["--tmpfs", f"/tmp:size={limits.tmp_bytes}", "--tmpfs", f"/var/tmp:size={VAR_TMP_BYTES}"]  # noqa: S108
    for mount in (*spec.mounts, *(Mount(source, target) for target, source in files.items())):
        words += ["--mount", _mount_word(mount)]
    for name, value in spec.env.items():
        words += ["--env", f"{name}={value}"]
    words += ["--workdir", spec.workdir, "--entrypoint", "/bin/sh", spec.image or DEFAULT_IMAGE]
    return (*words, "-c", GATE, "gate", *spec.command)


def _mount_word(mount: Mount) -> str:
    source = str(source_of(mount))
    if "," in source or "," in mount.target:
        raise SandboxError(f"{source} has a comma in its name, which Apple's container cannot mount.")
    word = f"type=bind,source={source},target={mount.target}"
    return word if mount.writable else f"{word},readonly"


class AppleRuntime:
    """Says why it starts no box."""

    @property
    def name(self) -> str:
        """Its name in settings and labels."""
        return NAME

    @property
    def kernel(self) -> Kernel:
        """A virtual machine for each box."""
        return Kernel.SEPARATE

    def check(self) -> None:
        """Raise SandboxError: where it could run, and that it has not been."""
        if sys.platform != "darwin":
            raise SandboxError("Apple's container runs on macOS 26 alone.", mend=INSTEAD)
        there = "is installed" if shutil.which(PROGRAM, path="/usr/local/bin:/opt/homebrew/bin") else "is not installed"
        raise SandboxError(
            f"Apple's container ({there}) was never run by us, and its boxes could not reach the gateway.", mend=INSTEAD
        )

    def capabilities(self) -> tuple[Capability, ...]:
        """Return nothing that is kept: nothing of it was run."""
        return (Capability("everything", Hold.NONE, "not run by us"),)

    def check_image(self, image: str) -> None:
        """Boxes have no image here."""

    async def list_boxes(self, install: str) -> list[BoxLabel]:
        """Return no box: none was started."""
        return []

    async def start(self, spec: SandboxSpec, label: BoxLabel) -> Box:
        """Refuse, as `check` does."""
        self.check()
        raise SandboxError("Apple's container was never run by us.", mend=INSTEAD)

    async def end_orphans(self, install: str) -> int:
        """End none: none was started."""
        return 0

    async def close(self) -> None:
        """Hold nothing."""
