"""`ncl approvals approve|deny`: the operator answers a question that was put to people."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence

import msgspec

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.channels.base import ClickAnswer
from nanoclaw.domain.card import Option
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.approvals import Answer, Approvals

DENIALS = ("deny", "reject")
FOR_GOOD = ("deny_for_good", "reject")

# The operator's answer: (approval, value, text). The same one flow as for a button in a chat.
Decide = Callable[[sqlite3.Connection, tuple[str, str, str], Aftermath, int], ClickAnswer]


class ApprovalsResource:
    """Answers of the operator, who counts as an owner."""

    def __init__(self, parts: Parts, decide: Decide) -> None:
        self._parts = parts
        self._decide = decide

    def actions(self) -> Mapping[str, Action]:
        """Return what carries out each verb."""
        return {"approvals approve": self.approve, "approvals deny": self.deny}

    def approve(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Say yes."""
        approval, options = self._load(connection, call)
        return self._answer(connection, call, (approval, choose_yes(options, call.find("option"))), after)

    def deny(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Say no."""
        approval, options = self._load(connection, call)
        values = [option.value for option in options]
        wanted = FOR_GOOD if call.flag("for-good") else DENIALS
        value = next((value for value in wanted if value in values), None)
        if value is None:
            raise Refused(f"That is not one of its answers. It has: {_describe(options)}.")
        return self._answer(connection, call, (approval, value), after)

    def _load(self, connection: sqlite3.Connection, call: Call) -> tuple[str, list[Option]]:
        shown = self._parts.lists.show(connection, "approvals", self._parts.id_of(connection, call, "approvals", "id"))
        row = dict(zip(shown.columns, shown.rows[0], strict=True))
        return str(row["id"]), msgspec.json.decode(str(row["options"]), type=list[Option])

    def _answer(self, connection: sqlite3.Connection, call: Call, chosen: tuple[str, str], after: Aftermath) -> Table:
        approval, value = chosen
        answer = self._decide(connection, (approval, value, call.text("text")), after, call.now)
        if not answer.taken:
            raise Refused(answer.words)
        return one_row(id=approval, answer=value, words=answer.words)


def choose_yes(options: Sequence[Option], wanted: str | None) -> str:
    """Return the value of the option that is meant, by number, value or label. Raises Refused with what there is."""
    if wanted is None:
        ways = [option for option in options if option.value not in (*DENIALS, *FOR_GOOD)]
        if len(ways) == 1:
            return ways[0].value
        raise Refused(f"There is more than one way to say yes. Which? --option, one of: {_describe(options)}.")
    for number, option in enumerate(options, 1):
        if wanted in (str(number), option.value) or wanted.casefold() == option.label.casefold():
            return option.value
    raise Refused(f"That is not one of its answers. It has: {_describe(options)}.")


def _describe(options: Sequence[Option]) -> str:
    return ", ".join(f"{number} ({option.label})" for number, option in enumerate(options, 1))


def by_operator(approvals: Approvals) -> Decide:
    """Return how the operator answers: who sits at the admin socket counts as an owner."""

    def decide(connection: sqlite3.Connection, chosen: tuple[str, str, str], after: Aftermath, now: int) -> ClickAnswer:
        approval, value, text = chosen
        return approvals.decide(connection, Answer(approval, value, None, text, operator=True), after, now)

    return decide
