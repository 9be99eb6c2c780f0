"""A host that starts two boxes, a polite and a stubborn one, says so, and waits to be killed. Run as a program."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from nanoclaw.domain.limits import Limits
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.spec import SandboxSpec
from tests.engine import IMAGE

PROGRAMS = (
    "import os, sys; os.write(1, b'o'); sys.stdin.read()",
    "import os, time; os.write(1, b'o'); time.sleep(300)",
)


async def main(root: Path, place: str, install: str) -> None:
    runtime = DockerRuntime("", root / "boxes", find_interpreter(), place)
    spec = SandboxSpec(
        (), {}, {"PATH": "/usr/bin"}, Limits(), ("",), "/", 1_900_000_001, "agent", ports=(), image=IMAGE
    )
    for fence, program in enumerate(PROGRAMS, 100):
        command = ("/usr/bin/python3", "-I", "-S", "-c", program)
        box = await runtime.start(replace(spec, command=command), BoxLabel("01KILLED", fence, install))
        box.release()
        await anext(box.bells())
    print("running", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
