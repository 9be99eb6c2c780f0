"""A whole rule file: `[[rule]]` and `[[use]]` tables in TOML. Read whole or not at all; every fault names its line.

In: a file's text. Out: its rules and used sets, or a `FileFault`; and the text with a table put in or taken out, what a
person wrote around it kept. Never: takes an unknown key, a rule that can never match, or two of one name in one group.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from nanoclaw.errors import NanoClawError
from nanoclaw.gateway.egress_words import RuleWords
from nanoclaw.gateway.policy import Rule
from nanoclaw.gateway.rule_words import FOLDER, RuleFault, covers_rule, parse_rule, say

FILE_BYTES = 256 * 1024
MOST_TABLES = 1_000
RULE, USE = "rule", "use"

_HEADER = re.compile(r"\s*\[\[\s*(rule|use)\s*\]\]\s*(#.*)?")
_LINE_OF = re.compile(r" \(at line (\d+), column \d+\)")
_TYPES: dict[str, tuple[object, str]] = {
    "port": (int, "a number"),
    "methods": (list[str], "a list of texts in quotes"),
    "paths": (list[str], "a list of texts in quotes"),
    "upgrade": (bool, "true or false"),
    "encoded_slash": (bool, "true or false"),
    "allow_private": (bool, "true or false"),
}
_KEYS = {RULE: RuleWords.__struct_fields__, USE: ("set", "group")}


class FileFault(NanoClawError):
    """A rule file that is not taken: the line (0: none in particular) and what is wrong there."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Use:
    """A ready-made set in force, for one agent group or ("") every one."""

    set: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file: what it says, and its lines, the comment above it with them."""

    entry: Rule | Use
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file's tables in order, and the lines above the first."""

    above: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are written."""
        return tuple(table.entry for table in self.tables if isinstance(table.entry, Rule))

    @property
    def uses(self) -> tuple[Use, ...]:
        """The used sets in the order in which they are written."""
        return tuple(table.entry for table in self.tables if isinstance(table.entry, Use))

    @property
    def text(self) -> str:
        """The file as it is written."""
        lines = [*self.above, *(line for table in self.tables for line in table.lines)]
        return "".join(f"{line}\n" for line in lines)


def parse_file(text: str, sets: Sequence[str]) -> RuleFile:
    """Return what a rule file says; `sets` are the names that `[[use]]` may give. Raises FileFault."""
    if len(text.encode()) > FILE_BYTES:
        raise FileFault(0, f"a rule file has at most {FILE_BYTES // 1024} KiB")
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    given = _parse_toml(text, lines)
    headers = [(number, found[1]) for number, line in enumerate(lines) if (found := _HEADER.fullmatch(line))]
    above, blocks = _split(lines, [number for number, _ in headers])
    counts = {RULE: 0, USE: 0}
    tables: list[Table] = []
    for (number, kind), block in zip(headers, blocks, strict=True):
        place = _Place(lines, number)
        words = given[kind][counts[kind]]
        counts[kind] += 1
        entry = _parse_rule_table(words, place) if kind == RULE else _parse_use_table(words, place, sets)
        _check_beside([(table.entry, start) for table, (start, _) in zip(tables, headers, strict=False)], entry, place)
        tables.append(Table(entry, block))
    return RuleFile(above, tuple(tables))


def write_rule(words: RuleWords) -> Table:
    """Return a rule's table. Raises RuleFault."""
    given = {
        key: value
        for key, value in msgspec.structs.asdict(words).items()
        if value not in (None, "", (), False, "https")
    }
    return Table(parse_rule(words), (f"[[{RULE}]]", *(f"{key} = {_toml(value)}" for key, value in given.items()), ""))


def write_use(use: Use) -> Table:
    """Return a used set's table."""
    group = (f"group = {_toml(use.group)}",) if use.group else ()
    return Table(use, (f"[[{USE}]]", f"set = {_toml(use.set)}", *group, ""))


def _toml(value: object) -> str:
    return json.dumps(value)  # what JSON makes of ASCII text, whole numbers, lists and truth values is TOML as well


def _parse_toml(text: str, lines: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    """Return the tables by kind. Raises FileFault, also for TOML whose lines could not be told apart."""
    for number, line in enumerate(lines, 1):
        if '"""' in line or "'''" in line:
            raise FileFault(number, "a text over several lines is not used in a rule file")
    try:
        given = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        found = _LINE_OF.search(str(error))
        line = int(found[1]) if found else len(lines)
        what = _LINE_OF.sub("", str(error))
        raise FileFault(line, f"this is not valid TOML: {what}") from None
    except RecursionError:
        raise FileFault(0, "its lists lie too deep in one another") from None
    for key in given:
        if key not in _KEYS:
            raise FileFault(_find_line(lines, key), f"{say(key)} is unknown: a file has [[rule]] and [[use]] tables")
    tables: dict[str, list[dict[str, object]]] = {RULE: [], USE: []}
    for kind in tables:
        tables[kind] = _list_tables(given.get(kind, []), kind, lines)
    if sum(map(len, tables.values())) > MOST_TABLES:
        raise FileFault(0, f"a rule file has at most {MOST_TABLES} rules")
    return tables


def _list_tables(value: object, kind: str, lines: Sequence[str]) -> list[dict[str, object]]:
    headers = sum(1 for line in lines if (found := _HEADER.fullmatch(line)) and found[1] == kind)
    try:
        tables = msgspec.convert(value, list[dict[str, object]])
    except msgspec.ValidationError:
        tables = []
    if len(tables) != headers or (not tables and value != []):
        raise FileFault(_find_line(lines, kind), f"write each {kind} under a line of its own that says [[{kind}]]")
    return tables


def _find_line(lines: Sequence[str], key: str) -> int:
    """Return the number of the first line that begins with a key, as key or table; 1 when none does."""
    pattern = _key_pattern(key)
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), 1)


def _key_pattern(key: str) -> re.Pattern[str]:
    return re.compile(rf"""\s*\[*\s*(\w+\.)?["']?{re.escape(key)}["']?\s*[.=\]]""")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a table stands: `header` counts lines from 0."""

    lines: Sequence[str]
    header: int

    def fault(self, key: str, message: str) -> FileFault:
        """Return a fault at the line of a key of this table, at its header when it has no such line."""
        pattern = _key_pattern(key)
        for number in range(self.header + 1, len(self.lines)):
            if _HEADER.fullmatch(self.lines[number]):
                break
            if key and pattern.match(self.lines[number]):
                return FileFault(number + 1, message)
        return FileFault(self.header + 1, message)


def _parse_rule_table(given: dict[str, object], place: _Place) -> Rule:
    _check_keys(given, RULE, place)
    if "host" not in given:
        raise place.fault("", 'a rule names a host: host = "api.example.org"')
    for key in ("methods", "paths"):
        if given.get(key) == []:
            raise place.fault(key, f"{key}: an empty list allows nothing; leave it out for every one")
    try:
        return parse_rule(msgspec.convert(given, RuleWords))
    except RuleFault as fault:
        raise place.fault(fault.key, str(fault)) from None


def _parse_use_table(given: dict[str, object], place: _Place, sets: Sequence[str]) -> Use:
    _check_keys(given, USE, place)
    words = {key: str(value) for key, value in given.items()}
    if words.get("set") not in sets:
        raise place.fault("set", f"set: it is {', '.join(sets)}, not {say(words.get('set', ''))}")
    if words.get("group") and not FOLDER.fullmatch(words["group"]):
        raise place.fault(
            "group", f"group: {say(words['group'])} is no folder of an agent; `ncl groups list` shows them"
        )
    return Use(words["set"], words.get("group", ""))


def _check_keys(given: dict[str, object], kind: str, place: _Place) -> None:
    for key, value in given.items():
        if key not in _KEYS[kind]:
            raise place.fault(key, f"{say(key)} is no key of a {kind}; it has {', '.join(_KEYS[kind])}")
        wanted, called = _TYPES.get(key, (str, "a text in quotes"))
        try:
            msgspec.convert(value, wanted)
        except msgspec.ValidationError:
            raise place.fault(key, f"{key}: it is {called}, not {say(str(value))}") from None


def _check_beside(before: Sequence[tuple[Rule | Use, int]], entry: Rule | Use, place: _Place) -> None:
    """Refuse what an earlier table of the same group makes ambiguous or dead."""
    for other, header in before:
        at = header + 1
        if isinstance(entry, Use) or isinstance(other, Use):
            if other == entry:
                raise place.fault("set", f"this set is used already, in line {at}")
            continue
        if other.group != entry.group:
            continue
        if other.name == entry.name:
            raise place.fault("name", f"the rule in line {at} is called {say(entry.name)} too; give one another name")
        if covers_rule(other, entry):
            raise place.fault("", f"this rule never decides: the rule {say(other.name)} in line {at} comes first")


def _split(lines: Sequence[str], headers: Sequence[int]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the lines above the first table, and those of each, which begin with the comments right above it."""
    starts: list[int] = []
    for header in headers:
        start = header
        while start > 0 and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        starts.append(start)
    blocks = [tuple(lines[start:end]) for start, end in pairwise([*starts, len(lines)])]
    return tuple(lines[: starts[0]] if starts else lines), blocks
