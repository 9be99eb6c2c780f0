"""Canaries that call the kernel: namespaces, mounts, tracing, and what an agent never needs."""

from __future__ import annotations

import os

from nanoclaw.sandbox.canaries.probe import Question, Reached, read, refuse

SIGCHLD = 17
NEW_NAMESPACES = {"user": 0x10000000, "mount": 0x20000, "network": 0x40000000, "process": 0x20000000}
KERNEL_CALLS = (
    "perf_event_open", "userfaultfd", "kexec_load", "init_module", "open_by_handle_at", "fanotify_init", "acct",
    "syslog", "swapon", "sethostname", "quotactl",
)  # fmt: skip


def new_namespaces(_: Question) -> str:
    """Namespaces of its own, where it would be root."""
    refuse(("clone", NEW_NAMESPACES["user"] | SIGCHLD, 0, 0, 0, 0), *(("unshare", f) for f in NEW_NAMESPACES.values()))
    return "refused"


def enter_namespaces(_: Question) -> str:
    """The namespaces of another process."""
    for name in ("mnt", "net", "pid", "user"):
        try:
            descriptor = os.open(f"/proc/1/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        refuse(("setns", descriptor, 0))
        os.close(descriptor)
    return "refused"


def own_namespaces(question: Question) -> str:
    """None of the host's namespaces is the box's."""
    for name, number in question["namespaces"].items():
        try:
            own = os.stat(f"/proc/self/ns/{name}").st_ino
        except OSError:
            continue
        if own == number:
            raise Reached(f"it shares the host's {name} namespace")
    return ", ".join(question["namespaces"])


def own_kernel(question: Question) -> str:
    """A kernel that is said to be the box's own is not the host's."""
    if not question["separate"]:
        return "shared, as said"
    try:
        boot = read("/proc/sys/kernel/random/boot_id").decode().strip()
    except OSError:
        return "it has no boot id"
    if boot == question["boot"]:
        raise Reached("it runs on the host's kernel")
    return "another boot id"


def mount(_: Question) -> str:
    """File systems of its own making."""
    refuse(
        ("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        ("umount2", b"/proc", 2),
        ("pivot_root", b"/", b"/"),
        ("fsopen", b"tmpfs", 0),
        ("open_tree", -100, b"/", 1),
    )
    return "refused"


def ptrace(_: Question) -> str:
    """Looking into other processes."""
    refuse(("ptrace", 0, 0, 0, 0), ("ptrace", 0x4206, 1, 0, 0), ("process_vm_readv", 1, 0, 0, 0, 0, 0))
    return "refused"


def io_uring(_: Question) -> str:
    """System calls past the filter."""
    refuse(("io_uring_setup", 1, bytes(120)))
    return "refused"


def bpf(_: Question) -> str:
    """Programs in the kernel."""
    refuse(("bpf", 0, bytes(72), 72))
    return "refused"


def keyctl(_: Question) -> str:
    """The kernel's keyrings, which no namespace divides."""
    refuse(("keyctl", 0, -3, 0), ("add_key", b"user", b"nanoclaw-canary", b"x", 1, -1))
    return "refused"


def kernel_calls(_: Question) -> str:
    """Other parts of the kernel that an agent never needs."""
    refuse(*((name, -1, None, -1, -1, 0) for name in KERNEL_CALLS))
    return f"{len(KERNEL_CALLS)} refused"
