"""Names: one word per thing, no vague ones, nothing left undone, every public part says what it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.source import Function, Module, hold, planted, product, words_of

VAGUE = {"util", "utils", "helpers", "manager", "misc", "common", "core"}  # in names of files and public classes
# Words for which the project has its own (architecture section 2), in names of files and public classes.
GLOSSARY = {
    "container": "box or sandbox",
    "job": "turn or task",
    "bot": "agent group",
    "adapter": "channel",
    "connector": "channel",
    "room": "messaging group",
    "thread_pool": "Blocking",
    "permission": "verdict",
    "epoch": "fence",
    "whitelist": "allowlist",
    "blacklist": "denylist",
}
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
COLOURED = re.compile(r"\b(white|black)list", re.IGNORECASE)


def name_offences(module: Module) -> Iterator[str]:
    names = [(module.tree, part) for part in module.path.removesuffix(".py").split("/")]
    classes = (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))
    names += [(node, node.name) for node in classes if not node.name.startswith("_")]
    for node, name in names:
        for word in words_of(name):
            if word in VAGUE:
                yield module.at(node, f"{name}: {word} says nothing; one role per file, and the role is the name")
            if word in GLOSSARY:
                yield module.at(node, f"{name}: our word for {word} is {GLOSSARY[word]}")


def text_offences(module: Module) -> Iterator[str]:
    for number, line in enumerate(module.lines, 1):
        if found := UNDONE.search(line):
            yield module.at(number, f"{found[0]}: finish it, or write an issue")
        if found := COLOURED.search(line):
            yield module.at(number, f"{found[0]}: allowlist, denylist")


def docstring_offences(module: Module) -> Iterator[str]:
    yield from undocumented(module, module.tree.body)


def undocumented(module: Module, body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_") or is_override(node):
            continue
        if not ast.get_docstring(node):
            yield module.at(node, f"{node.name} has no docstring")
        if isinstance(node, ast.ClassDef):
            yield from undocumented(module, node.body)


def is_override(node: ast.ClassDef | Function) -> bool:
    names = {d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", "") for d in node.decorator_list}
    return bool(names & {"override", "overload", "setter"})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("flow/utils.py", ""),
        ("flow/session_manager.py", ""),
        ("flow/planted.py", "class SessionManager: ..."),
        ("flow/planted.py", "class CoreLoop: ..."),
        ("flow/planted.py", "class Container: ..."),
        ("flow/planted.py", "class TelegramAdapter: ..."),
    ],
)
def test_a_vague_name_and_a_second_word_for_a_thing_are_seen(path: str, text: str) -> None:
    assert list(name_offences(planted(text, path)))


def test_our_own_words_are_silent() -> None:
    assert not list(name_offences(planted("class Box: ...\nclass Channel: ...", "sandbox/spec.py")))


def test_undone_work_is_seen() -> None:
    assert list(text_offences(planted("x = 1  # TODO later")))
    assert list(text_offences(planted("raise NotImplementedError")))
    assert list(text_offences(planted("WHITELIST = ()")))
    assert not list(text_offences(planted("todo = list_tasks()")))


def test_a_public_part_without_a_docstring_is_seen() -> None:
    assert list(docstring_offences(planted("def run(): ...")))
    assert list(docstring_offences(planted('class A:\n  """A."""\n  def run(self): ...')))
    assert not list(
        docstring_offences(planted('class A:\n  """A."""\n  def _run(self): ...\n  def __init__(self): ...'))
    )
    assert not list(docstring_offences(planted("class _A:\n  def run(self): ...")))


def test_names_are_our_own_words_and_none_is_vague() -> None:
    hold((o for m in product() for o in name_offences(m)), "the words are in ARCHITECTURE.md")


def test_nothing_is_left_undone_in_the_product() -> None:
    hold((o for m in product() for o in text_offences(m)), "what is not built is not there")


def test_every_public_part_of_the_product_has_a_docstring() -> None:
    hold((o for m in product() for o in docstring_offences(m)), "one sentence; then units, errors, guarantees")
