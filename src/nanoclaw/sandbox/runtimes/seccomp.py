"""The system calls a box may not make, as a classic BPF program for `bwrap --seccomp`, generated here.

A denylist on top of namespaces, dropped capabilities and no_new_privs: it closes what those leave open (AF_VSOCK,
io_uring, ptrace: security.md sections 1.2-1.3) and the kernel surface an agent never needs. Pure: no library, no file.
Numbers: Linux `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h` (aarch64).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nanoclaw.errors import SandboxError

LD_WORD, JEQ, JGE, JSET, AND, RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
KILL, ALLOW = 0x80000000, 0x7FFF0000
EPERM, ENOSYS = 0x00050001, 0x00050026
NR, ARCH = 0, 4  # struct seccomp_data
ARGUMENT = (16, 24)  # low words of the first two arguments; both architectures are little-endian
X32_BIT = 0x40000000
CLONE_NEW_ANY = 0x7E020080  # NEWTIME NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET
FAMILIES = (1, 2, 10, 16)  # UNIX, INET, INET6, NETLINK
TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
LEASES = (1024,)  # F_SETLEASE: who opens a leased file waits up to 45 s for its holder (fcntl(2)), the host too
UNSHARED = -1

# name: (x86_64, aarch64); UNSHARED where an architecture has no such call
REFUSED: dict[str, tuple[int, int]] = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "statmount": (457, 457), "listmount": (458, 458),
    "unshare": (272, 97), "setns": (308, 268),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "lookup_dcookie": (212, 18),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "create_module": (174, UNSHARED), "query_module": (178, UNSHARED), "get_kernel_syms": (177, UNSHARED),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "fanotify_init": (300, 262),
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "acct": (163, 89),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "nfsservctl": (180, 42), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58),
    "iopl": (172, UNSHARED), "ioperm": (173, UNSHARED), "modify_ldt": (154, UNSHARED), "uselib": (134, UNSHARED),
    "ustat": (136, UNSHARED), "sysfs": (139, UNSHARED), "_sysctl": (156, UNSHARED),
    "mbind": (237, 235), "set_mempolicy": (238, 237), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450), "lsm_set_self_attr": (460, 460),
}  # fmt: skip
# These answer "no such call", so that libraries fall back to the older call, whose arguments can be checked.
ABSENT: dict[str, tuple[int, int]] = {
    "clone3": (435, 435), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip
CHECKED = {"clone": (56, 220), "socket": (41, 198), "socketpair": (53, 199), "ioctl": (16, 29), "fcntl": (72, 25)}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One machine type: its AUDIT_ARCH number and its column in the tables."""

    audit: int
    column: int
    has_x32: bool


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, 0, has_x32=True),
    "aarch64": Architecture(0xC00000B7, 1, has_x32=False),
}

Instruction = tuple[int, int, int, int]


def build_filter(machine: str) -> bytes:
    """Return the program for `machine` (`uname -m`); SandboxError for a machine it has no table for."""
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        raise SandboxError(f"No system call filter is known for a {machine} machine; only x86_64 and aarch64.")
    column = architecture.column
    program: list[Instruction] = [(LD_WORD, 0, 0, ARCH), (JEQ, 1, 0, architecture.audit), (RET, 0, 0, KILL)]
    program.append((LD_WORD, 0, 0, NR))
    if architecture.has_x32:
        program += [(JGE, 0, 1, X32_BIT), (RET, 0, 0, ENOSYS)]
    for table, answer in ((REFUSED, EPERM), (ABSENT, ENOSYS)):
        for numbers in table.values():
            if numbers[column] != UNSHARED:
                program += [(JEQ, 0, 1, numbers[column]), (RET, 0, 0, answer)]
    for name in ("socket", "socketpair"):
        program += _allow_only(CHECKED[name][column], ARGUMENT[0], FAMILIES)
    program += _refuse_values(CHECKED["ioctl"][column], ARGUMENT[1], TERMINAL_INJECTION)
    program += _refuse_values(CHECKED["fcntl"][column], ARGUMENT[1], LEASES)
    program += _refuse_bits(CHECKED["clone"][column], ARGUMENT[0], CLONE_NEW_ANY)
    program.append((RET, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _allow_only(number: int, offset: int, values: tuple[int, ...]) -> list[Instruction]:
    """For one call: EPERM unless the argument is one of `values`."""
    body: list[Instruction] = [(LD_WORD, 0, 0, offset)]
    body += [(JEQ, len(values) - index, 0, value) for index, value in enumerate(values)]
    body += [(RET, 0, 0, EPERM), (RET, 0, 0, ALLOW)]
    return [(JEQ, 0, len(body), number), *body]


def _refuse_values(number: int, offset: int, values: tuple[int, ...]) -> list[Instruction]:
    """For one call: EPERM when the argument is one of `values`."""
    body: list[Instruction] = [(LD_WORD, 0, 0, offset)]
    body += [(JEQ, len(values) - index, 0, value) for index, value in enumerate(values)]
    body += [(RET, 0, 0, ALLOW), (RET, 0, 0, EPERM)]
    return [(JEQ, 0, len(body), number), *body]


def _refuse_bits(number: int, offset: int, bits: int) -> list[Instruction]:
    """For one call: EPERM when the argument has any of `bits`."""
    body: list[Instruction] = [(LD_WORD, 0, 0, offset), (JSET, 1, 0, bits), (RET, 0, 0, ALLOW), (RET, 0, 0, EPERM)]
    return [(JEQ, 0, len(body), number), *body]
