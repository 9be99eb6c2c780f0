"""How an agent group's sandbox and agent are set up: one value, read and written whole.

The parts that stand as JSON in `container_configs` are structs, checked when they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class CliScope(StrEnum):
    """How far `ncl` reaches inside the group's boxes."""

    DISABLED = "disabled"
    GROUP = "group"
    GLOBAL = "global"


class Kernel(StrEnum):
    """Whose kernel a box runs on."""

    SHARED = "shared"  # this machine's own, behind namespaces and seccomp
    SEPARATE = "separate"  # one of its own: gVisor's, or a virtual machine's


class BuildState(StrEnum):
    """queued -> building -> done | failed; what a dead host left unfinished is begun again."""

    QUEUED = "queued"
    BUILDING = "building"
    DONE = "done"
    FAILED = "failed"


class Packages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is installed for a group beside what every box has, by package manager. Names are checked before."""

    apt: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()


class McpServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool server that the agent starts inside its box; `instructions` say to the agent what it is for."""

    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    instructions: str = ""


class ExtraMount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder of this machine for the agent: `source` is an absolute path, `writable` only when said.

    In the box it is `/extra/<name>`; without a name the last part of `source`.
    """

    source: str
    writable: bool = False
    name: str = ""


class BoxLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What differs from the limits that every box has; None: as every box."""

    memory_mb: int | None = None
    processes: int | None = None
    disk_mb: int | None = None
    cpus: float | None = None
    open_files: int | None = None
    tmp_mb: int | None = None
    turn_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """One row of `container_configs`. `skills` None: all there are."""

    provider: str = "claude"
    model: str | None = None
    effort: str | None = None
    runtime: str = "bubblewrap"
    max_messages_per_prompt: int = 10
    skills: tuple[str, ...] | None = None
    mcp_servers: dict[str, McpServer] = field(default_factory=dict[str, McpServer])
    additional_mounts: tuple[ExtraMount, ...] = ()
    limits: BoxLimits = BoxLimits()  # noqa: RUF009  it is frozen
    instructions: str = ""
    cli_scope: CliScope = CliScope.GROUP
    require_kernel: Kernel | None = None  # a runtime that gives a weaker one is refused
    packages: Packages = Packages()  # noqa: RUF009  it is frozen
    packages_set: str = ""  # what was built of them and is in use: a folder's name, or an image; '': nothing
