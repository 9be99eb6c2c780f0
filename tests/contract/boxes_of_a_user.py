"""A host that is not root on an engine that is: starts boxes as its own user, says what it saw. Run as a program."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import nanoclaw
from nanoclaw.domain.limits import Limits
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.interpreter import Interpreter
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.spec import Mount, SandboxSpec

PROGRAM = """
import os, pwd, socket
open("/workspace/mine", "w").close()
with socket.create_connection(("127.0.0.1", 443), 5) as sock:
    sock.sendall(b"hi")
    os.write(2, pwd.getpwuid(os.getuid()).pw_name.encode() + b" " + sock.recv(10))
"""
DEADLINE_SECONDS = 30


async def main(oci: str, place: str, image: str, root: Path) -> None:
    workspace = root / f"workspace-{oci}"
    workspace.mkdir()
    runtime = DockerRuntime(oci, root / "boxes", Interpreter(Path("/usr/bin/python3")), place)
    spec = SandboxSpec(
        mounts=(
            Mount(workspace, "/workspace", writable=True),
            Mount(Path(nanoclaw.__file__).parent / "runner", "/opt/nanoclaw/nanoclaw/runner"),
        ),
        files={"/etc/passwd": b""},
        env={"PATH": "/usr/bin:/bin"},
        limits=Limits(),
        command=("/usr/bin/python3", "-I", "-S", "-c", PROGRAM),
        workdir="/workspace",
        host_uid=None,
        hostname="agent",
        image=image,
    )
    box = await runtime.start(spec, BoxLabel("01USER", 1, "0badcafe"))
    box.release()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE_SECONDS):
        taken, _ = await loop.sock_accept(box.listeners[1])
        with taken:
            await loop.sock_recv(taken, 10)
            await loop.sock_sendall(taken, b"out")
        ended = await box.wait()
    print(ended.code, ended.stderr_tail, (workspace / "mine").stat().st_uid == os.geteuid())
    descriptor = os.open(workspace, os.O_PATH)
    checked = replace(spec, mounts=(replace(spec.mounts[0], descriptor=descriptor),), ports=())
    try:
        held = await runtime.start(checked, BoxLabel("01USER", 2, "0badcafe"))
        held.kill()
        print("checked", (await held.wait()).reason)
    except SandboxError as error:
        print("refused", str(error).rpartition(": ")[2])
    await runtime.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])))
