"""System calls that an agent never needs and that have been ways out of boxes.

Arguments are such that a call which is made does no harm, to the machine of a negative control either.
Numbers: (x86_64, aarch64), -1 where there is none; Linux syscall_64.tbl and asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform

from tests.wall.probes.frame import BROKEN, Facts, Probe, Seen, broken, call, contained, held, probe, refused

NOWHERE = b"/nanoclaw-wall-nowhere\0"
ZEROS = ctypes.create_string_buffer(256)


def refuses(name: str, tries: str, numbers: tuple[int, int], *arguments: object) -> Probe:
    def run(_: Facts) -> Seen:
        return refused(numbers, *arguments)

    return Probe(name, tries, run, kernel=True)


def new_namespace(kind: str, flag: int) -> Probe:
    return refuses(f"unshare {kind}", f"make a {kind} namespace of its own", (272, 97), flag)


NAMESPACES = (
    new_namespace("user", 0x10000000),
    new_namespace("mount", 0x20000),
    new_namespace("pid", 0x20000000),
    new_namespace("network", 0x40000000),
    new_namespace("ipc", 0x8000000),
    new_namespace("uts", 0x4000000),
    new_namespace("cgroup", 0x2000000),
    new_namespace("time", 0x80),
    refuses("setns", "enter a namespace", (308, 268), -1, 0),
)

MOUNTS = (
    refuses("mount", "mount a file system", (165, 40), b"none\0", b"/tmp\0", b"nosuchfs\0", 0, 0),
    refuses("umount2", "take a mount away", (166, 39), b"/usr/bin\0", 0),
    refuses("pivot root", "change the root of the box", (155, 41), b"/usr\0", b"/usr\0"),
    refuses("chroot", "change its root", (161, 51), b"/usr\0"),
    refuses("open tree", "copy a tree of mounts", (428, 428), -100, b"/\0", 1),
    refuses("move mount", "move a mount", (429, 429), -1, b"\0", -1, b"\0", 0),
    refuses("fsopen", "open a file system", (430, 430), b"tmpfs\0", 0),
    refuses("fsmount", "mount an opened file system", (432, 432), -1, 0, 0),
    refuses("fspick", "pick a mounted file system", (433, 433), -1, b"\0", 0),
    refuses("mount setattr", "change options of a mount", (442, 442), -1, b"\0", 0, ZEROS, 32),
    refuses("quotactl", "change quotas of a disk", (179, 60), 0, 0, 0, 0),
    refuses("swapon", "use a file as swap", (167, 224), NOWHERE, 0),
    refuses("swapoff", "take swap away", (168, 225), NOWHERE),
)

PROCESSES = (
    refuses("ptrace of itself", "be debugged", (101, 117), 0, 0, 0, 0),
    refuses("process vm readv", "read another process's memory", (310, 270), 1, 0, 0, 0, 0, 0),
    refuses("process vm writev", "write another process's memory", (311, 271), 1, 0, 0, 0, 0, 0),
    refuses("kcmp", "compare kernel objects of processes", (312, 272), 1, 1, 0, 0, 0),
    refuses("pidfd getfd", "take a descriptor of another process", (438, 438), -1, 0, 0),
    refuses("process madvise", "advise on another process's memory", (440, 440), -1, 0, 0, 0, 0),
    refuses("migrate pages", "move another process's memory", (256, 238), 1, 0, 0, 0),
    refuses("move pages", "move pages of memory", (279, 239), 1, 0, 0, 0, 0, 0),
    refuses("mbind", "bind memory to a node", (237, 235), 0, 0, 0, 0, 0, 0),
    refuses("set mempolicy", "set a policy for memory", (238, 237), 99, 0, 0),
)

KERNEL = (
    refuses("bpf", "load a program into the kernel", (321, 280), 0, 0, 0),
    refuses("perf event open", "watch the processor", (298, 241), 0, 0, 0, 0, 0),
    refuses("userfaultfd", "handle page faults itself", (323, 282), 0),
    refuses("io uring setup", "queue calls past the filter", (425, 425), 4, ZEROS),
    refuses("io uring register", "register with such a queue", (427, 427), -1, 0, 0, 0),
    refuses("keyctl", "use the kernel's keys", (250, 219), 0, -3, 0, 0, 0),
    refuses("add key", "leave a key in the kernel", (248, 217), b"user\0", b"nc-wall\0", b"x", 1, -3),
    refuses("request key", "ask the host for a key", (249, 218), b"user\0", b"nc-wall-none\0", 0, 0),
    refuses("kexec load", "load another kernel", (246, 104), 0, 0, 0, 0xFFFF),
    refuses("kexec file load", "load another kernel from a file", (320, 294), -1, -1, 0, 0, 0xFFFF),
    refuses("init module", "load a module", (175, 105), 0, 0, b"\0"),
    refuses("finit module", "load a module from a file", (313, 273), -1, b"\0", 0),
    refuses("delete module", "remove a module", (176, 106), b"nosuchmodule\0", 0x800),
    refuses("open by handle at", "open a file by its handle", (304, 265), -1, 0, 0),
    refuses("name to handle at", "learn a file's handle", (303, 264), -100, b"/\0", 0, 0, 0),
    refuses("fanotify init", "watch everybody's files", (300, 262), 0, 0),
    refuses("lookup dcookie", "turn cookies into paths", (212, 18), 0, 0, 0),
    refuses("syslog", "read the kernel's log", (103, 116), 10, 0, 0),
    refuses("acct", "have processes written down", (163, 89), NOWHERE),
)

MACHINE = (
    refuses("reboot", "restart the machine", (169, 142), 0, 0, 0, 0),
    refuses("settimeofday", "set the clock's zone", (164, 170), 0, ZEROS),
    refuses("clock settime", "set the clock", (227, 112), 1, ZEROS),
    refuses("clock adjtime", "bend the clock", (305, 266), 0, ZEROS),
    refuses("adjtimex", "tune the clock", (159, 171), ZEROS),
    refuses("vhangup", "hang up the terminal", (153, 58)),
    refuses("iopl", "reach the machine's ports", (172, -1), 3),
    refuses("ioperm", "reach one port", (173, -1), 0x80, 1, 1),
    refuses("modify ldt", "change segments of the processor", (154, -1), 0, ZEROS, 0),
)


@probe("debug the box's first process", kernel=True)
def ptrace_of_the_first_process(_: Facts) -> Seen:
    seen = refused((101, 117), 16, 1, 0, 0)
    if seen.verdict == BROKEN:
        os.waitpid(1, 0x40000000)
        call((101, 117), 17, 1, 0, 0)  # else it stays stopped, and with it the box
    return seen


@probe("make a process with a user namespace of its own (clone)", kernel=True)
def clone_with_namespaces(_: Facts) -> Seen:
    result, error = call((56, 220), 0x10000000 | 17, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    return held(error) if result < 0 else broken("a process with a user namespace")


@probe("make a process by the newer call, whose flags no filter can see (clone3)", kernel=True)
def clone3(_: Facts) -> Seen:
    arguments = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17, 0, 0, 0)
    result, error = call((435, 435), arguments, 64)
    if result == 0:
        os._exit(0)
    return held(error) if result < 0 else broken("a process with a user namespace")


@probe("call the kernel as a 32-bit program, past a 64-bit filter", kernel=True)
def calls_of_another_architecture(_: Facts) -> Seen:
    if platform.machine() != "x86_64":
        return held("this machine has none")
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
    result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return broken(f"getpid said {result}") if result > 0 else held(result)


@probe("call the kernel with x32 numbers, which a filter may not know", kernel=True)
def x32_calls(_: Facts) -> Seen:
    if platform.machine() != "x86_64":
        return held("this machine has none")
    return refused((0x40000000 | 39, -1))


@probe("type words into the terminal of whoever started it (TIOCSTI)", kernel=True)
def words_into_the_terminal(_: Facts) -> Seen:
    main, line = os.openpty()
    library = ctypes.CDLL(None, use_errno=True)
    if library.ioctl(line, 0x5412, b"x") < 0 and ctypes.get_errno() in (1, 38, 5, 22, 25):
        return held(ctypes.get_errno())
    del main
    return broken("a letter was typed")


@probe("find a terminal of the host among its streams")
def terminal_of_the_host(_: Facts) -> Seen:
    if any(os.isatty(number) for number in range(3)):
        return broken("a stream is a terminal")
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return held()
    return broken("/dev/tty can be opened")


@probe("make whoever opens its files wait, the host too (lease)", kernel=True)
def leases(facts: Facts) -> Seen:
    path = os.path.join(facts["own_folder"], "leased")
    with open(path, "w") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            return held(error.strerror)
    return broken("a lease was given")


@probe("run on the host's own kernel")
def kernel_of_its_own(facts: Facts) -> Seen:
    """Not a hole by itself: it says whether what the kernel gives away is the host's to lose."""
    with open("/proc/version") as version:
        same = version.read().strip() == facts["kernel_version"]
    return contained("it shares the host's kernel") if same else held("a kernel of its own")
