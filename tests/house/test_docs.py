"""The reference pages say what the source says, and every event has a name of the house's form."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator

import pytest

from docs.reference import generate
from tests.house.source import PACKAGE, ROOT, hold

MAKE = ".venv/bin/python docs/reference/generate.py"
EVENT = re.compile(r"[a-z][a-z_]*\.[a-z][a-z_]*")
IRREGULAR = {
    "begun", "broken", "built", "cut", "found", "given", "gone", "heard", "held", "hung", "kept", "left", "lost",
    "made", "met", "put", "quit", "read", "said", "seen", "sent", "set", "shown", "spent", "stuck", "taken", "told",
    "withdrawn", "woken", "written",
}  # fmt: skip
DECISION = re.compile(r"\d{4}-[a-z0-9-]+\.md")
DECISION_PARTS = ("Context", "Choice", "Consequences", "What would change our mind")


def event_offences(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if not EVENT.fullmatch(name):
            yield f"{name} is not `noun.past_verb`"
        elif not any(word.endswith("ed") or word in IRREGULAR for word in name.partition(".")[2].split("_")):
            yield f"{name} is not in the past"


def decision_offences(name: str, text: str) -> Iterator[str]:
    if not DECISION.fullmatch(name):
        yield f"{name} is not called NNNN-what-was-decided.md"
    yield from (f"{name} lacks `## {part}`" for part in DECISION_PARTS if f"\n## {part}\n" not in text)


def test_an_event_of_another_form_is_seen() -> None:
    assert not list(event_offences(["run.started", "turn.hung", "run.start_failed", "terminal.stranger_refused"]))
    assert list(event_offences(["Started the run", "run.start", "run", "run.Started"])) == [
        "Started the run is not `noun.past_verb`",
        "run.start is not in the past",
        "run is not `noun.past_verb`",
        "run.Started is not `noun.past_verb`",
    ]


def test_events_are_found_in_log_calls_and_in_lines_of_the_children() -> None:
    text = (
        'self._log.info("a.started", rows=1)\nlog(f"b.ended code={code}")\nprint("c.shown x=1")\nlog("not one: really")'
    )
    assert list(generate.events_of(ast.parse(text))) == [
        ("a.started", "info", {"rows"}),
        ("b.ended", "child", {"code"}),
    ]


def test_every_event_is_a_noun_and_a_past_verb() -> None:
    hold(event_offences(generate.find_events()), "style: `turn.finished`, dotted noun and past verb")


@pytest.mark.parametrize("page", sorted(generate.PAGES))
def test_every_reference_page_says_what_the_source_says(page: str) -> None:
    if not generate.is_current(page, generate.PAGES[page]()):
        pytest.fail(f"docs/reference/{page} is out of date; run: {MAKE}", pytrace=False)


def test_every_table_of_every_schema_is_on_its_page() -> None:
    page = generate.tables_page()
    named = {
        f"{path}: {table}"
        for _, path in generate.DATABASES
        for table in re.findall(r"CREATE TABLE (\w+)", (PACKAGE / path).read_text(encoding="utf-8"))
        if f"### `{table}`\n" not in page
    }
    hold(sorted(named), "the generator reads `CREATE TABLE name (`, a column a line, `) STRICT`")


def test_every_decision_is_one_page_with_its_four_parts() -> None:
    assert list(decision_offences("notes.md", "# Notes"))
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert pages
    hold((o for p in pages for o in decision_offences(p.name, p.read_text(encoding="utf-8"))), "see 0000-template.md")


def test_every_runtime_dependency_was_decided() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [re.split(r"[\s<>=!~\[;]", item)[0] for item in wanted]
    decided = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/decisions").glob("*.md"))
    hold(
        (name for name in names if f"`{name}`" not in decided),
        "say in docs/decisions what it replaces and what it costs",
    )


def test_the_changelog_keeps_a_changelog_and_has_room_for_what_is_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.startswith("# Changelog\n")
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
