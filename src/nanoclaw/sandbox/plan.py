"""What launch.py is told to become: the host's side of its plan, and the two programs that are started by it.

In: a SandboxSpec turned into options, or the gateway's command. Out: bytes on a descriptor (`LaunchPlan.to_bytes`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.launch import STAGE

LAUNCHER = "launch.py"  # beside this file


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """What to become. With a `uid`, `sources[n]` appears at `/mnt/<n>`; without, sources are where they are.

    `options` reach the program by `--args FD`; a `{blob}` among them takes the descriptor of the next of `blobs`, a
    `{blob}` in `command` that of the options. `expendable`: the kernel takes it before the host when memory is short.
    """

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    uid: int | None = None
    sources: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    rlimits: tuple[tuple[str, int], ...] = ()
    options: tuple[str, ...] = ()
    blobs: tuple[bytes, ...] = ()
    directory: str = "/"
    expendable: bool = False

    def to_bytes(self, parent: int) -> bytes:
        """Write the plan as NUL-separated records for a launcher whose parent is `parent`; ValueError on a NUL."""
        records = [("parent", str(parent)), ("directory", self.directory)]
        if self.uid is not None:
            records.append(("uid", str(self.uid)))
        if self.expendable:
            records.append(("expendable", ""))
        records += [("cgroup", path) for path in self.cgroups]
        records += [("source", path) for path in self.sources]
        records += [("rlimit", f"{name} {value}") for name, value in self.rlimits]
        records += [("blob", blob.hex()) for blob in self.blobs]
        records += [("option", option) for option in self.options]
        records += [("command", word) for word in self.command]
        records += [("env", f"{name}={value}") for name, value in self.env]
        if any("\0" in value for _, value in records):
            raise ValueError("a value of the plan holds a NUL")
        return b"".join(os.fsencode(f"{verb} {value}") + b"\0" for verb, value in records)


class Staging:
    """Collects the sources of a plan and says where the launched program will find each."""

    def __init__(self, uid: int | None) -> None:
        self._uid = uid
        self.sources: list[str] = []

    def add(self, source: Path) -> str:
        """Return the path at which the program finds `source`; links in it are resolved now. Raises SandboxError."""
        try:
            real = str(source.resolve(strict=True))
        except (OSError, RuntimeError) as error:
            raise SandboxError(f"{source} cannot be given to a sandbox: {error}") from None
        if self._uid is None:
            return real
        if real not in self.sources:
            self.sources.append(real)
        return f"{STAGE}/{self.sources.index(real)}"


def host_environment(interpreter: Interpreter) -> dict[str, str]:
    """Return the whole environment of a helper of the host run by this Python: empty, but for its own library path."""
    return {} if interpreter.prefix is None else {"LD_LIBRARY_PATH": str(interpreter.prefix / "lib")}


def launch(
    plan: LaunchPlan,
    interpreter: Interpreter,
    keep: Sequence[int] = (),
    stdio: tuple[int | None, int | None, int | None] = (subprocess.DEVNULL, None, None),
) -> subprocess.Popen[bytes]:
    """Start the launcher on a plan; `keep` are descriptors the program inherits, `stdio` as Popen's.

    From the loop's thread: what it becomes dies with the *thread* that started it. Blocks about 1 ms.
    """
    descriptor = os.memfd_create("plan", os.MFD_CLOEXEC)
    try:
        _write_all(descriptor, plan.to_bytes(os.getpid()))
        return subprocess.Popen(
            [str(interpreter.program), "-I", "-S", str(Path(__file__).with_name(LAUNCHER)), str(descriptor)],
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            env=host_environment(interpreter),
            pass_fds=[descriptor, *keep],
            cwd="/",
            start_new_session=True,  # Ctrl-C at the host's terminal is the host's to handle
        )
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb", closefd=False) as target:
        target.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
