"""The host's two children that are not boxes: the gateway and the rehearsal model, and what each may see.

On a root host each gets a uid of its own and finds its Python, its packages and (the gateway alone) its folder below
/mnt of a private mount namespace: no parent folder of the home, the clone or the Python need be open to that uid.
Their environment is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import nanoclaw
from nanoclaw.config import Config
from nanoclaw.errors import SandboxError
from nanoclaw.gateway.client import GatewayFds, SpawnGateway, gateway_command
from nanoclaw.log import Log
from nanoclaw.sandbox.interpreter import Interpreter, own_interpreter
from nanoclaw.sandbox.plan import LaunchPlan, Staging, host_environment, launch
from nanoclaw.supervise import wait_first

SOURCE = Path(nanoclaw.__file__).resolve().parent
REHEARSAL_BOOT = (
    "import sys; sys.path[:0] = sys.argv[1].split(':'); sys.argv[1:] = sys.argv[2:]; "
    "import runpy; runpy.run_module('nanoclaw.rehearsal', run_name='__main__', alter_sys=True)"
)
RESTART_SECONDS = 1.0
COMPILE_SECONDS = 20.0
LOG_BYTES = 65536
IN_EVERY_BOX = ("contract", "runner", "sandbox/canaries")
SpawnRehearsal = Callable[[Config, socket.socket], "subprocess.Popen[bytes]"]


@dataclass(frozen=True, slots=True)
class ChildPython:
    """This process's own Python, as a child finds it: program, folders to import from, library path."""

    program: str
    path: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


def stage_python(staging: Staging) -> ChildPython:
    """Show a child this process's Python, its packages and our source. Raises SandboxError."""
    interpreter = own_interpreter()
    program, env = str(interpreter.program), ()
    if interpreter.prefix is not None:
        prefix = staging.add(interpreter.prefix)
        program = f"{prefix}/{interpreter.program.relative_to(interpreter.prefix)}"
        env = (("LD_LIBRARY_PATH", f"{prefix}/lib"),)
    packages = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    folders = (SOURCE.parent, *(Path(folder) for folder in packages))
    return ChildPython(program, tuple(staging.add(folder) for folder in folders), env)


def gateway_spawner(config: Config) -> SpawnGateway:
    """Return how to start this home's gateway; makes its folder. Raises OSError, SandboxError."""
    folder, uid = config.paths.gateway, config.gateway_uid
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, uid, uid if config.is_root else -1)

    def spawn(fds: GatewayFds) -> subprocess.Popen[bytes]:
        staging = Staging(uid if config.is_root else None)
        python = stage_python(staging)
        command = gateway_command(
            python.program,
            python.path,
            Path(staging.add(folder)),
            fds,
            admin_uid=config.uid,
            upstream=config.settings.model_upstream or None,
        )
        return _launch(config, uid, python, staging, command, (fds.control.fileno(), fds.admin.fileno()))

    return spawn


def spawn_rehearsal(config: Config, listener: socket.socket) -> subprocess.Popen[bytes]:
    """Start the rehearsal model on a listening socket; it is given nothing else."""
    staging = Staging(config.rehearsal_uid if config.is_root else None)
    python = stage_python(staging)
    descriptor = listener.fileno()
    command = [python.program, "-I", "-S", "-c", REHEARSAL_BOOT, ":".join(python.path), str(descriptor)]
    command.append(str(os.getpid()))  # it ends when this process ends
    return _launch(config, config.rehearsal_uid, python, staging, command, (descriptor,))


def _launch(
    config: Config,
    uid: int,
    python: ChildPython,
    staging: Staging,
    command: list[str],
    keep: tuple[int, ...],
) -> subprocess.Popen[bytes]:
    plan = LaunchPlan(
        command=tuple(command),
        env=python.env,
        uid=uid if config.is_root else None,
        sources=tuple(staging.sources),
    )
    if not config.is_root:
        return subprocess.Popen(
            command,
            env=dict(python.env),
            pass_fds=keep,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    stdio = (subprocess.DEVNULL, subprocess.DEVNULL, subprocess.PIPE)
    return launch(plan, own_interpreter(), keep, stdio)


def compile_runner(interpreter: Interpreter) -> None:
    """Compile what every box imports, with the Python of the boxes; a box cannot (its mounts are read-only).

    Without it each start of a box compiles 2,000 lines afresh (60 ms). What is up to date is left; a clone that
    cannot be written is left as it is. Blocks for 50-300 ms.
    """
    folders = (str(SOURCE / part) for part in IN_EVERY_BOX)
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # boxes work without
        subprocess.run(
            [str(interpreter.program), "-I", "-S", "-m", "compileall", "-q", *folders],
            env=host_environment(interpreter),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=COMPILE_SECONDS,
        )


class Rehearsal:
    """Keeps the rehearsal model running while there is no model key, and never while there is one."""

    def __init__(self, config: Config, log: Log, spawn: SpawnRehearsal = spawn_rehearsal) -> None:
        self._config = config
        self._log = log
        self._spawn = spawn
        self.announce: Callable[[int | None], None] = lambda port: None  # set by host.py: the gateway is told the port
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()
        self.active = False

    def model_key(self, present: bool) -> None:
        """Take note of whether the vault holds a model key."""
        if present:
            self._wanted.clear()
            self._unwanted.set()
        else:
            self._unwanted.clear()
            self._wanted.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; a model that died is started again after a second."""
        while not stop.is_set():
            await wait_first(self._wanted, stop)
            if stop.is_set():
                return
            try:
                process = self._start()
            except (OSError, SandboxError) as error:  # no room for a process now: the model is not the host
                self._log.error("rehearsal.start_failed", error=str(error))
                await _pause(stop)
                continue
            self.active = True
            self._log.info("rehearsal.started", pid=process.pid)
            try:
                await self._watch(process, stop)
            finally:
                self.active = False
                self.announce(None)
                process.kill()
                process.wait()
                if process.stderr is not None:
                    process.stderr.close()
            self._log.info("rehearsal.stopped")

    def _start(self) -> subprocess.Popen[bytes]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            process = self._spawn(self._config, listener)
            self.announce(listener.getsockname()[1])
        return process

    async def _watch(self, process: subprocess.Popen[bytes], stop: asyncio.Event) -> None:
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        descriptor, words = os.pidfd_open(process.pid), process.stderr
        loop.add_reader(descriptor, gone.set)
        if words is not None:
            loop.add_reader(words, self._hear, words)
        try:
            await wait_first(gone, stop, self._unwanted)
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            if words is not None:
                loop.remove_reader(words)
        if gone.is_set() and not stop.is_set():
            self._log.warning("rehearsal.died", code=process.wait())
            await _pause(stop)

    def _hear(self, words: IO[bytes]) -> None:
        """Log what it says: a pipe that nobody reads fills up, and then it would hang."""
        data = os.read(words.fileno(), LOG_BYTES)
        if not data:
            asyncio.get_running_loop().remove_reader(words)
        for line in data.decode(errors="replace").splitlines():
            self._log.warning("rehearsal.logged", line=line)


async def _pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RESTART_SECONDS):
            await stop.wait()
