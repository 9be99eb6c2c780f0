"""Canaries: run inside a box, each tries one way out and says whether it got through. Judged by prove.py.

`main` is called by the box's Python alone (`-I -S`) with the path of a QUESTION, a JSON file of the host: what to look
for. Answer: a line of JSON on stderr for each, `{"name": ..., "held": ..., "detail": ...}`.
A canary that raises what it does not expect has failed: a check that broke has shown nothing.
Never: changes what it finds open (what it makes, it removes); waits for a network; imports what is not of Python.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TypeVar

from nanoclaw.sandbox.canaries import files, kernel, limits, network, rights
from nanoclaw.sandbox.canaries.probe import Question, Reached, read

Asked = TypeVar("Asked")
MOST_DETAIL = 160
CANARIES: tuple[Callable[[Question], str], ...] = (
    files.host_files, files.planted_secret, files.other_groups, files.mounts, files.read_only, files.mounted_read_only,
    network.raw_ip, network.metadata, network.local_network, network.host_addresses, network.host_loopback,
    network.dns, network.interfaces, network.raw_sockets, network.vsock, network.host_sockets,
    network.abstract_sockets, rights.not_root, rights.capabilities, rights.no_new_privileges, kernel.new_namespaces,
    kernel.enter_namespaces, kernel.own_namespaces, kernel.own_kernel, kernel.mount, kernel.ptrace, kernel.io_uring,
    kernel.bpf, kernel.keyctl, kernel.kernel_calls, rights.devices, rights.kernel_settings, rights.cgroups,
    rights.visible_processes, rights.environment, rights.descriptors,
)  # fmt: skip
# Behind a kernel of its own these reach that kernel alone; whether it is one, `own_kernel` says.
OF_THE_KERNEL = frozenset({
    "mounted-read-only", "new-namespaces", "enter-namespaces", "own-namespaces", "mount", "ptrace", "io-uring", "bpf",
    "keyctl", "kernel-calls", "devices", "kernel-settings", "cgroups", "descriptors", "raw-sockets",
    "no-new-privileges",
})  # fmt: skip


def main(path: str) -> None:
    """Try what the question asks for."""
    question = json.loads(read(path))
    if "limits" in question:
        for canary in limits.LIMITS:
            if name_of(canary) in question["limits"]:
                report(name_of(canary), *attempt(canary, question))
        return
    for canary in CANARIES:
        name = name_of(canary)
        held, detail = attempt(canary, question)
        if not held and question["separate"] and name in OF_THE_KERNEL:
            held, detail = True, f"only in the box's own kernel: {detail}"
        report(name, held, detail)


def name_of(canary: Callable[[Asked], str]) -> str:
    """Return what a canary is called."""
    return canary.__name__.replace("_", "-")


def attempt(canary: Callable[[Asked], str], question: Asked) -> tuple[bool, str]:
    """Run one canary; whatever it raises is an answer."""
    try:
        return True, canary(question)
    except Reached as reached:
        return False, str(reached)
    except Exception as error:  # boundary: it has shown nothing; the others are tried too, and the host records it
        return False, f"it could not be tried: {type(error).__name__} {error}"


def report(name: str, held: bool, detail: str) -> None:
    """Tell the host, at once: a limit may end this process."""
    sys.stderr.write(json.dumps({"name": name, "held": held, "detail": detail[:MOST_DETAIL]}) + "\n")
    sys.stderr.flush()
