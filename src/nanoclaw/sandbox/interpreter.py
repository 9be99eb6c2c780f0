"""Which Python runs inside a box: the system's, or the host's own, shown there at /opt/python."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.errors import SandboxError

PYTHON = "/opt/python"
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python >= 3.11 that can run in a box. `prefix` is bound at /opt/python when it lies outside `/usr`."""

    program: Path
    prefix: Path | None = None

    @property
    def in_box(self) -> str:
        """Return its path inside a box."""
        return str(self.program) if self.prefix is None else f"{PYTHON}/{self.in_prefix}"

    @property
    def in_prefix(self) -> Path:
        """Return its path below its prefix."""
        return self.program.relative_to(self.prefix or "/")


def find_interpreter() -> Interpreter:
    """Return the Python for boxes: the system's when >= 3.11, else this process's own, bound at /opt/python.

    Runs `/usr/bin/python3 -V` once (5 ms): call it at start, keep the answer. Raises SandboxError when there is none.
    """
    system = Path("/usr/bin/python3")
    if system.exists():
        said = subprocess.run([str(system), "-V"], capture_output=True, env={}, check=False, timeout=10).stdout
        version = re.match(rb"Python (\d+)\.(\d+)", said)
        if version and (int(version[1]), int(version[2])) >= OLDEST_PYTHON:
            return Interpreter(system)
    return own_interpreter()


def own_interpreter() -> Interpreter:
    """Return the Python this process runs on, outside its venv. Raises SandboxError when it cannot be found."""
    prefix = Path(sys.base_prefix).resolve()
    program = prefix / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if not program.exists():
        raise SandboxError(
            "No Python 3.11 or newer that a sandbox could use was found.", mend="Install python3 3.11 or newer."
        )
    return Interpreter(program) if prefix.is_relative_to("/usr") else Interpreter(program, prefix)
