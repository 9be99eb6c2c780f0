"""Sizes: files, functions, parameters, nesting, and the ring that is to be audited."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.source import Function, Module, all_tests, functions, hold, planted, product

FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 6
CONSTRUCTOR_PARAMETERS = 10
NESTING = 3
TABLE_OF_CONTENTS = {"host.py"}  # exempt from the function budget: it builds every part in map order

RING = (
    "sandbox/spec.py", "sandbox/launch.py", "sandbox/mounts.py", "sandbox/mailbox.py", "sandbox/wire.py",
    "sandbox/netns.py", "gateway/policy.py", "gateway/inject.py", "gateway/redact.py", "gateway/vault.py",
    "gateway/proxy.py", "gateway/ca.py", "gateway/budget.py", "gateway/ledger.py", "gateway/main.py", "admin/access.py",
)  # fmt: skip
RING_LINES = 2_500

BLOCKS = ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.TryStar | ast.Match


def size_offences(module: Module) -> Iterator[str]:
    if len(module.lines) > FILE_LINES:
        yield f"{module.path} has {len(module.lines)} lines, more than {FILE_LINES}"
    for function in functions(module):
        yield from function_offences(module, function)


def function_offences(module: Module, function: Function) -> Iterator[str]:
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    if length > FUNCTION_LINES and module.path not in TABLE_OF_CONTENTS:
        yield module.at(function, f"{function.name} has {length} lines, more than {FUNCTION_LINES}")
    limit = CONSTRUCTOR_PARAMETERS if function.name == "__init__" else PARAMETERS
    if (count := parameter_count(function)) > limit:
        yield module.at(function, f"{function.name} has {count} parameters, more than {limit}: make a dataclass")
    if (depth := nesting(function.body)) > NESTING:
        yield module.at(function, f"{function.name} nests {depth} deep, more than {NESTING}")


def parameter_count(function: Function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    own = 1 if named and named[0].arg in ("self", "cls") else 0
    return len(named) - own + len(arguments.kwonlyargs) + bool(arguments.vararg) + bool(arguments.kwarg)


def nesting(body: list[ast.stmt]) -> int:
    """Return how many blocks lie in one another; `elif` and `case` add none."""
    return max((depth_of(statement) for statement in body), default=0)


def depth_of(statement: ast.stmt) -> int:
    if not isinstance(statement, BLOCKS):
        return 0
    if isinstance(statement, ast.If) and len(statement.orelse) == 1 and isinstance(statement.orelse[0], ast.If):
        return max(1 + nesting(statement.body), depth_of(statement.orelse[0]))
    bodies = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
    bodies += [part.body for name in ("handlers", "cases") for part in getattr(statement, name, [])]
    return 1 + max(nesting(inner) for inner in bodies)


def ring_offences(sizes: dict[str, int]) -> Iterator[str]:
    """`sizes` holds the lines of every file of the product."""
    for path in RING:
        if path not in sizes:
            yield f"{path} is missing"
    total = sum(sizes.get(path, 0) for path in RING)
    if total > RING_LINES:
        yield f"the ring has {total} lines, more than {RING_LINES}"


def test_a_file_over_its_budget_is_seen() -> None:
    assert list(size_offences(planted("x = 1\n" * 401)))
    assert not list(size_offences(planted("x = 1\n" * 400)))


def test_a_function_over_its_budget_is_seen_except_in_the_table_of_contents() -> None:
    long = "def run():\n" + "    x = 1\n" * 60
    assert list(size_offences(planted(long)))
    assert not list(size_offences(planted(long, "host.py")))
    assert not list(size_offences(planted("def run():\n" + "    x = 1\n" * 59)))


def test_too_many_parameters_are_seen_and_self_does_not_count() -> None:
    assert list(size_offences(planted("def run(a, b, c, *, d, e, f, g): ...")))
    assert not list(size_offences(planted("class C:\n def run(self, a, b, c, *, d, e, f): ...")))
    assert not list(size_offences(planted("class C:\n def __init__(self, a, b, c, d, e, f, g, h, i, j): ...")))
    assert list(size_offences(planted("class C:\n def __init__(self, a, b, c, d, e, f, g, h, i, j, k): ...")))


def test_nesting_over_three_is_seen_and_elif_adds_none() -> None:
    assert list(size_offences(planted(nested("for a in b:", "if a:", "with a:", "while a:"))))
    assert list(
        size_offences(planted(nested("match a:", "case 1:", "try:", "for a in b:", "if a:") + "   except E: ..."))
    )
    assert not list(size_offences(planted(nested("for a in b:", "if a:", "with a:"))))
    chain = "def run():\n if a: pass\n elif b: pass\n elif c: pass\n elif d: pass\n elif e: pass\n"
    assert not list(size_offences(planted(chain)))


def nested(*blocks: str) -> str:
    lines = ["def run():", *(" " * (depth + 1) + block for depth, block in enumerate(blocks))]
    return "\n".join(lines) + "\n" + " " * (len(blocks) + 1) + "pass\n"


def test_a_missing_ring_file_and_a_ring_over_its_budget_are_seen() -> None:
    there = {str(path): 10 for path in RING}
    assert not list(ring_offences(there))
    assert list(ring_offences({str(path): 10 for path in RING[1:]}))
    assert list(ring_offences({**there, "sandbox/spec.py": RING_LINES}))


def test_every_file_and_function_keeps_its_budget() -> None:
    hold((o for module in product() for o in size_offences(module)), "split by what it does, not by extracting names")


def test_every_test_file_keeps_the_line_budget() -> None:
    over = [
        f"{m.path} has {len(m.lines)} lines, more than {FILE_LINES}" for m in all_tests() if len(m.lines) > FILE_LINES
    ]
    hold(over, "a test file is read like a chapter: split it by what it is about")


def test_the_ring_is_small_enough_to_audit() -> None:
    sizes = {module.path: len(module.lines) for module in product()}
    hold(ring_offences(sizes), "the ring is the wall, the secrets and the verdicts (architecture section 1)")
