"""Secrets in environments, command lines, descriptors and memory of every process that a box can see."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator

from tests.wall.probes.frame import Facts, Seen, all_of, broken, call, held, opens, probe, read_some, visible_processes

KEYS = re.compile(rb"sk-ant-(?!PLACEHOLDER)[\w-]{8,}|ghp_\w{20}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY")


def holding_token(facts: Facts, name: str) -> Seen:
    token = facts["token"].encode()
    found = ((pid, read_some(f"/proc/{pid}/{name}", 1 << 16)) for pid in visible_processes())
    return all_of(f"/proc/{pid}/{name}" for pid, content in found if token in (content or b""))


@probe("find the planted secret in the environment of any process it sees")
def environments(facts: Facts) -> Seen:
    return holding_token(facts, "environ")


@probe("find the planted secret, or a path of this home, in any command line it sees")
def command_lines(facts: Facts) -> Seen:
    return holding_token(facts, "cmdline")


@probe("find what looks like a key in its own environment")
def keys_in_its_environment(_: Facts) -> Seen:
    found = KEYS.search(read_some("/proc/self/environ", 1 << 16) or b"")
    return broken(found[0][:12]) if found else held()


@probe("find anything in the first process's environment that its own has not")
def environment_of_the_first_process(_: Facts) -> Seen:
    own = set((read_some("/proc/self/environ", 1 << 16) or b"").split(b"\0"))
    first = set((read_some("/proc/1/environ", 1 << 16) or b"").split(b"\0"))
    names = {entry.split(b"=")[0] for entry in first - own} - {b"HOSTNAME", b"_", b"PWD", b"SHLVL", b"OLDPWD"}
    return all_of(sorted(name.decode(errors="replace") for name in names if name))


@probe("find a file of the host among the descriptors of any process it sees")
def descriptors(facts: Facts) -> Seen:
    """Pipes, sockets and the like have no path; a path must lie in a folder of the box's own."""
    own = ("/workspace", "/home/agent", "/session", "/dev", "/proc", "/opt/", "/tmp", "/usr", facts["own_folder"])
    found: list[str] = []
    for pid in visible_processes():
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in names:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if target.startswith("/") and not target.startswith(own):
                found.append(f"{pid}/{name} {target}")
    return all_of(found[:3])


@probe("find a folder among the descriptors it was given")
def inherited_folders(_: Facts) -> Seen:
    given = [name for name in os.listdir("/proc/self/fd") if os.path.isdir(f"/proc/self/fd/{name}")]
    return all_of(f"{name}: {os.readlink(f'/proc/self/fd/{name}')}" for name in given)


@probe("find a socket among the descriptors it was given")
def inherited_sockets(_: Facts) -> Seen:
    found: list[str] = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.append(name)
    return all_of(found)


@probe("reopen its own stdin, stdout and stderr as files of the host")
def streams_as_files(_: Facts) -> Seen:
    targets = (os.readlink(f"/proc/self/fd/{number}") for number in range(3))
    return all_of(target for target in targets if not target.startswith(("pipe:", "/dev/null", "host:", "socket:")))


@probe("find the planted secret, or a key, in the memory of any other process it sees")
def memory_of_processes(facts: Facts) -> Seen:
    """The box's own processes may be read, its first too; what matters is that nothing of the host lies in them."""
    found: list[int] = []
    for pid in [*facts["processes"], *visible_processes()[:40]]:
        if pid in (os.getpid(), os.getppid()) or is_probe(pid):
            continue
        if any(facts["token"].encode() in part or KEYS.search(part) for part in writable_memory(pid)):
            found.append(pid)
    return all_of(found)


def is_probe(pid: int) -> bool:
    """The probes themselves hold the token: they were told it."""
    return b"facts.json" in (read_some(f"/proc/{pid}/cmdline") or b"")


def writable_memory(pid: int) -> Iterator[bytes]:
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in maps.read().splitlines():
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                if line.split()[1].startswith("rw") and end - start <= 1 << 24:
                    memory.seek(start)
                    yield memory.read(end - start)
    except (OSError, ValueError):
        return


@probe("change the memory of a process of the host")
def memory_of_the_host_changed(facts: Facts) -> Seen:
    own = [pid for pid in facts["processes"] if facts["token"].encode() in (read_some(f"/proc/{pid}/cmdline") or b"")]
    return all_of(pid for pid in own if opens(f"/proc/{pid}/mem", os.O_RDWR))


@probe("see the host's processes")
def processes_of_the_host(facts: Facts) -> Seen:
    token = facts["token"].encode()
    seen = [pid for pid in visible_processes() if token in (read_some(f"/proc/{pid}/cmdline") or b"")]
    return all_of([*seen, len(visible_processes()) > 40 and f"{len(visible_processes())} processes"])


@probe("send a signal to a process of the host")
def signals(facts: Facts) -> Seen:
    found: list[int] = []
    for pid in facts["processes"]:
        try:
            os.kill(pid, 0)
        except OSError:
            continue
        if facts["token"].encode() in (read_some(f"/proc/{pid}/cmdline") or b""):
            found.append(pid)
    return all_of(found)


@probe("attach a debugger to a process of the host")
def debugger(facts: Facts) -> Seen:
    found: list[int] = []
    for pid in facts["processes"]:
        result, _error = call((101, 117), 16, pid, 0, 0)
        if result >= 0:
            found.append(pid)
            os.waitpid(pid, 0x40000000)
            call((101, 117), 17, pid, 0, 0)
    return all_of(found)


@probe("copy memory out of a process of the host")
def memory_of_the_host(facts: Facts) -> Seen:
    found: list[int] = []
    buffer = ctypes.create_string_buffer(64)
    for pid in facts["processes"]:
        lines = (read_some(f"/proc/{pid}/maps") or b"").splitlines()
        start = int(lines[0].split(b"-")[0], 16) if lines else 0x400000
        local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
        remote = (ctypes.c_size_t * 2)(start, 64)
        result, _error = call((310, 270), pid, local, 1, remote, 1, 0)
        if result > 0:
            found.append(pid)
    return all_of(found)


@probe("take a descriptor out of a process of the host")
def descriptors_of_the_host(facts: Facts) -> Seen:
    found: list[int] = []
    for pid in facts["processes"]:
        handle, _error = call((434, 434), pid, 0)
        if handle >= 0 and call((438, 438), handle, 0, 0)[0] >= 0:
            found.append(pid)
    return all_of(found)


@probe("leave a dump of memory for a program of the host to collect")
def core_dumps(_: Facts) -> Seen:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    return held() if hard == 0 else broken(f"limits {soft}, {hard}")


@probe("find a key in the keyrings of its session", kernel=False)
def keyrings(facts: Facts) -> Seen:
    shown = read_some("/proc/keys", 1 << 16) or b""
    found = facts["token"].encode() in shown
    for keyring in (-1, -2, -3, -4, -5):
        found = found or call((250, 219), 10, keyring, b"user\0", facts["token"].encode() + b"\0", 0)[0] > 0
    return broken("the planted key") if found else held()
