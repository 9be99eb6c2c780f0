"""What a change makes of a rule file. Pure: a file in, a file out, with what a person should know of it.

The last word wins: a new rule comes before the old ones of its group that are as wide, replaces those it covers, and
comes after narrower ones, so that what is said of one host is not undone by what is said of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.egress_words import RuleWords
from nanoclaw.gateway.policy import Action, Rule, covers_host
from nanoclaw.gateway.rule_file import RuleFile, Table, Use, write_rule, write_use
from nanoclaw.gateway.rule_words import RuleFault, breadth, covers_rule, find_host_fault, name_for, say, write_words


@dataclass(frozen=True, slots=True)
class Edit:
    """A file as it becomes, in a few words what was done, and what to know of it."""

    file: RuleFile
    what: str
    notes: tuple[str, ...] = ()


def add_rule(file: RuleFile, words: RuleWords) -> Edit:
    """Put a rule in, under a free name when it has none. Raises RuleFault."""
    rule = write_rule(words).entry
    if not isinstance(rule, Rule):
        raise TypeError("a rule's table holds a rule")
    gone = [old for old in file.rules if _gives_way(old, rule)]
    left = tuple(table for table in file.tables if table.entry not in gone)
    taken = {old.name for old in RuleFile((), left).rules if old.group == rule.group}
    if not words.name and rule.name in taken:
        named = (f"{rule.name[:58]}-{number}" for number in range(2, len(taken) + 3))
        words = msgspec.structs.replace(words, name=next(name for name in named if name not in taken))
    elif not words.name:
        words = msgspec.structs.replace(words, name=rule.name)
    table = write_rule(words)
    notes = [f"It takes the place of the rule {old.name!r}." for old in gone]
    notes += [
        f"The agent {old.group} has a rule of its own for {old.host}, {old.name!r}, which comes first."
        for old in RuleFile((), left).rules
        if not rule.group and old.group and covers_host(rule.host, old.host)
    ]
    what = f"{rule.action.value} {rule.host} as {words.name}{_for(rule.group)}"
    above = (*file.above, "") if file.above and file.above[-1].strip() else file.above
    return Edit(RuleFile(above, _put(left, table, rule)), what, tuple(notes))


def use_set(file: RuleFile, use: Use) -> Edit:
    """Put a ready-made set in force. Raises OperatorError when it is."""
    if use in file.uses:
        raise OperatorError(f"The set {use.set} is in force already{_for(use.group)}.")
    return Edit(RuleFile(file.above, (*file.tables, write_use(use))), f"use {use.set}{_for(use.group)}")


def deny(file: RuleFile, what: str, folder: str, in_force: Sequence[Rule]) -> Edit:
    """Deny a host wherever a rule in force could allow it, or what the rule of that name allowed. Raises RuleFault."""
    named = [rule for rule in file.rules if (rule.name, rule.group) == (what, folder) and rule.host != what]
    if named:
        rule = named[0]
        changed = replace(
            rule, action=Action.DENY, inject="", rate=None, answer_bytes=None, upgrade=False, model=""
        )  # what is left says which calls it is about
        return add_rule(remove(file, what, folder).file, write_words(changed))
    if fault := find_host_fault(what):
        raise RuleFault("", f"There is no rule {say(what)}{_for(folder)}, and as a host: {fault}")
    doors = {(True, 443)} | {
        (rule.tls, rule.port) for rule in in_force if rule.host == what or covers_host(rule.host, what)
    }
    edit = Edit(file, "")
    for tls, port in sorted(doors, reverse=True):
        name = name_for(what) + ("" if (tls, port) == (True, 443) else f"-{port}")
        words = RuleWords(what, name, folder, "deny", "https" if tls else "http", port)
        cleared = take_out_named(edit.file, name, folder)
        step = add_rule(cleared, words)
        edit = Edit(step.file, f"deny {what}{_for(folder)}", tuple(dict.fromkeys((*edit.notes, *step.notes))))
    return edit


def take_out_named(file: RuleFile, name: str, folder: str) -> RuleFile:
    """Return a file without the rule of that name in a group."""
    kept = (
        t for t in file.tables if not (isinstance(t.entry, Rule) and (t.entry.name, t.entry.group) == (name, folder))
    )
    return RuleFile(file.above, tuple(kept))


def remove(file: RuleFile, name: str, folder: str | None) -> Edit:
    """Take a rule or a used set out, by name. Raises OperatorError: there is none, or more than one."""
    found = [table.entry for table in file.tables if _name(table.entry) == name]
    found = [entry for entry in found if folder is None or entry.group == folder]
    if not found:
        there = ", ".join(dict.fromkeys(_name(table.entry) for table in file.tables)) or "none"
        raise OperatorError(f"There is no rule {say(name)}{_for(folder or '')} to remove. There is: {there}.")
    if len(found) > 1:
        groups = ", ".join(entry.group or "every agent" for entry in found)
        raise OperatorError(f"{say(name)} is there more than once: for {groups}. Say which with --group or --all.")
    kept = tuple(table for table in file.tables if table.entry is not found[0])
    return Edit(RuleFile(file.above, kept), f"remove {name}{_for(found[0].group)}")


def forget_group(file: RuleFile, folder: str) -> Edit:
    """Take out everything that is said of one agent group."""
    kept = tuple(table for table in file.tables if table.entry.group != folder)
    return Edit(RuleFile(file.above, kept), f"forget {folder}")


def _name(entry: Rule | Use) -> str:
    return entry.name if isinstance(entry, Rule) else entry.set


def _for(group: str) -> str:
    return f" for {group}" if group else ""


def _gives_way(old: Rule, new: Rule) -> bool:
    return old.group == new.group and breadth(old.host) == breadth(new.host) and covers_rule(new, old)


def _put(tables: tuple[Table, ...], table: Table, rule: Rule) -> tuple[Table, ...]:
    """Put a table after the narrower rules of its group and before the others."""
    own = [
        (place, breadth(old.entry.host))
        for place, old in enumerate(tables)
        if isinstance(old.entry, Rule) and old.entry.group == rule.group
    ]
    last = max((place for place, wide in own if wide < breadth(rule.host)), default=-1)
    place = next((place for place, _ in own if place > last), last + 1 if last >= 0 else len(tables))
    before, after = tables[:place], tables[place:]
    if before and before[-1].lines[-1].strip():
        before = (*before[:-1], Table(before[-1].entry, (*before[-1].lines, "")))
    return (*before, table, *after)
