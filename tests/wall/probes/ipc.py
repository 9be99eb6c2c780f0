"""Memory, queues and semaphores of the host that have a name or a number in place of a path."""

from __future__ import annotations

import ctypes
import os

from tests.wall.probes.frame import Facts, Seen, all_of, broken, call, contained, held, library, probe, read_some


@probe("attach shared memory of the host by its key")
def shared_memory(facts: Facts) -> Seen:
    number = library().shmget(facts["shm_key"], 0, 0)
    return broken("the planted segment") if number >= 0 else held()


@probe("attach shared memory of the host by its number")
def shared_memory_by_number(facts: Facts) -> Seen:
    calls = library()
    calls.shmat.restype = ctypes.c_void_p
    place = calls.shmat(facts["shm_number"], None, 0o10000)
    if place in (None, ctypes.c_void_p(-1).value):
        return held()
    return broken("read") if facts["token"].encode() in ctypes.string_at(place, 64) else held("another segment")


@probe("read a queue of the host by its key")
def message_queue(facts: Facts) -> Seen:
    return broken("the planted queue") if library().msgget(facts["queue_key"], 0) >= 0 else held()


@probe("use a semaphore of the host by its key")
def semaphore(facts: Facts) -> Seen:
    return broken("the planted semaphore") if library().semget(facts["semaphore_key"], 0, 0) >= 0 else held()


@probe("list shared memory and queues of the host")
def list_of_shared_memory(facts: Facts) -> Seen:
    shown = b"".join(read_some(f"/proc/sysvipc/{name}", 1 << 16) or b"" for name in ("shm", "msg", "sem"))
    keys = [facts["shm_key"], facts["queue_key"], facts["semaphore_key"]]
    return broken("the planted ones") if any(str(key).encode() in shown for key in keys) else held()


@probe("open shared memory of the host by its name")
def named_shared_memory(facts: Facts) -> Seen:
    found = facts["token"].encode() in (read_some(f"/dev/shm/{facts['shared_name']}") or b"")
    return broken("read") if found else held()


@probe("open a message queue of the host by its name")
def named_message_queue(facts: Facts) -> Seen:
    result, error = call((240, 180), facts["queue_name"].encode() + b"\0", os.O_RDONLY | os.O_NONBLOCK, 0, 0)
    return broken("the planted queue") if result >= 0 else held(error)


@probe("leave shared memory behind that the host would count as its own", kernel=True)
def leave_shared_memory(facts: Facts) -> Seen:
    """A segment belongs to the box's IPC namespace and goes with it; in the host's it would stay for ever."""
    return broken("it shares the host's IPC namespace") if shares(facts, "ipc") else held()


@probe("share a namespace with the host, other than that of users", kernel=True)
def namespaces_of_the_host(facts: Facts) -> Seen:
    return all_of(name for name in facts["namespaces"] if name != "user" and shares(facts, name))


@probe("share the host's users: a number is the same user inside and outside", kernel=True)
def users_of_the_host_shared(facts: Facts) -> Seen:
    """Engines make no user namespace. What is left of the wall is that the box is nobody: not root, no capability."""
    if not shares(facts, "user"):
        return held("a user namespace of its own")
    bounds = b"CapBnd:\t0000000000000000" in (read_some("/proc/self/status", 1 << 16) or b"")
    said = "it shares the host's user namespace"
    return contained(f"{said}, as nobody without rights") if bounds and os.getuid() else broken(said)


def shares(facts: Facts, name: str) -> bool:
    try:
        return os.readlink(f"/proc/self/ns/{name}") == facts["namespaces"][name]
    except OSError:
        return False
