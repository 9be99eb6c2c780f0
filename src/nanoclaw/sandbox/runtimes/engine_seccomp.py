"""The system calls a container may make: moby's own allowlist less what seccomp.py denies, as a profile for the engine.

Out: JSON for `SecurityOpt: seccomp=...`. An allowlist, because a denylist of ours would *replace* the engine's own and
so open calls that Docker closes (run: security.md section 2). Only the machine's own 64-bit calls: a 32-bit
`socketcall` would pass by the rule for `socket`. gVisor does not read it; its own kernel answers there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from nanoclaw.sandbox.runtimes.seccomp import (
    ABSENT,
    CHECKED,
    CLONE_NEW_ANY,
    FAMILIES,
    LEASES,
    REFUSED,
    TERMINAL_INJECTION,
)

CALLS = Path(__file__).with_name("moby_calls.txt")
ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # moby's: Linux, 32-bit layout, UNAME26, both, "which is it"
ALSO_ABSENT = ("socketcall", "ptrace", "personality")  # each is refused, or allowed by its argument below
ENOSYS = 38
WORD_BITS = 32

Rule = dict[str, object]


def engine_profile() -> str:
    """Return the profile as JSON; about 12 KB."""
    listed = [line for line in CALLS.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    left_out = {*REFUSED, *ABSENT, *CHECKED, *ALSO_ABSENT}
    names = sorted(set(" ".join(listed).split()) - left_out)
    rules: list[Rule] = [
        {"names": names, "action": "SCMP_ACT_ALLOW"},
        {"names": sorted(ABSENT), "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
        _when("clone", 0, CLONE_NEW_ANY, 0),
        *(_equals("personality", value) for value in PERSONALITIES),
        *(_equals(name, family) for name in ("socket", "socketpair") for family in FAMILIES),
        *(_when("ioctl", 1, mask, value) for mask, value in all_but(TERMINAL_INJECTION)),
        *(_when("fcntl", 1, mask, value) for mask, value in all_but(LEASES)),
    ]
    architectures: list[Rule] = [{"architecture": name, "subArchitectures": list[str]()} for name in ARCHITECTURES]
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "archMap": architectures, "syscalls": rules})


def all_but(values: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (mask, value) pairs: a 32-bit word matches one of them if and only if it is none of `values`.

    A rule of libseccomp may test an argument once, so "neither A nor B" cannot be said; this says it by leading bits.
    """
    yield from _below(frozenset(values), WORD_BITS, 0)


def _below(values: frozenset[int], bits: int, prefix: int) -> Iterator[tuple[int, int]]:
    if not values:
        yield ((1 << WORD_BITS) - 1) ^ ((1 << bits) - 1), prefix
        return
    if bits == 0:
        return
    bit = 1 << (bits - 1)
    yield from _below(frozenset(value for value in values if not value & bit), bits - 1, prefix)
    yield from _below(frozenset(value for value in values if value & bit), bits - 1, prefix | bit)


def _equals(name: str, value: int) -> Rule:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}


def _when(name: str, index: int, mask: int, value: int) -> Rule:
    condition = {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]}
