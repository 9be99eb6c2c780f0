"""What may be done in one place only: tasks, clocks, the environment, broad excepts, late imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.source import Module, dotted, functions, hold, planted, product

# Call or name -> the files where it may stand (a pattern over the path below src/nanoclaw), and what to do instead.
# The box and the rehearsal model have the standard library alone, so a clock and an environment of their own.
SPAWN = "take a TaskGroup or a `spawn` callable as an argument"
TIME = "take a Clock as an argument"
ENVIRONMENT = "config.py reads the environment; take the value as an argument"
SHELL = "argv lists, never a shell"
HOMES = {
    "asyncio.create_task": (r"supervise\.py|gateway/main\.py", SPAWN),
    "asyncio.ensure_future": (r"supervise\.py|gateway/main\.py", SPAWN),
    "loop.create_task": (r"supervise\.py|gateway/main\.py", SPAWN),
    "get_running_loop().create_task": (r"supervise\.py|gateway/main\.py", SPAWN),
    "asyncio.wait_for": ("", "use `async with asyncio.timeout(...)`"),
    "time.time": (r"clock\.py|runner/\w+\.py|rehearsal/\w+\.py", TIME),
    "time.time_ns": (r"clock\.py|runner/\w+\.py|rehearsal/\w+\.py", TIME),
    "datetime.now": ("", TIME),
    "datetime.utcnow": ("", TIME),
    "datetime.today": ("", TIME),
    "date.today": ("", TIME),
    "os.environ": (r"config\.py|runner/(__main__|main|start|packing)\.py", ENVIRONMENT),
    "os.getenv": (r"config\.py", ENVIRONMENT),
    "os.system": ("", SHELL),
    "os.popen": ("", SHELL),
    "subprocess.getoutput": ("", SHELL),
    "asyncio.create_subprocess_shell": ("", SHELL),
}

LATE = {"rich", "prompt_toolkit", "pygments"}  # only the command line, which must answer --version in 60 ms


def home_offences(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        name = dotted(node) if isinstance(node, ast.Attribute) else ""
        for banned, (home, mend) in HOMES.items():
            if (name == banned or name.endswith("." + banned)) and not re.fullmatch(home, module.path):
                yield module.at(node, f"{name}: {mend}")
        if isinstance(node, ast.ImportFrom):
            yield from (
                module.at(node, f"imports {node.module}.{alias.name}: {HOMES[f'{node.module}.{alias.name}'][1]}")
                for alias in node.names
                if f"{node.module}.{alias.name}" in HOMES
                and not re.fullmatch(HOMES[f"{node.module}.{alias.name}"][0], module.path)
            )


def shell_offences(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.keyword) and node.arg == "shell" and not is_false(node.value):
            yield module.at(node.value, f"shell=...: {SHELL}")


def shield_offences(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and dotted(node.func).endswith("shield") and isinstance(node.args[0], ast.Call):
            yield module.at(node, "a bare shield leaves a stray task when it is cancelled: keep the task and await it")


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def except_offences(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type) and not raises_on(node):
            line, what = node.lineno, "broad except"
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("suppress") and any(map(is_broad, node.args)):
            line, what = node.lineno, "broad suppress"
        else:
            continue
        if "boundary" not in module.comments.get(line, ""):
            yield module.at(line, f"{what} without a `boundary: why` comment on its line")


def is_broad(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(map(is_broad, node.elts))
    return node is None or dotted(node) in ("Exception", "BaseException")


def raises_on(handler: ast.ExceptHandler) -> bool:
    """Whether the handler only cleans up: its last statement raises."""
    return isinstance(handler.body[-1], ast.Raise)


def cancelled_offences(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler) or raises_on(node) or not names_cancelled(node.type):
            continue
        if "boundary" not in module.comments.get(node.lineno, ""):
            yield module.at(node, "CancelledError is swallowed")


def names_cancelled(node: ast.expr | None) -> bool:
    return node is not None and any(dotted(part).endswith("CancelledError") for part in ast.walk(node))


def late_import_offences(module: Module) -> Iterator[str]:
    for function in functions(module):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom) and not may_be_late(module, node):
                yield module.at(node, "late import: imports stand at the top of the file")


def may_be_late(module: Module, node: ast.Import | ast.ImportFrom) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return module.folder == "cli" and all(name.split(".")[0] in LATE for name in names)


@pytest.mark.parametrize(
    "line",
    [
        "asyncio.create_task(work())",
        "asyncio.ensure_future(work())",
        "self.loop.create_task(work())",
        "asyncio.get_running_loop().create_task(work())",
        "from asyncio import create_task",
        "asyncio.wait_for(work(), 1)",
        "now = time.time()",
        "from time import time",
        "now = datetime.datetime.now(UTC)",
        "home = os.environ['HOME']",
        "from os import environ",
        "os.system('ls')",
    ],
)
def test_what_has_one_home_is_seen_elsewhere(line: str) -> None:
    assert list(home_offences(planted(line)))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("flow/planted.py", "group.create_task(work())"),
        ("supervise.py", "asyncio.create_task(work())"),
        ("clock.py", "time.time_ns()"),
        ("config.py", "os.environ.get('TZ')"),
        ("flow/planted.py", "started = time.monotonic()"),
    ],
)
def test_what_has_one_home_is_silent_there(path: str, line: str) -> None:
    assert not list(home_offences(planted(line, path)))


def test_a_broad_except_is_seen_unless_it_is_a_marked_boundary_or_raises_on() -> None:
    assert list(except_offences(planted("try: f()\nexcept Exception:\n  pass")))
    assert list(except_offences(planted("try: f()\nexcept (OSError, BaseException) as e:\n  log(e)")))
    assert list(except_offences(planted("try: f()\nexcept:\n  pass")))
    assert list(except_offences(planted("with contextlib.suppress(Exception): f()")))
    assert not list(except_offences(planted("try: f()\nexcept Exception:  # boundary: one bad row\n  pass")))
    assert not list(except_offences(planted("try: f()\nexcept BaseException:\n  clean()\n  raise")))
    assert not list(except_offences(planted("try: f()\nexcept OSError:\n  pass")))


def test_a_swallowed_cancellation_is_seen() -> None:
    assert list(cancelled_offences(planted("try: f()\nexcept asyncio.CancelledError:\n  pass")))
    assert not list(cancelled_offences(planted("try: f()\nexcept asyncio.CancelledError:\n  clean()\n  raise")))


def test_a_late_import_is_seen_and_only_the_command_line_may_have_its_three() -> None:
    assert list(late_import_offences(planted("def f():\n  import json")))
    assert list(late_import_offences(planted("def f():\n  from nanoclaw import host", "cli/up.py")))
    assert list(late_import_offences(planted("def f():\n  import rich")))
    assert not list(late_import_offences(planted("def f():\n  from rich.table import Table", "cli/up.py")))


def test_a_shell_is_seen() -> None:
    assert list(shell_offences(planted("subprocess.run(line, shell=True)")))
    assert not list(shell_offences(planted("subprocess.run(argv, shell=False)")))


def test_a_bare_shield_is_seen_and_a_shield_over_an_owned_task_is_not() -> None:
    assert list(shield_offences(planted("await asyncio.shield(work())")))
    assert not list(shield_offences(planted("await asyncio.shield(task)")))
    hold((o for m in product() for o in shield_offences(m)), "own the task, then await it again after the cancellation")


def test_tasks_clocks_and_the_environment_stay_in_their_homes() -> None:
    hold((o for m in product() for o in home_offences(m)), "the homes are HOMES in this file")


def test_no_shell_is_ever_started() -> None:
    hold((o for m in product() for o in shell_offences(m)), SHELL)


def test_broad_excepts_stand_at_marked_boundaries_only() -> None:
    hold((o for m in product() for o in except_offences(m)), "catch what you expect, or write `# boundary: why`")


def test_cancellation_is_never_swallowed() -> None:
    hold(
        (o for m in product() for o in cancelled_offences(m)),
        "clean up and raise; at a task's owner write `# boundary`",
    )


def test_imports_stand_at_the_top() -> None:
    hold((o for m in product() for o in late_import_offences(m)), "only cli may import rich and prompt_toolkit late")
