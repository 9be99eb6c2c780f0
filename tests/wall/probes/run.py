"""Runs the probes inside a box, each in a process of its own, and writes one JSON line for each as it ends.

`python -I -S FOLDER FACTS all` runs every probe but those of resources; `... NAME` runs that one. A probe that crashes
is `error`, one that is killed for a system call has met the wall. Lines go to `facts["results"]`: a box's
stdout are its doorbells, and of its stderr only the end is kept.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from contextlib import suppress

from tests.wall.probes import calls, files, ipc, network, privilege, resources, secrets, writes
from tests.wall.probes.frame import ERROR, Facts, Probe, Seen, held, probes_of

FAMILIES = (
    ("files of the host", files),
    ("secrets of processes", secrets),
    ("writes", writes),
    ("system calls", calls),
    ("privileges", privilege),
    ("network", network),
    ("shared memory and queues", ipc),
)
RESOURCES = "resources"
STARTED = "started"  # the first line of all: the box did begin
PROBE_SECONDS = 10.0
BY_FILTER = (signal.SIGSYS, signal.SIGSEGV, signal.SIGILL)


def every_probe() -> list[tuple[str, Probe]]:
    """Return (family, probe) of all, resources last."""
    found = [(family, each) for family, module in FAMILIES for each in probes_of(module)]
    return found + [(RESOURCES, each) for each in probes_of(resources)]


def run_one(each: Probe, facts: Facts) -> Seen:
    """Run a probe in a child; what it leaves running is killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        try:
            seen = each.run(facts)
        except BaseException:
            seen = Seen(ERROR, traceback.format_exc().strip().splitlines()[-1][:200])
        os.write(writer, json.dumps([seen.verdict, seen.what]).encode() + b"\n")
        os._exit(0)
    os.close(writer)
    said = read_line(reader)
    os.close(reader)
    status = end(child)
    if said.endswith(b"\n"):
        verdict, what = json.loads(said)
        return Seen(verdict, what)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in BY_FILTER:
        return held(f"killed by {signal.Signals(os.WTERMSIG(status)).name}")
    return Seen(ERROR, f"no answer; wait status {status}")


def read_line(reader: int) -> bytes:
    said, ends = b"", time.monotonic() + PROBE_SECONDS
    while not said.endswith(b"\n") and (left := ends - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            more = os.read(reader, 65536)
            if not more:
                break
            said += more
    return said


def end(child: int) -> int:
    """Return the child's wait status; killed when it still runs, with its session."""
    done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        time.sleep(0.002)  # it has answered or died: let it be gone by itself, so that its status says how
        done, status = os.waitpid(child, os.WNOHANG)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    return status if done else os.waitpid(child, 0)[1]


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as source:
        facts = json.load(source)
    wanted = sys.argv[2]
    if processes := facts["runner_processes"]:  # as the runner does, in whose place this is
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        bound = processes if hard == resource.RLIM_INFINITY else min(processes, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (bound, bound))
    with open(facts["results"], "a", encoding="utf-8") as results:
        results.write(json.dumps({"name": STARTED, "verdict": STARTED, "seen": ""}) + "\n")
        results.flush()
        for family, each in every_probe():
            if wanted == each.name or (wanted == "all" and family != RESOURCES):
                began = time.monotonic()
                seen = run_one(each, facts)
                line = {
                    "name": each.name,
                    "verdict": seen.verdict,
                    "seen": seen.what,
                    "ms": round((time.monotonic() - began) * 1000),
                }
                results.write(json.dumps(line) + "\n")
                results.flush()
