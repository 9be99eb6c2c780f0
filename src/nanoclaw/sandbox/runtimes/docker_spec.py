"""What the engine is told to make for a box: one pure function from a SandboxSpec, so that it can be read and tested.

In: the spec, the uid, where the box's generated files lie on the host. Out: the body of `POST /containers/create`
(Engine API; hardening: security.md section 2). The container's first process is a shell that waits for one line on
stdin (so that a box is held until its release), runs the command, takes in orphans, and ends with it.
Never: uid 0; a capability; a network; a writable root; a terminal; the engine's log of what a box says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.interpreter import PYTHON
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.engine_seccomp import engine_profile
from nanoclaw.sandbox.spec import MIB, Limits, Mount, SandboxSpec
from nanoclaw.sandbox.surroundings import RUNNER

DEFAULT_IMAGE = "nanoclaw-base"
IMAGE_PYTHON = "/usr/bin/python3"
FORWARDER = f"{RUNNER}/nanoclaw/runner/forward.py"
GATE_FOLDER = "/session/gate"  # runner/forward.py's
GATE = 'IFS= read -r word && [ "$word" = go ] || exit 0; "$@"; exit $?'
GO = b"go\n"
SHM_BYTES = 64 * MIB
VAR_TMP_BYTES = 64 * MIB
OOM_SCORE = 500  # the kernel takes a box before the host when memory is short
LABELS = ("nanoclaw.install", "nanoclaw.runtime", "nanoclaw.session", "nanoclaw.fence")

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class BoxPlan:
    """What beside the spec decides what is made. `files`: path in the box -> where its bytes lie on the host."""

    label: BoxLabel
    runtime: str  # the NanoClaw name of it, `docker:runsc`
    oci_runtime: str  # the engine's name of it; '': the engine's default
    uid: int
    gid: int
    files: Mapping[str, Path]
    gate: Path | None = None  # folder of the unix sockets that stand for the listeners; None: real ones are made
    userns: str = ""  # `host` where the engine would shift uids
    beside: int = 0  # threads of the wall itself that the engine counts as the box's
    unlabelled: bool = False  # SELinux would keep the container from its mounts


def labels_of(label: BoxLabel, runtime: str) -> dict[str, str]:
    """Return a box's labels in the engine."""
    return dict(zip(LABELS, (label.install, runtime, label.session, str(label.fence)), strict=True))


def container_name(label: BoxLabel) -> str:
    """Return the one name a box can have in the engine."""
    return f"nanoclaw-{label.install}-{label.session}-{label.fence}"


def container_body(spec: SandboxSpec, plan: BoxPlan) -> Json:
    """Return the body of the request that creates the box's container. Raises SandboxError for uid 0."""
    if plan.uid == 0:
        raise SandboxError("A sandbox never runs as root; it needs a uid of its own.")
    spec = with_image_python(spec)
    command = list(spec.command)
    if plan.gate is not None and spec.ports:
        command = [IMAGE_PYTHON, "-I", "-S", FORWARDER, *map(str, spec.ports), "--", *command]
    return {
        "Image": spec.image or DEFAULT_IMAGE,
        "Hostname": spec.hostname,
        "User": f"{plan.uid}:{plan.gid}",
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "WorkingDir": spec.workdir,
        "Entrypoint": ["/bin/sh", "-c", GATE, "gate"],
        "Cmd": command,
        "Labels": labels_of(plan.label, plan.runtime),
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,  # the end of the host's side is the end of its stdin: a box asks itself to stop
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "NetworkDisabled": False,  # `none` below gives the loopback
        "StopSignal": "SIGKILL",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(spec, plan),
    }


def with_image_python(spec: SandboxSpec) -> SandboxSpec:
    """Return the spec without the host's own Python: in an image it is the image's own (architecture section 8)."""
    program = spec.command[0]
    if not program.startswith(f"{PYTHON}/"):
        return spec
    mounts = tuple(mount for mount in spec.mounts if mount.target != PYTHON)
    env = {name: value for name, value in spec.env.items() if name != "LD_LIBRARY_PATH"}
    return replace(spec, mounts=mounts, env=env, command=(IMAGE_PYTHON, *spec.command[1:]))


def _host_config(spec: SandboxSpec, plan: BoxPlan) -> Json:
    mounts = [_bind(mount) for mount in spec.mounts]
    mounts += [_bind(Mount(source, target)) for target, source in plan.files.items()]
    if plan.gate is not None:
        mounts.append(_bind(Mount(plan.gate, GATE_FOLDER)))
    security = ["no-new-privileges", f"seccomp={engine_profile()}"]
    config: Json = {
        "Mounts": mounts,
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": [*security, "label=disable"] if plan.unlabelled else security,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidMode": "",
        "Privileged": False,
        "UsernsMode": plan.userns,
        "ShmSize": SHM_BYTES,
        "Tmpfs": {
            "/tmp": f"rw,nosuid,nodev,exec,mode=1777,size={spec.limits.tmp_bytes}",  # noqa: S108 - in the box
            "/var/tmp": f"rw,nosuid,nodev,exec,mode=1777,size={VAR_TMP_BYTES}",  # noqa: S108 - in the box
        },
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        "OomScoreAdj": OOM_SCORE,
        **_limits(spec.limits, plan.beside),
    }
    return {**config, "Runtime": plan.oci_runtime} if plan.oci_runtime else config


def _limits(limits: Limits, beside: int) -> Json:
    def bound(name: str, value: int) -> Json:
        return {"Name": name, "Soft": value, "Hard": value}

    return {
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,  # with swap: none beside it
        "PidsLimit": limits.processes + beside,
        "NanoCpus": int(limits.cpu_cores * 1_000_000_000),
        "Ulimits": [bound("nofile", limits.open_files), bound("core", 0), bound("fsize", limits.file_bytes)],
    }


def _bind(mount: Mount) -> Json:
    return {
        "Type": "bind",
        "Source": str(source_of(mount)),
        "Target": mount.target,
        "ReadOnly": not mount.writable,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
    }


def source_of(mount: Mount) -> Path:
    """Return what the engine is to mount; of a descriptor, where the thing it holds lies now.

    The engine takes paths alone (a descriptor of ours is in another mount namespace: EINVAL, run), so somebody could
    swap it meanwhile: docker_start.py compares what is mounted with the descriptor before the box is released.
    """
    return mount.source if mount.descriptor is None else Path(os.readlink(f"/proc/self/fd/{mount.descriptor}"))
