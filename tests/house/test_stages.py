"""A stage of the data path opens with its contract."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from nanoclaw.testing.crashpoints import BUILD_CRASH_POINTS, HOST_CRASH_POINTS, PURGE_CRASH_POINTS
from tests.house.source import Module, dotted, hold, planted, product

PARTS = ("In", "Out", "Writes", "Never", "Fails")


def stage_offences(module: Module) -> Iterator[str]:
    docstring = ast.get_docstring(module.tree) or ""
    missing = [f"{part}:" for part in PARTS if not re.search(rf"^\s*{part}:\s*\S", docstring, re.MULTILINE)]
    if missing:
        yield f"{module.path} lacks {' '.join(missing)}"


def test_a_stage_without_its_contract_is_seen() -> None:
    whole = '"""Stage 3.\n\nIn: a\nOut: b\nWrites: nothing\nNever: c\nFails: d\n"""'
    assert not list(stage_offences(planted(whole)))
    assert list(stage_offences(planted(whole.replace("Never: c\n", "")))) == ["flow/planted.py lacks Never:"]
    assert list(stage_offences(planted("x = 1")))


def test_every_stage_states_what_it_takes_gives_writes_and_never_does() -> None:
    stages = [m for m in product() if m.folder == "flow" and not m.path.endswith("__init__.py")]
    hold((o for m in stages for o in stage_offences(m)), "write the lines into the module's docstring (style: Shape)")


def reached_points(module: Module) -> set[str]:
    """Return the names that a module passes to a `reached`, which a test may turn into the host's death."""
    calls = (node for node in ast.walk(module.tree) if isinstance(node, ast.Call) and node.args)
    named = (call.args[0] for call in calls if dotted(call.func).endswith("reached"))
    return {str(node.value) for node in named if isinstance(node, ast.Constant)}


def test_crash_points_are_found_where_they_are_reached() -> None:
    assert reached_points(planted('self._means.reached("wake.claimed")\nreached(name)\nlog("wake.gone")')) == {
        "wake.claimed"
    }


def test_every_crash_point_is_named_once_and_reached() -> None:
    reached = set[str]().union(*(reached_points(module) for module in product()))
    named = (*HOST_CRASH_POINTS, *PURGE_CRASH_POINTS, *BUILD_CRASH_POINTS)
    assert reached == set(named)
    assert len(set(named)) == len(named)
