"""Tests read like sentences, fake nothing by patching, and never sleep for a fixed time."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.source import Function, Module, all_tests, dotted, functions, hold, planted

WORDS = 4
LONGEST_SLEEP_SECONDS = 0.05
MOCKS = {"unittest.mock", "mock", "pytest_mock"}
PATCHES = {"monkeypatch.setattr", "monkeypatch.setitem", "monkeypatch.delattr", "mock.patch"}
MOCK_NAMES = {"MagicMock", "AsyncMock", "Mock", "patch", "mocker"}


def name_offences(module: Module) -> Iterator[str]:
    for function in functions(module):
        words = [word for word in function.name.split("_") if word]
        if words[:1] == ["test"] and len(words) - 1 < WORDS:
            yield module.at(function, f"{function.name} is not a sentence of {WORDS} words or more")


def mock_offences(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Attribute):
            names = [dotted(node)] if dotted(node) in PATCHES else []
        if isinstance(node, ast.Name):
            names = ["unittest.mock"] if node.id in MOCK_NAMES else []
        if any(name in MOCKS | PATCHES for name in names):
            yield module.at(node, "a mock or a patch")


def sleep_offences(module: Module) -> Iterator[str]:
    polling = {id(node) for loop in ast.walk(module.tree) if isinstance(loop, ast.While) for node in ast.walk(loop)}
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or id(node) in polling or not node.args:
            continue
        if dotted(node.func) in ("time.sleep", "asyncio.sleep", "sleep") and is_long(node.args[0]):
            yield module.at(node, f"{dotted(node.func)}({ast.unparse(node.args[0])})")


def is_long(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value > LONGEST_SLEEP_SECONDS


def tier_offences(module: Module) -> Iterator[str]:
    for function in functions(module):
        reason = ast.get_docstring(function) or any(d.lineno in module.comments for d in function.decorator_list)
        if marks_of(function) & {"ci", "long"} and not reason:
            yield module.at(function, f"{function.name} is not in the default tier and does not say why")


def marks_of(function: Function) -> set[str]:
    names = (dotted(d.func if isinstance(d, ast.Call) else d) for d in function.decorator_list)
    return {name.removeprefix("pytest.mark.") for name in names if name.startswith("pytest.mark.")}


def test_a_name_that_is_no_sentence_is_seen() -> None:
    assert list(name_offences(planted("def test_wake(): ...")))
    assert list(name_offences(planted("class TestWake:\n  def test_the_wake_works(self): ...")))
    assert not list(name_offences(planted("def test_a_wake_claims_rows(): ...\ndef build(): ...")))


@pytest.mark.parametrize(
    "line",
    [
        "from unittest import mock",
        "import unittest.mock",
        "box = MagicMock()",
        "monkeypatch.setattr(wake, 'claim', fake)",
    ],
)
def test_a_mock_and_a_patch_are_seen(line: str) -> None:
    assert list(mock_offences(planted(line)))


def test_setting_the_environment_and_the_folder_is_no_patch() -> None:
    assert not list(mock_offences(planted("monkeypatch.setenv('TZ', 'UTC')\nmonkeypatch.chdir(tmp_path)")))


def test_a_fixed_sleep_is_seen_and_a_polling_one_is_not() -> None:
    assert list(sleep_offences(planted("time.sleep(0.5)")))
    assert list(sleep_offences(planted("async def f():\n  await asyncio.sleep(3600)")))
    assert not list(sleep_offences(planted("while time.monotonic() < end:\n  time.sleep(0.1)")))
    assert not list(sleep_offences(planted("await_(asyncio.sleep(0))")))


def test_a_slow_test_that_does_not_say_why_is_seen() -> None:
    assert list(tier_offences(planted("@pytest.mark.ci\ndef test_many(): ...")))
    assert not list(tier_offences(planted('@pytest.mark.ci\ndef test_many():\n  """30 kills take minutes."""')))
    assert not list(tier_offences(planted("@pytest.mark.ci  # 30 kills take minutes\ndef test_many(): ...")))


def test_every_test_name_is_a_sentence() -> None:
    hold((o for m in all_tests() for o in name_offences(m)), "say what is true when the test passes")


def test_no_test_mocks_or_patches() -> None:
    hold((o for m in all_tests() for o in mock_offences(m)), "a fake is a real implementation with a script, passed in")


def test_no_test_sleeps_for_a_fixed_time() -> None:
    hold(
        (o for m in all_tests() for o in sleep_offences(m)),
        "wait for a condition with a deadline; to hang, wait on an Event",
    )


def test_every_slow_test_says_why_it_is_slow() -> None:
    hold((o for m in all_tests() for o in tier_offences(m)), "a docstring, or a comment beside the mark, that says why")
