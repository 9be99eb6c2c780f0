"""Exec-only launcher: `PYTHON -I -S launch.py PLAN_FD` becomes the program of its plan, with less than it had.

In: NUL-separated `verb argument` records on a descriptor (plan.py writes them). In this order it joins cgroups; on a
root host makes a private mount namespace with a tmpfs at /mnt, binds every source to /mnt/<n> and drops to the plan's
uid, so that no parent folder of a source need be open to that uid; sets limits; sets no_new_privs; binds its life to
the host's; execs with the plan's environment only. It never forks: what it becomes is the host's own child.
Standard library alone, and little of it: json, dataclasses and signal would cost 15 ms at every start.
Never: becomes anything as uid 0. Fails: exit 125 and one line on stderr.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

STAGE = "/mnt"
FAILED = 125
BLOB = "{blob}"
CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 2, 4, 8, 4096, 16384, 1 << 19
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, SIGKILL = 1, 38, 9
SYS_OPENAT2, AT_FDCWD = 437, -100  # the number is the same on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x02, 0x04
FOLDER_BIT = 0o040000
OOM_SCORE = "500"  # where no cgroup bounds a box, the kernel takes it before the host
RLIMITS = {"core": resource.RLIMIT_CORE, "fsize": resource.RLIMIT_FSIZE, "nofile": resource.RLIMIT_NOFILE}


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def parse_plan(raw: bytes) -> dict[str, list[str]]:
    """Return the records of a plan by their verb, in order."""
    found: dict[str, list[str]] = {}
    for record in raw.split(b"\0")[:-1]:
        verb, _, value = os.fsdecode(record).partition(" ")
        found.setdefault(verb, []).append(value)
    return found


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: bytes | None, flags: int, data: bytes | None) -> None:
    result = libc.mount(os.fsencode(source), os.fsencode(target), kind, ctypes.c_ulong(flags), data)
    _check(result, f"mount {target}")


def _pin(libc: ctypes.CDLL, source: str) -> int:
    """Open a source without following any link: what the host resolved is what is mounted, or nothing is."""
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
    path = ctypes.c_char_p(os.fsencode(source))
    result = libc.syscall(SYS_OPENAT2, AT_FDCWD, path, ctypes.byref(how), ctypes.sizeof(how))
    return _check(result, f"open {source}")


def stage(libc: ctypes.CDLL, sources: list[str]) -> None:
    """Show every source below /mnt, in a mount namespace of our own."""
    _check(libc.unshare(CLONE_NEWNS), "unshare")
    _mount(libc, "none", "/", None, MS_REC | MS_SLAVE, None)  # nothing of ours reaches the host's mounts
    pinned = [_pin(libc, source) for source in sources]  # before the tmpfs hides what lies below /mnt
    _mount(libc, "nanoclaw", STAGE, b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"size=64k,nr_inodes=256,mode=0755")
    for number, descriptor in enumerate(pinned):
        target = f"{STAGE}/{number}"
        if os.fstat(descriptor).st_mode & 0o170000 == FOLDER_BIT:
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        _mount(libc, f"/proc/self/fd/{descriptor}", target, None, MS_BIND | MS_REC, None)


def drop_to(uid: int) -> None:
    """Give up root for ever; PermissionError when the plan asks to stay root."""
    if uid == 0:
        raise PermissionError("refused to start a program as root")
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _blob_fd(content: bytes) -> int:
    descriptor = os.memfd_create("plan", 0)
    with open(descriptor, "wb", closefd=False) as target:
        target.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _fill(words: list[str], descriptors: list[int]) -> list[str]:
    waiting = iter(descriptors)
    return [str(next(waiting)) if word == BLOB else word for word in words]


def _limit(records: list[str]) -> None:
    for record in records:
        name, _, value = record.partition(" ")
        hard = resource.getrlimit(RLIMITS[name])[1]
        lower = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(RLIMITS[name], (lower, lower))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as target:
        target.write(text)


def become(plan: dict[str, list[str]]) -> None:
    """Carry the plan out; returns only by an exception."""
    libc = ctypes.CDLL(None, use_errno=True)
    for path in plan.get("cgroup", []):
        _write(path, "0")
    if "expendable" in plan:
        _write("/proc/self/oom_score_adj", OOM_SCORE)
    if "uid" in plan:
        stage(libc, plan.get("source", []))
        drop_to(int(plan["uid"][0]))
    if 0 in os.getresuid() or 0 in os.getresgid():
        raise PermissionError("refused to start a program as root")
    _limit(plan.get("rlimit", []))
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    # A change of uid clears it, so it comes after; a parent that died before is seen by its number.
    _check(libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "pdeathsig")
    if os.getppid() != int(plan["parent"][0]):
        raise ProcessLookupError("the host is gone")
    os.chdir(plan["directory"][0])
    options = _fill(plan.get("option", []), [_blob_fd(bytes.fromhex(blob)) for blob in plan.get("blob", [])])
    packed = b"".join(os.fsencode(word) + b"\0" for word in options)
    command = _fill(plan["command"], [_blob_fd(packed)] if options else [])
    env = dict(word.split("=", 1) for word in plan.get("env", []))
    os.execve(command[0], command, env)


def main() -> int:
    """Read the plan from the descriptor named by the only argument, and become it."""
    with open(int(sys.argv[1]), "rb") as source:
        plan = parse_plan(source.read())
    try:
        become(plan)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"launch: {error}\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
