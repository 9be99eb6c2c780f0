"""What a box is: nobody, without capabilities, and without a way to become anything else."""

from __future__ import annotations

import ctypes
import os
import resource
import socket

from tests.wall.probes.frame import Facts, Seen, all_of, broken, call, gains_nothing, held, library, probe, read_some


def status() -> dict[str, str]:
    lines = (read_some("/proc/self/status", 1 << 16) or b"").decode().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def attempt(*calls: object) -> Seen:
    """Broken when any of (function, arguments...) does not raise OSError."""
    made: list[str] = []
    for function, *arguments in calls:  # type: ignore[misc]
        try:
            function(*arguments)
        except (OSError, ValueError):
            continue
        made.append(f"{function.__name__}{tuple(arguments)}")
    return all_of(made)


@probe("run as root")
def user(_: Facts) -> Seen:
    ids = {*os.getresuid(), *os.getresgid(), *os.getgroups()}
    return broken(f"ids {sorted(ids)}") if 0 in ids else held()


@probe("have a capability, now or after starting a program")
def capabilities(_: Facts) -> Seen:
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    return all_of(f"{name} {status()[name]}" for name in names if int(status().get(name, "0"), 16))


@probe("be able to gain rights by starting a program (no_new_privs is not set)", kernel=True)
def no_new_privileges(_: Facts) -> Seen:
    return held() if gains_nothing() else broken("no_new_privs is 0")


@probe("run without a filter of system calls", kernel=True)
def filter_of_system_calls(_: Facts) -> Seen:
    return held() if status().get("Seccomp") == "2" else broken(f"Seccomp is {status().get('Seccomp')}")


@probe("become root")
def become_root(_: Facts) -> Seen:
    return attempt((os.setuid, 0), (os.seteuid, 0), (os.setresuid, 0, 0, 0))


@probe("become another user of the machine")
def become_another_user(_: Facts) -> Seen:
    return attempt((os.setuid, 1), (os.setuid, 1_900_000_002), (os.setreuid, 33, 33))


@probe("join a group of the machine")
def join_a_group(_: Facts) -> Seen:
    return attempt((os.setgid, 0), (os.setgroups, [0]), (os.setgroups, [999, 6]), (os.setresgid, 0, 0, 0))


@probe("give itself capabilities")
def give_itself_capabilities(_: Facts) -> Seen:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    wanted = (ctypes.c_uint32 * 6)(0x00200000, 0x00200000, 0, 0, 0, 0)
    result, error = call((126, 91), header, wanted)
    return broken("CAP_SYS_ADMIN") if result >= 0 else held(error)


@probe("raise a capability for programs it starts")
def raise_ambient_capabilities(_: Facts) -> Seen:
    return broken("CAP_SYS_ADMIN is ambient") if library().prctl(47, 2, 21, 0, 0) == 0 else held()


@probe("make a device of its own")
def make_a_device(facts: Facts) -> Seen:
    def mknod(kind: int, major: int) -> str:
        path = os.path.join(facts["own_folder"], "device")
        try:
            os.mknod(path, kind | 0o666, os.makedev(major, 1))
        except OSError:
            return ""
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            return f"device {major}:1 opens"
        except OSError:
            return ""
        finally:
            os.unlink(path)

    return all_of([mknod(0o020000, 1), mknod(0o060000, 8), mknod(0o020000, 10)])


@probe("give a file of its own to root, or to another user")
def give_a_file_away(facts: Facts) -> Seen:
    path = os.path.join(facts["own_folder"], "mine-to-give")
    open(path, "w").close()
    return attempt((os.chown, path, 0, 0), (os.chown, path, 1, 1))


@probe("give a file capabilities")
def give_a_file_capabilities(facts: Facts) -> Seen:
    path = os.path.join(facts["own_folder"], "mine-with-rights")
    open(path, "w").close()
    value = (0x02000001).to_bytes(4, "little") + (0x00200000).to_bytes(4, "little") + bytes(12)
    return attempt((os.setxattr, path, "security.capability", value), (os.setxattr, path, "trusted.x", b"1"))


@probe("run before everybody else (real-time or a better nice value)", kernel=True)
def priority(_: Facts) -> Seen:
    return attempt(
        (os.setpriority, os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 5),
        (os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
    )


@probe("raise limits of its processes")
def raise_limits(_: Facts) -> Seen:
    names = ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_FSIZE")
    found: list[str] = []
    for name in names:
        kind = getattr(resource, name)
        _soft, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY:
            found.append(f"{name} has no limit")
            continue
        try:
            resource.setrlimit(kind, (hard + 1, hard + 1))
        except (OSError, ValueError):
            continue
        found.append(f"{name} raised")
    return all_of(found)


@probe("change the name of the machine it is on")
def change_the_name(_: Facts) -> Seen:
    return attempt((socket.sethostname, os.uname().nodename))


@probe("change the domain of the machine it is on")
def change_the_domain(_: Facts) -> Seen:
    name = (read_some("/proc/sys/kernel/domainname") or b"").strip()
    result, error = call((171, 162), name, len(name))
    return broken("set") if result >= 0 else held(error)
