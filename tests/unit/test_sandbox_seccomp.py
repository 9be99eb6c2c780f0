"""The system call filter, run by an interpreter of classic BPF, for both machine types."""

from __future__ import annotations

import struct

import pytest

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.seccomp import ABSENT, ARCHITECTURES, CHECKED, REFUSED, UNSHARED, build_filter

ALLOWED, PERMISSION, NO_SUCH_CALL, KILLED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


def decide(program: bytes, number: int, audit: int, *arguments: int) -> int:
    """Run a filter over one call, as Documentation/networking/filter.rst says."""
    words = (*arguments, *([0] * (6 - len(arguments))))
    data = struct.pack("<IIQ6Q", number, audit, 0, *words)
    code = list(struct.iter_unpack("<HBBI", program))
    position, accumulator = 0, 0
    while True:
        operation, then, otherwise, constant = code[position]
        position += 1
        if operation == 0x06:
            return constant
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, constant)[0]
            continue
        holds = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}[
            operation
        ]
        position += then if holds else otherwise


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
def test_every_call_of_the_tables_is_refused_and_others_are_not(machine: str) -> None:
    program, known = build_filter(machine), ARCHITECTURES[machine]
    refused = {numbers[known.column] for numbers in REFUSED.values()} - {UNSHARED}
    absent = {numbers[known.column] for numbers in ABSENT.values()}
    checked = {numbers[known.column] for numbers in CHECKED.values()}
    for number in range(600):
        expected = PERMISSION if number in refused else NO_SUCH_CALL if number in absent else ALLOWED
        if number not in checked:
            assert decide(program, number, known.audit) == expected, number


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
def test_checked_calls_look_at_their_arguments(machine: str) -> None:
    program, known = build_filter(machine), ARCHITECTURES[machine]

    def call(name: str, *arguments: int) -> int:
        return decide(program, CHECKED[name][known.column], known.audit, *arguments)

    for name in ("socket", "socketpair"):
        assert {family for family in range(64) if call(name, family) == ALLOWED} == {1, 2, 10, 16}
        assert call(name, 2 | 1 << 32) == ALLOWED  # the kernel, too, looks at the low half alone
        assert call(name, 40 | 1 << 32) == PERMISSION
    assert {request for request in range(0x5400, 0x5480) if call("ioctl", 0, request) == PERMISSION} == {0x5412, 0x541C}
    assert call("ioctl", 0x5412, 0) == ALLOWED
    assert [command for command in range(2048) if call("fcntl", 3, command) == PERMISSION] == [1024]  # F_SETLEASE
    for flag in (0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert call("clone", flag | 17) == PERMISSION
    assert call("clone", 0x003D0F00) == ALLOWED  # a thread


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
def test_another_architecture_is_killed(machine: str) -> None:
    program = build_filter(machine)
    for audit in {0x40000003, 0x40000028, 0xC000003E, 0xC00000B7} - {ARCHITECTURES[machine].audit}:
        assert decide(program, 1, audit) == KILLED


def test_the_x32_calls_are_absent() -> None:
    assert decide(build_filter("x86_64"), 0x40000000 | 41, 0xC000003E, 40) == NO_SUCH_CALL


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(SandboxError, match="riscv64"):
        build_filter("riscv64")
