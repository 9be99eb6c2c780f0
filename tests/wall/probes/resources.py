"""What a box may use up. Each runs in a small box of its own, because some end the whole box.

`facts["limits"]` says what the box was given. Where the box ends before the probe answers, the harness says so:
`contained` for resources (tests/wall/walls.py).
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import threading
import time

from tests.wall.probes.frame import Facts, Seen, broken, held, probe

MIB = 1 << 20
WATCH_SECONDS = 4.0


def fill(path: str, most: int) -> int:
    """Write until it is refused, or `most` bytes; return how many."""
    written, block = 0, os.urandom(MIB)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with open(path, "wb", buffering=0) as file:
            while written < most:
                written += file.write(block)
    except OSError:
        pass
    finally:
        if os.path.exists(path):
            os.unlink(path)
    return written


def in_child(work: object) -> int:
    """Run something in a child that may be killed; return its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def wait_seconds(seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.05)


def hold_memory(amount: int) -> None:
    page = mmap.mmap(-1, amount)
    for offset in range(0, amount, 4096):
        page[offset] = 1
    wait_seconds(WATCH_SECONDS)  # where no cgroup is, a watch of the host looks twice a second


@probe("have far more processes than it may")
def fork_bomb(facts: Facts) -> Seen:
    allowed, made = facts["limits"]["processes"], 0
    try:
        while made < allowed * 3:
            if os.fork() == 0:
                signal.pause()
                os._exit(0)
            made += 1
    except OSError as error:
        return held(f"{error.strerror} after {made}")
    return broken(f"{made} processes, {allowed} allowed")


@probe("have far more threads than it may have processes", kernel=True)
def threads(facts: Facts) -> Seen:
    allowed, made, stop = facts["limits"]["processes"], 0, threading.Event()
    try:
        while made < allowed * 3:
            threading.Thread(target=stop.wait, args=(30,), daemon=True).start()
            made += 1
    except RuntimeError:
        return held(f"refused after {made}")
    finally:
        stop.set()
    return broken(f"{made} threads, {allowed} allowed")


@probe("take far more memory than it may")
def memory(facts: Facts) -> Seen:
    allowed = facts["limits"]["memory_bytes"]
    status = in_child(lambda: hold_memory(allowed * 3))
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status):
        return held("the process was killed, the box lives")
    return broken(f"{allowed * 3 // MIB} MiB, {allowed // MIB} allowed")


@probe("take it by many processes that each take little")
def memory_of_many(facts: Facts) -> Seen:
    allowed = facts["limits"]["memory_bytes"]
    children: list[int] = []
    for _ in range(12):
        child = os.fork()
        if child == 0:
            hold_memory(allowed // 4)
            signal.pause()
            os._exit(0)
        children.append(child)
    wait_seconds(WATCH_SECONDS)
    gone = 0
    for child in children:
        done, status = os.waitpid(child, os.WNOHANG)
        gone += bool(done and os.WIFSIGNALED(status))
        os.kill(child, signal.SIGKILL) if not done else None
    return held(f"{gone} of 12 were killed") if gone else broken("all twelve live")


@probe("take it as files of /dev/shm, which belong to no process")
def memory_as_files(facts: Facts) -> Seen:
    allowed = facts["limits"]["memory_bytes"]
    written = 0

    def work() -> None:
        if fill("/dev/shm/hog", allowed * 2) >= allowed * 2:
            os._exit(7)

    status = in_child(work)
    if os.path.exists("/dev/shm/hog"):
        written = os.stat("/dev/shm/hog").st_size
        os.unlink("/dev/shm/hog")
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7:
        return broken(f"{allowed * 2 // MIB} MiB were written")
    return held(f"stopped at {written // MIB} MiB" if written else "refused")


@probe("fill /tmp beyond its size")
def temporary_files(facts: Facts) -> Seen:
    allowed = facts["limits"]["tmp_bytes"]
    written = fill("/tmp/big", allowed * 2)
    return held(f"{written // MIB} MiB") if written < allowed * 2 else broken(f"{written // MIB} MiB were written")


@probe("fill /var/tmp beyond the size of /tmp")
def other_temporary_files(facts: Facts) -> Seen:
    allowed = max(facts["limits"]["tmp_bytes"], facts["var_tmp_bytes"])
    written = fill("/var/tmp/big", allowed * 2)
    return held(f"{written // MIB} MiB") if written < allowed * 2 else broken(f"{written // MIB} MiB were written")


@probe("open more files than it may")
def open_files(facts: Facts) -> Seen:
    allowed, kept = facts["limits"]["open_files"], []
    try:
        while len(kept) < allowed + 50:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        count = len(kept)
        for descriptor in kept:
            os.close(descriptor)
        return held(f"{count} files")
    return broken(f"{len(kept)} files are open, {allowed} allowed")


@probe("write a file that is larger than it may be")
def large_file(facts: Facts) -> Seen:
    allowed = facts["limits"]["file_bytes"]
    written = fill(os.path.join(facts["own_folder"], "large"), allowed * 2)
    return held(f"{written // MIB} MiB") if written <= allowed else broken(f"{written // MIB} MiB in one file")


@probe("make a file of holes that says it is larger than it may be")
def file_of_holes(facts: Facts) -> Seen:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    allowed, path = facts["limits"]["file_bytes"], os.path.join(facts["own_folder"], "holes")
    try:
        with open(path, "wb") as file:
            os.ftruncate(file.fileno(), allowed * 4)
    except OSError as error:
        return held(error.strerror)
    finally:
        os.unlink(path)
    return broken(f"{allowed * 4 // MIB} MiB")


@probe("fill its workspace beyond its disk limit, in many files")
def disk(facts: Facts) -> Seen:
    """A watchdog ends the whole box a moment later; the harness then says `contained`."""
    folder, allowed = facts["own_folder"], facts["limits"]["disk_bytes"]
    for number in range(allowed * 3 // MIB):
        try:
            with open(f"{folder}/{number}", "wb") as file:
                file.write(os.urandom(MIB))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return held(f"{error.strerror} after {number} MiB")
    wait_seconds(8)  # what ends the box looks every few seconds; alive after it means that nothing did
    return broken(f"{allowed * 3 // MIB} MiB were written, and the box lives")


@probe("use more of the processors than it may")
def processors(facts: Facts) -> Seen:
    """Two busy children for a second: their time is bounded by the share, and by nothing else when there is none."""
    allowed = facts["limits"]["cpu_cores"]
    began, children = time.monotonic(), []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            ends = time.monotonic() + 1.5
            while time.monotonic() < ends:
                pass
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    took = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = (used.ru_utime + used.ru_stime) / took
    said = f"{cores:.2f} cores of {allowed}"
    return held(said) if cores <= allowed * 1.6 else broken(said)


@probe("lock memory so that it can never be written out")
def locked_memory(facts: Facts) -> Seen:
    allowed = facts["limits"]["memory_bytes"]

    def work() -> None:
        import ctypes

        page = mmap.mmap(-1, allowed * 2)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        if ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(allowed * 2)) == 0:
            os._exit(7)
        os._exit(0)

    status = in_child(work)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7:
        return broken(f"{allowed * 2 // MIB} MiB are locked")
    return held()


@probe("fill the kernel's memory with full pipes")
def pipes(facts: Facts) -> Seen:
    """Pages of pipes count to the box's memory; the descriptors it may have bound them before."""
    allowed, total, kept = facts["limits"]["memory_bytes"], 0, []

    def work() -> None:
        nonlocal total
        try:
            while total < allowed * 2:
                reader, writer = os.pipe()
                kept.extend((reader, writer))
                os.set_blocking(writer, False)
                total += os.write(writer, bytes(65536))
        except OSError:
            os._exit(0)
        os._exit(7)

    status = in_child(work)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7:
        return broken(f"{allowed * 2 // MIB} MiB in pipes")
    return held()
