"""Canaries that look for rights: root, devices, settings, other processes and what those hold."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable
from functools import partial

from nanoclaw.sandbox.canaries.probe import Question, Reached, in_child, mount_points, processes, read

MOST_PROCESSES = 8  # a box's first process, its runner and what a runtime may have beside them
SETTINGS = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/randomize_va_space", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward",
    "/proc/sysrq-trigger", "/proc/kcore", "/sys/kernel/uevent_helper", "/sys/power/state",
)  # fmt: skip
DEVICES = (
    "mem",
    "kmem",
    "port",
    "kvm",
    "loop-control",
    "vsock",
    "vhost-vsock",
    "uinput",
    "mapper/control",
    "kmsg",
    "fuse",
)
ENVIRONMENT = frozenset({"HOSTNAME", "PWD", "TERM", "LC_CTYPE", "SHLVL", "container", "_"})  # runtimes' and shells' own


def not_root(_: Question) -> str:
    """It runs as nobody special, and cannot become root."""
    if 0 in (*os.getresuid(), *os.getresgid(), *os.getgroups()):
        raise Reached("it runs as root")
    attempts: list[Callable[[], None]] = [
        partial(os.setresuid, 0, 0, 0), partial(os.setresgid, 0, 0, 0), partial(os.setgroups, [0])
    ]  # fmt: skip
    for become in attempts:
        if in_child(partial(_code_of, become)) == 0:
            raise Reached("it can become root")
    return f"uid {os.getuid()}"


def _code_of(attempt: Callable[[], None]) -> int:
    try:
        attempt()
    except OSError as error:
        return error.errno or 1
    return 0


def capabilities(_: Question) -> str:
    """No right of root, and none to be had by running a program."""
    for line in read("/proc/self/status").decode(errors="replace").splitlines():
        name, colon, value = line.partition(":")
        if colon and name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") and int(value, 16):
            raise Reached(f"{name} is {value.strip()}")
    return "none"


def no_new_privileges(_: Question) -> str:
    """A set-user-id program gives it no right."""
    if ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) != 1:
        raise Reached("set-user-id programs work")
    return "set"


def devices(_: Question) -> str:
    """Disks, memory and other devices."""
    block = [f"/dev/{name}" for name in os.listdir("/dev") if stat.S_ISBLK(os.lstat(f"/dev/{name}").st_mode)]
    for path in (*block, *(f"/dev/{name}" for name in DEVICES)):
        if os.path.lexists(path):
            raise Reached(f"{path} is there")
    for made in ("/tmp/.nanoclaw-canary", "/dev/shm/.nanoclaw-canary"):  # noqa: S108 - in the box
        try:
            os.mknod(made, stat.S_IFBLK | 0o600, os.makedev(8, 0))
        except OSError:
            continue
        os.unlink(made)
        raise Reached(f"a device can be made at {made}")
    return "none"


def kernel_settings(_: Question) -> str:
    """The machine's settings."""
    for path in SETTINGS:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            continue
        raise Reached(f"{path} can be written")
    return f"{len(SETTINGS)} tried"


def cgroups(_: Question) -> str:
    """Its own limits."""
    for top in (point for point in mount_points() if point.startswith("/sys/fs/cgroup")):
        made = os.path.join(top, "nanoclaw-canary")
        try:
            os.mkdir(made)
        except OSError:
            continue
        os.rmdir(made)
        raise Reached(f"{top} can be written")
    return "none can be written"


def visible_processes(question: Question) -> str:
    """Only the box's own, and nothing of the host in how they were started."""
    seen = processes()
    if len(seen) > MOST_PROCESSES:
        raise Reached(f"{len(seen)} processes are visible")
    for pid in seen:
        try:
            words = read(f"/proc/{pid}/cmdline").decode(errors="replace")
        except OSError:
            continue
        for secret in (question["planted"], *question["paths"]):
            if secret in words:
                raise Reached(f"process {pid} was started with {secret}")
    return f"{len(seen)} visible"


def environment(question: Question) -> str:
    """No variable but those the host gave, in no process."""
    allowed, seen = ENVIRONMENT | set(question["env"]), 0
    for pid in processes():
        try:
            words = read(f"/proc/{pid}/environ").decode(errors="replace").split("\0")
        except OSError:
            continue
        seen += len(words)
        for word in words:
            if word and (word.partition("=")[0] not in allowed or question["planted"] in word):
                raise Reached(f"process {pid} has {word.partition('=')[0]}")
    return f"{seen} variables"


def descriptors(_: Question) -> str:
    """No open file of the host."""
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own
        if int(name) > 2 and not target.startswith("/proc/"):
            raise Reached(f"descriptor {name} is {target}")
        if int(name) <= 2 and not target.startswith(("pipe:", "socket:", "/dev/null", "host:")):
            raise Reached(f"descriptor {name} is {target}")
    return "pipes alone"
