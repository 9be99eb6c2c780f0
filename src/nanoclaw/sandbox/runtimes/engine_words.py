"""What a container engine answers, as types: the parts of the Engine API that are read. Pure."""

from __future__ import annotations

import msgspec

from nanoclaw.errors import SandboxError


class EngineError(SandboxError):
    """The engine refused, or did not answer."""

    def __init__(self, message: str, mend: str = "", status: int = 0) -> None:
        super().__init__(message, mend=mend)
        self.status = status


class OciRuntime(msgspec.Struct, frozen=True):
    """One of the engine's OCI runtimes: a program, or a containerd shim by its type."""

    path: str = ""
    runtime_type: str = msgspec.field(default="", name="runtimeType")


class EngineInfo(msgspec.Struct, frozen=True, rename="pascal"):
    """What `/info` tells of the engine."""

    server_version: str = ""
    operating_system: str = ""
    kind: str = msgspec.field(default="linux", name="OSType")
    default_runtime: str = ""
    runtimes: dict[str, OciRuntime] = msgspec.field(default_factory=dict[str, OciRuntime])
    security_options: list[str] = msgspec.field(default_factory=list[str])
    cgroup_version: str = ""
    init_binary: str = ""

    @property
    def is_rootless(self) -> bool:
        """Whether the engine runs as a normal user: its root is that user."""
        return any(option.startswith("name=rootless") for option in self.security_options)

    @property
    def is_remote(self) -> bool:
        """Whether its containers run in a virtual machine, not on this one's kernel."""
        return "Docker Desktop" in self.operating_system


class State(msgspec.Struct, frozen=True, rename="pascal"):
    """What a container does now."""

    running: bool = False
    pid: int = 0
    exit_code: int = 0
    out_of_memory: bool = msgspec.field(default=False, name="OOMKilled")
    error: str = ""


class Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    """One container, from `/containers/{id}/json`."""

    id: str
    state: State


class Listed(msgspec.Struct, frozen=True, rename="pascal"):
    """One container of `/containers/json`."""

    id: str
    state: str = ""
    labels: dict[str, str] | None = None


class Created(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer to a create."""

    id: str


class Version(msgspec.Struct, frozen=True, rename="pascal"):
    """What `/version` tells."""

    api_version: str = "1.40"


class Refusal(msgspec.Struct, frozen=True):
    """Why the engine did not do it."""

    message: str = ""


class Memory(msgspec.Struct, frozen=True):
    """A part of Stats."""

    usage: int | None = None


class Pids(msgspec.Struct, frozen=True):
    """A part of Stats."""

    current: int | None = None


class CpuUsage(msgspec.Struct, frozen=True):
    """A part of Stats."""

    total_usage: int | None = None


class Cpu(msgspec.Struct, frozen=True):
    """A part of Stats."""

    cpu_usage: CpuUsage = CpuUsage()


class Stats(msgspec.Struct, frozen=True):
    """What `/stats` counts; nanoseconds of CPU."""

    memory_stats: Memory = Memory()
    pids_stats: Pids = Pids()
    cpu_stats: Cpu = Cpu()
