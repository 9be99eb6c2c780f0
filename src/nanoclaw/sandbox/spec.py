"""What a box gets, as data: one pure function, so that it can be read, tested and shown.

In: `BoxInputs` (host paths of one run). Out: `SandboxSpec`, which a Runtime turns into a box.
The root file system itself (`/usr` and its links) is the runtime's: bubblewrap takes the host's, docker an image's.
Never: a path from the host in the environment or the command; a mount over a path inside `/workspace` or
`/home/agent`, where a link planted by an agent could redirect it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nanoclaw.contract.mailbox import IN_DIRECTORY, JOURNAL, OUT_DIRECTORY, OUTBOUND, OUTBOX
from nanoclaw.domain.limits import GIB as GIB  # who builds boxes finds them here
from nanoclaw.domain.limits import MIB as MIB
from nanoclaw.domain.limits import Limits as Limits
from nanoclaw.sandbox.interpreter import PYTHON, Interpreter
from nanoclaw.sandbox.surroundings import BUNDLES, GATEWAY_PORT, HOME, HOSTS, RUNNER, environment, etc_files

WORKSPACE = "/workspace"
AGENT = "/opt/agent/claude"
INSTRUCTIONS = "/etc/claude-code"
HOSTNAME = "agent"
COMPOSED_HOSTS, COMPOSED_CA = "hosts", "ca.pem"  # in `compose`: kept current by the host, mounted file by file
LISTEN_PORTS = (GATEWAY_PORT, 443)


@dataclass(frozen=True, slots=True)
class Mount:
    """A host file or folder (no link in its path) and where it appears in the box."""

    source: Path
    target: str
    writable: bool = False
    descriptor: int | None = None  # O_PATH, kept open by whoever checked it: this very thing is mounted, not the path


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """Everything a box is given. `files` are small generated files: path in the box -> bytes, read-only."""

    mounts: tuple[Mount, ...]
    files: dict[str, bytes]
    env: dict[str, str]
    limits: Limits
    command: tuple[str, ...]
    workdir: str
    host_uid: int | None  # on a root host the group's own uid; None: the host's
    hostname: str
    ports: tuple[int, ...] = LISTEN_PORTS  # listeners made on the box's loopback before it runs
    image: str = ""  # for runtimes that have images; '': the runtime's own


@dataclass(frozen=True, slots=True)
class BoxInputs:
    """The host's side of one run: where its files are and who it runs as."""

    in_directory: Path
    outbound_db: Path
    outbound_journal: Path
    outbox: Path
    workspace: Path
    home: Path
    compose: Path
    runner_source: Path  # the src/nanoclaw folder: contract/, runner/ and errors.py are taken from it
    interpreter: Interpreter
    agent_binary: Path | None
    timezone: str
    host_uid: int | None
    hostname: str = HOSTNAME
    limits: Limits = field(default_factory=Limits)
    extra: tuple[Mount, ...] = ()  # what a group has beside: folders of the machine, packages, skills
    image: str = ""
    recover: bool = False  # a throw-away box that only lets SQLite roll a hot journal back


def build_spec(inputs: BoxInputs) -> SandboxSpec:
    """Return what the box of this run gets; pure. Names and places are those of architecture sections 6 and 8."""
    command = (inputs.interpreter.in_box, "-I", "-S", RUNNER)
    return SandboxSpec(
        mounts=_outbound_mounts(inputs) if inputs.recover else _all_mounts(inputs),
        files=etc_files(inputs.hostname),
        env=environment(inputs.timezone, own_python=inputs.interpreter.prefix is not None, recover=inputs.recover),
        limits=inputs.limits,
        command=(*command, "--recover") if inputs.recover else command,
        workdir="/tmp" if inputs.recover else WORKSPACE,  # noqa: S108 - the box's own tmpfs
        host_uid=inputs.host_uid,
        hostname=inputs.hostname,
        ports=() if inputs.recover else LISTEN_PORTS,
        image=inputs.image,
    )


def _runner_mounts(inputs: BoxInputs) -> tuple[Mount, ...]:
    package = f"{RUNNER}/nanoclaw"
    source = inputs.runner_source
    mounts = (
        Mount(source / "contract", f"{package}/contract"),
        Mount(source / "errors.py", f"{package}/errors.py"),
        Mount(source / "runner", f"{package}/runner"),
        Mount(source / "runner" / "__main__.py", f"{RUNNER}/__main__.py"),
        Mount(source / "runner" / "ncl", f"{RUNNER}/bin/ncl"),
    )
    if inputs.interpreter.prefix is None:
        return mounts
    return (*mounts, Mount(inputs.interpreter.prefix, PYTHON))


def _outbound_mounts(inputs: BoxInputs) -> tuple[Mount, ...]:
    return (
        *_runner_mounts(inputs),
        Mount(inputs.outbound_db, f"{OUT_DIRECTORY}/{OUTBOUND}", writable=True),
        Mount(inputs.outbound_journal, f"{OUT_DIRECTORY}/{JOURNAL}", writable=True),
    )


def _all_mounts(inputs: BoxInputs) -> tuple[Mount, ...]:
    agent = () if inputs.agent_binary is None else (Mount(inputs.agent_binary, AGENT),)
    return (
        *_outbound_mounts(inputs),
        *agent,
        Mount(inputs.in_directory, IN_DIRECTORY),
        Mount(inputs.outbox, f"{OUT_DIRECTORY}/{OUTBOX}", writable=True),
        Mount(inputs.workspace, WORKSPACE, writable=True),
        Mount(inputs.home, HOME, writable=True),
        Mount(inputs.compose, INSTRUCTIONS),
        Mount(inputs.compose / COMPOSED_HOSTS, HOSTS),
        *(Mount(inputs.compose / COMPOSED_CA, bundle) for bundle in BUNDLES),
        *inputs.extra,
    )
