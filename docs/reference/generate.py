"""Write docs/reference/*.md from the source, so that they cannot say anything else.

    .venv/bin/python docs/reference/generate.py            write the pages
    .venv/bin/python docs/reference/generate.py --check    name the pages that are not up to date, exit 1

tests/house/test_docs.py fails while a page is out of date.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "src" / "nanoclaw"
MADE = "<!-- made by docs/reference/generate.py from the source; do not edit -->"

WrittenWall = dict[str, dict[str, Any]]
LEVELS = ("debug", "info", "warning", "error")
LINE = re.compile(r"([a-z][a-z_]*\.[a-z][a-z_]*)(?: |$)")
FIELD = re.compile(r" ([a-z_]+)=")


@dataclass
class Event:
    """One event of the log, from all places that write it."""

    name: str
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


# --- events ---------------------------------------------------------------------------------------------------------


def find_events() -> dict[str, Event]:
    """Return every event that the product writes, by name."""
    events: dict[str, Event] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name, level, fields in events_of(ast.parse(path.read_text(encoding="utf-8"))):
            event = events.setdefault(name, Event(name))
            event.levels.add(level)
            event.fields |= fields
            event.files.add(path.relative_to(PACKAGE).as_posix())
    return dict(sorted(events.items()))


def events_of(tree: ast.AST) -> Iterator[tuple[str, str, set[str]]]:
    """Yield (name, level, fields): of `log.info("run.started", rows=1)`, and of lines that a child writes to stderr."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        callee = ast.unparse(node.func)
        last = callee.rpartition(".")[2]
        if last in LEVELS and "log" in callee.lower() and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value), last, {keyword.arg or "**" for keyword in node.keywords}
        elif last.endswith("log") or callee == "sys.stderr.write":
            text = literal_of(node.args[0])
            if found := LINE.match(text):
                yield found[1], "child", set(FIELD.findall(text))


def literal_of(node: ast.expr) -> str:
    """Return the text of a string or f-string; what is filled in shows as `?`."""
    if isinstance(node, ast.BinOp):
        return literal_of(node.left)
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in parts)


def events_page() -> str:
    """Every event of the log."""
    rows = [
        f"| `{e.name}` | {', '.join(sorted(e.levels))} | {', '.join(sorted(e.fields))} | {', '.join(sorted(e.files))} |"
        for e in find_events().values()
    ]
    head = [
        "# Events of the log",
        MADE,
        "",
        "One event a line, `noun.past_verb key=value ...`. Every line of the host has `at` and `level` too.",
        "Level `child`: written by a process below the host (gateway, runner) on its stderr, which the host logs.",
        "Words of messages are never logged above debug.",
        "",
        "| event | level | fields | written in |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


# --- errors ---------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """Every error by whose fault it is."""
    tree = ast.parse((PACKAGE / "errors.py").read_text(encoding="utf-8"))
    rows = [
        f"| `{node.name}` | `{ast.unparse(node.bases[0])}` | {' '.join((ast.get_docstring(node) or '').split())} |"
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    ]
    head = ["# Errors", MADE, "", "By whose fault it is; the tree is drawn in `src/nanoclaw/errors.py`.", ""]
    return "\n".join([*head, "| error | is a | means |", "|---|---|---|", *rows, ""])


# --- tables ---------------------------------------------------------------------------------------------------------

TABLE = re.compile(r"^CREATE TABLE (\w+) \(\n(.*?)^\) STRICT", re.MULTILINE | re.DOTALL)
COLUMN = re.compile(r"^  ([a-z_]+) ([A-Z]+)(.*?)(?:-- *(.*))?$")
DATABASES = (
    ("The central store, `data/nanoclaw.db`", "store/schema.sql"),
    ("The mailbox of a run, `in/inbound.db` and `out/outbound.db`", "contract/mailbox.sql"),
    ("The gateway's ledger, `gateway/ledger.db`", "gateway/ledger.sql"),
)


def tables_page() -> str:
    """Every table of the three databases."""
    lines = [
        "# Tables",
        MADE,
        "",
        "Times are epoch milliseconds, ids ULIDs unless said otherwise. All tables are STRICT.",
    ]
    for title, path in DATABASES:
        lines += ["", f"## {title}", "", f"From `src/nanoclaw/{path}`."]
        for name, body in TABLE.findall((PACKAGE / path).read_text(encoding="utf-8")):
            lines += ["", f"### `{name}`", "", "| column | type | rules | means |", "|---|---|---|---|"]
            lines += [column_row(found) for found in map(COLUMN.match, joined(body)) if found]
    return "\n".join([*lines, ""])


def joined(body: str) -> list[str]:
    """Return one line per column; a rule may stand on a line of its own below its column."""
    return re.sub(r"\n {4,}", " ", body).split("\n")


def column_row(found: re.Match[str]) -> str:
    """One row of a table's page."""
    name, kind, rules, means = found.groups()
    rules = " ".join(rules.strip().rstrip(",").split())
    return f"| `{name}` | {kind} | {f'`{rules}`' if rules else ''} | {means or ''} |".replace("||", "\\|\\|")


# --- commands -------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """The help of every command."""
    lines = ["# Commands", MADE, ""]
    lines += [
        "`./nanoclaw.sh WORD ...` is `nanoclaw WORD ...`. Exit codes: 0 done, 1 refused or failed, 2 usage or a thing"
    ]
    lines += ["that the operator can mend, 3 time-out of a chat."]
    for name in ("nanoclaw", "ncl"):
        lines += helps(name, COMMANDS[name](), None)
    return "\n".join([*lines, ""])


# Imported when asked for: the other pages need nothing of the product but its text.
COMMANDS: dict[str, Callable[[], click.Command]] = {
    "nanoclaw": lambda: import_module("nanoclaw.cli.verbs").nanoclaw,
    "ncl": lambda: import_module("nanoclaw.admin.cli").ncl,
}


def helps(name: str, command: click.Command, parent: click.Context | None) -> Iterator[str]:
    """Yield the help of a command and of those below it."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=110, max_content_width=110)
    yield from ("", f"## {context.command_path}", "", "```text", command.get_help(context).rstrip(), "```")
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            below = command.get_command(context, verb)
            if below is not None and not below.hidden:
                yield from helps(verb, below, context)


# --- the wall -------------------------------------------------------------------------------------------------------

WALL_HEAD = """
What was seen when every probe of `tests/wall/probes` was run, unchanged, over each wall that this project builds. From
`wall.json`, which `NANOCLAW_WALL_WRITE=1 ./nanoclaw.sh test --ci tests/wall/test_wall.py` writes; the ci tests fail if
a verdict is worse than the one here.

- **held**: the attempt failed.
- **contained**: it did not fail, and reached nothing beyond the box. Three kinds, each said below: gVisor gave away
  something of *its own* kernel, which lives and dies with the box; the box was ended as a whole (its conversation goes
  on in a new one); or it is how the runtime is built, and another wall stands behind.
- **broken**: it worked, and nothing else of the wall stops it. Choose another runtime where that matters to you.
- **can fail**: over a wall that is weak on purpose (`tests/wall/weak.py`: none at all, no filter, capabilities kept,
  namespaces shared, host's files shown, no limits) the probe said broken; so its `held` means something. Without a
  mark it could not be made to fail on the machine of the last run, most often because its kernel lacks the thing.
"""
WALL_NOTES = """
## What this means for you

- **bubblewrap and docker runc share the host's kernel.** A fault of the kernel is a way out of them; the filter keeps
  most of its rarely used calls away. Where that is not enough: `docker:runsc`, and `require: separate-kernel`.
- **docker makes no user namespace**: a box's user is the same number outside. Under a root host, as here, that is
  nobody's and has no rights; under a normal user's host it is that user, so a way out of the container is a way to
  everything of theirs (not run over these probes: `tests/contract/test_docker_user.py` only starts such boxes).
- **gVisor answers many calls itself**: namespaces, io_uring, ptrace, keys and its log succeed in it, and are its own;
  it keeps no filter inside. Over its limit of processes or memory the whole box ends, where others end one process:
  the agent starts again in a new box. Threads count to its memory and not to its processes. Its own threads and memory
  count too: with 256 MB and 128 processes it did not start, with 256 MB and 512 it did (so it was tried here).
- **The workspace has no size of its own** where the table says contained: a watchdog of the host counts it every few
  seconds and ends a box that is over it. Until then it may take more.
- **A normal user without a cgroup of its own**: nothing bounds the processors that a box takes, and memory is watched
  twice a second by the host, which ends a box that is over its limit. A delegated cgroup mends both
  (`docs/guides/limits.md`).
"""


def wall_page() -> str:
    """Every probe over every wall, from the written verdicts."""
    told = json.loads((HERE / "wall.json").read_text(encoding="utf-8"))
    walls, weak = told["walls"], told["weak"]["weak"]
    lines = ["# The wall", MADE, WALL_HEAD.rstrip(), "", *wall_counts(told), WALL_NOTES.rstrip(), ""]
    lines += ["## What did not simply hold", "", "| probe | wall | verdict | what was seen |", "|---|---|---|---|"]
    for name in told["probes"]:
        rows = ((wall, *walls[wall].get(name, ("", ""))) for wall in walls)
        lines += [f"| {name} | {wall} | {verdict} | {seen} |" for wall, verdict, seen in rows if verdict != "held"]
    for family in dict.fromkeys(each[0] for each in told["probes"].values()):
        lines += ["", f"## {family[0].upper()}{family[1:]}", ""]
        lines += [f"| probe | tries to | {' | '.join(walls)} | can fail |", "|---|---|" + "---|" * (len(walls) + 1)]
        for name, (of, tries, _) in told["probes"].items():
            if of == family:
                verdicts = " | ".join(walls[wall].get(name, ("not run", ""))[0] for wall in walls)
                mark = "yes" if weak.get(name, ("",))[0] == "broken" else ""
                lines.append(f"| {name} | {tries} | {verdicts} | {mark} |")
    return "\n".join([*lines, ""])


def wall_counts(told: WrittenWall) -> Iterator[str]:
    """Yield the table of how many probes said what."""
    yield from ("| wall | held | contained | broken |", "|---|---|---|---|")
    for wall, verdicts in told["walls"].items():
        said = [verdict for verdict, _ in verdicts.values()]
        yield f"| {wall} | {said.count('held')} | {said.count('contained')} | {said.count('broken')} |"
    can_fail = sum(verdict == "broken" for verdict, _ in told["weak"]["weak"].values())
    yield from ("", f"{len(told['probes'])} probes, of which {can_fail} are shown to be able to fail.")


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "events.md": events_page,
    "tables.md": tables_page,
    "commands.md": commands_page,
    "wall.md": wall_page,
}


def main() -> int:
    """Write the pages that are out of date, or with --check only name them."""
    check = "--check" in sys.argv
    stale = 0
    for name, make in PAGES.items():
        text = make()
        if is_current(name, text):
            continue
        stale += 1
        print(f"docs/reference/{name} {'is out of date' if check else 'is written'}")
        if not check:
            (HERE / name).write_text(text, encoding="utf-8")
    return 1 if stale and check else 0


def is_current(name: str, text: str) -> bool:
    """Whether a page is what the source would make of it now."""
    page = HERE / name
    return page.exists() and page.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
