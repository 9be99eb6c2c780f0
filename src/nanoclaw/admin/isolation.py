"""The question behind every wiring: may anything said in one chat come up in another? Asked on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import click
import msgspec

from nanoclaw.admin.ask import ask
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Table
from nanoclaw.channels.plain_text import one_line
from nanoclaw.config import Paths
from nanoclaw.domain.wiring import SessionMode

AskName = Callable[[], str]
DECIDING = ("session-mode", "new-group")  # with one of these nothing is asked
SAME_CONVERSATION, SAME_AGENT, SEPARATE = "1", "2", "3"
QUESTION = """\
May anything that is said in {chat} come up in another chat of {agent}?

  1  Yes, they are one conversation: {agent} answers in each knowing what was said in the other.
  2  In a way: conversations of their own, but one memory and one folder. What {agent} notes down in one, it can
     use in the other.
  3  No: {chat} gets an assistant of its own, with a memory, a folder and a sandbox of its own. They share nothing;
     a folder for both would be an explicit mount, which cannot be made yet.
"""


@dataclass(frozen=True, slots=True)
class Advice:
    """What is recommended, and why."""

    answer: str
    why: str


def decide_advice(*, is_group: bool, direct_chats: int, other_chats: int) -> Advice:
    """Recommend a level. The counts are of the chats that wake the assistant already."""
    if direct_chats + other_chats == 0:
        return Advice(SAME_AGENT, "no other chat wakes it yet")
    if is_group and direct_chats:
        return Advice(SEPARATE, "others write here, and could learn what was said to it in a direct chat")
    if is_group:
        return Advice(SAME_AGENT, "each group keeps its own conversation")
    return Advice(SAME_AGENT, "your own chats may share what it remembers of you")


def ask_isolation(paths: Paths, request: Request) -> Request:
    """Return a `wirings create` with the answer in it; without a terminal, or with the answer given, as it is."""
    if any(name in request.flags for name in DECIDING) or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return request
    chat = _row(ask(paths, Request("messaging-groups", "get", str(request.flags.get("chat", ""))))[0])
    group = request.flags.get("group")
    if group is None:
        groups = ask(paths, Request("groups", "list"))[0]
        if len(groups.rows) != 1:
            return request  # the host says which there are
        group = str(_row(groups)["folder"])
    agent = _row(ask(paths, Request("groups", "get", str(group)))[0])
    wirings = ask(paths, Request("wirings", "list", flags={"group": str(agent["id"])}))[0]
    chats = [_row_of(wirings, row)["messaging_group_id"] for row in wirings.rows]
    direct = [one for one in chats if not _row(ask(paths, Request("messaging-groups", "get", str(one)))[0])["is_group"]]
    advice = decide_advice(
        is_group=bool(chat["is_group"]), direct_chats=len(direct), other_chats=len(chats) - len(direct)
    )
    name = one_line(str(chat["name"] or chat["platform_id"]), 60)
    click.echo(QUESTION.format(chat=name, agent=one_line(str(agent["name"]), 60)), err=True)
    click.echo(f"Recommended: {advice.answer}, for {advice.why}.", err=True)
    answers = click.Choice([SAME_CONVERSATION, SAME_AGENT, SEPARATE])
    answer = click.prompt("Which", type=answers, default=advice.answer, err=True)
    return apply_answer(request, str(group), answer, lambda: click.prompt("Its name", err=True))


def apply_answer(request: Request, group: str, answer: str, ask_name: AskName) -> Request:
    """Return the request with what an answer means."""
    flags = {name: value for name, value in request.flags.items() if name != "group"}
    match answer:
        case "1":
            flags |= {"group": group, "session-mode": SessionMode.AGENT_SHARED.value}
        case "3":
            flags |= {"new-group": ask_name()}
        case _:
            flags |= {"group": group, "session-mode": SessionMode.SHARED.value}
    return msgspec.structs.replace(request, flags=flags)


def _row(table: Table) -> dict[str, str | int | bool | None]:
    return _row_of(table, table.rows[0])


def _row_of(table: Table, row: tuple[str | int | bool | None, ...]) -> dict[str, str | int | bool | None]:
    return dict(zip(table.columns, row, strict=True))
