"""`ncl groups config add-skill|remove-skill|list-skills`: what an assistant may look up how to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.resources.parts import ConfigChange, Parts
from nanoclaw.admin.table import Table
from nanoclaw.channels.plain_text import one_line
from nanoclaw.domain.group import GroupConfig
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.skills import Skill, SkillShelf

ALL = "all"  # in place of a name: whatever there is, also what comes later
SHOWN = 100
COLUMNS = ("skill", "enabled", "from", "description")


class GroupSkills:
    """The skills of agent groups."""

    def __init__(self, parts: Parts, shelf: SkillShelf) -> None:
        self._parts = parts
        self._shelf = shelf

    def reads(self) -> Mapping[str, Action]:
        """Return what shows them."""
        return {"groups config list-skills": self.list}

    def writes(self) -> Mapping[str, Action]:
        """Return what changes them."""
        return {"groups config add-skill": self.add, "groups config remove-skill": self.remove}

    def list(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Show every skill there is, and whether this assistant has it."""
        group = self._parts.find.group(connection, call.asker, call.text("id"), archived=True)
        chosen = self._parts.tables.groups.config(connection, group.id).skills
        skills = self._shelf.list()
        rows = [_row(skill, chosen is None or skill.name in chosen) for skill in skills]
        gone = sorted(set(chosen or ()) - {skill.name for skill in skills})
        rows += [(name, "no", "-", "It was chosen, but is not there any more.") for name in gone]
        return Table(COLUMNS, tuple(rows))

    def add(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Give it skills beside those it has; one that had all has then these alone."""
        names = call.many("skill")
        if ALL in names:
            return self._change(connection, call, after, lambda config: replace(config, skills=None))
        skills = {skill.name: skill for skill in self._shelf.list()}
        for name in names:
            if name not in skills:
                raise Refused(f"There is no skill {one_line(name, 64)!r}. There is: {', '.join(skills) or 'none'}.")
            if skills[name].fault:
                raise Refused(f"The skill {name} cannot be used: {skills[name].fault}.")

        def change(config: GroupConfig) -> GroupConfig:
            return replace(config, skills=tuple(dict.fromkeys((*(config.skills or ()), *names))))

        return self._change(connection, call, after, change)

    def remove(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Take skills from it; one that had all has then the others."""
        names = call.many("skill")

        def change(config: GroupConfig) -> GroupConfig:
            there = (skill.name for skill in self._shelf.list() if not skill.fault)
            present = tuple(there) if config.skills is None else config.skills
            if unknown := [name for name in names if name not in present and name != ALL]:
                raise Refused(f"It has no skill {one_line(unknown[0], 64)!r}. It has: {', '.join(present) or 'none'}.")
            return replace(config, skills=() if ALL in names else tuple(n for n in present if n not in names))

        return self._change(connection, call, after, change)

    def _change(self, connection: sqlite3.Connection, call: Call, after: Aftermath, change: ConfigChange) -> Table:
        self._parts.configure(connection, call, after, change, "skills")
        return self.list(connection, call, after)


def _row(skill: Skill, chosen: bool) -> tuple[str, str, str, str]:
    words = f"NOT USED: {skill.fault}" if skill.fault else skill.description
    enabled = "yes" if chosen and not skill.fault else "no"
    return skill.name, enabled, "you" if skill.own else "nanoclaw", one_line(words, SHOWN)
