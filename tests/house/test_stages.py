"""A stage of the data path opens with its contract."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.house.source import Module, hold, planted, product

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
