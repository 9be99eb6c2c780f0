"""The project's own files, read and parsed once; the house tests walk over them.

A house rule is a function from a parsed module to offences, lines of text that say where and what. Each rule's test
file plants offences (`planted`) to show that the rule can fail, then holds the rule over the whole tree.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "nanoclaw"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One parsed file. `path` is relative: to src/nanoclaw for the product (`flow/wake.py`), else to the clone."""

    path: str
    text: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        """`flow` of flow/wake.py, the stem for a file at the top: the unit of the import order."""
        return self.path.split("/")[0].removesuffix(".py")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @functools.cached_property
    def comments(self) -> dict[int, str]:
        """Line number -> comment on it."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @functools.cached_property
    def docstrings(self) -> set[int]:
        """The ids of the nodes that are docstrings: prose, not code."""
        owners = (n for n in ast.walk(self.tree) if isinstance(n, ast.Module | ast.ClassDef | Function))
        return {id(n.body[0].value) for n in owners if n.body and isinstance(n.body[0], ast.Expr)}

    def at(self, node: ast.AST | int, what: str) -> str:
        """Say an offence: `flow/wake.py:12 what`."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line} {what}"

    def strings(self) -> Iterator[tuple[ast.Constant, str]]:
        """Every string constant that is not a docstring, with its text."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in self.docstrings:
                yield node, node.value


def planted(text: str, path: str = "flow/planted.py") -> Module:
    """Return a made-up module, to show that a rule can fail."""
    return Module(path, text, ast.parse(text))


@functools.cache
def product() -> tuple[Module, ...]:
    """Return every Python file of the product."""
    return tuple(_read(PACKAGE.rglob("*.py"), PACKAGE))


@functools.cache
def all_tests() -> tuple[Module, ...]:
    """Return every Python file of the tests."""
    return tuple(_read((ROOT / "tests").rglob("*.py"), ROOT))


def _read(paths: Iterable[Path], base: Path) -> Iterator[Module]:
    for path in sorted(paths):
        text = path.read_text(encoding="utf-8")
        yield Module(path.relative_to(base).as_posix(), text, ast.parse(text, str(path)))


def sql_files() -> dict[str, str]:
    """Return every .sql file of the product by its path below src/nanoclaw."""
    paths = sorted(PACKAGE.rglob("*.sql"))
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def functions(module: Module) -> Iterator[Function]:
    """Return every function and method, nested ones too."""
    return (node for node in ast.walk(module.tree) if isinstance(node, Function))


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` of a name or attribute, '' for anything else; a call in the middle shows as `()`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute):
            return f"{dotted(value)}.{attribute}"
        case ast.Call(func=function):
            return f"{dotted(function)}()"
        case _:
            return ""


def words_of(name: str) -> list[str]:
    """Split an identifier: `TurnManager` -> turn manager, `open_box` -> open box."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)
    return [part.lower() for part in parts]


def hold(offences: Iterable[str], mend: str) -> None:
    """Fail with the offences, one a line, and with what mends them."""
    lines = list(offences)
    if lines:
        pytest.fail("\n".join([*lines, f"-- {len(lines)} offences; {mend}"]), pytrace=False)
