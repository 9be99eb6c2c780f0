"""The docstring of src/nanoclaw/__init__.py is the map: every file on it, no ghost, one line each."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from tests.house.source import PACKAGE, Module, hold, product

# One entry: the file's path at the start of a line (indented or not), then what it is.
ENTRY = re.compile(r"^\s*((?:[\w]+/)*[\w]+\.py)[ \t]+(\S.*)$", re.MULTILINE)


def map_offences(docstring: str, files: Mapping[str, str]) -> Iterator[str]:
    """`files`: path -> what it is, for the line that is missing."""
    named = Counter(match[1] for match in ENTRY.finditer(docstring))
    yield from (f"not on the map: {path:<28} {files[path]}" for path in sorted(set(files) - set(named)))
    yield from (f"{path} is on the map but not in the tree" for path in sorted(set(named) - set(files)))
    yield from (f"{path} is on the map {count} times" for path, count in sorted(named.items()) if count > 1)


def first_sentence(module: Module) -> str:
    return (ast.get_docstring(module.tree) or "").partition("\n")[0]


def test_a_missing_file_a_ghost_and_a_double_are_seen() -> None:
    drawn = "The map.\n\nflow/wake.py   wakes\nflow/wake.py   again\n  flow/gone.py   ghost\n"
    assert list(map_offences(drawn, {"flow/wake.py": "wakes", "host.py": "builds"})) == [
        "not on the map: host.py                      builds",
        "flow/gone.py is on the map but not in the tree",
        "flow/wake.py is on the map 2 times",
    ]


def test_every_file_is_on_the_map_and_the_map_names_no_ghost() -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))) or ""
    files = {m.path: first_sentence(m) for m in product() if not m.path.endswith("__init__.py")}
    hold(map_offences(docstring, files), "the map is the docstring of src/nanoclaw/__init__.py, `path.py  what it is`")


def test_every_file_opens_with_a_docstring_that_says_what_it_is() -> None:
    offences = [module.path for module in product() if not ast.get_docstring(module.tree)]
    hold(offences, "the module docstring is the file's spec")
