"""Many boxes: fifty at once that all answer, and five hundred begun and ended in every way; nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nanoclaw.contract.message import ChatIn, RunSettings, to_json
from nanoclaw.errors import MailboxBusy
from nanoclaw.sandbox.inbound import InboundRow, RunRow
from nanoclaw.sandbox.mailbox import Mailbox, create_mailbox
from nanoclaw.sandbox.mounts import remove_tree
from nanoclaw.sandbox.runtimes.base import BoxExit, BoxLabel, ExitReason
from nanoclaw.sandbox.runtimes.process import ProcessBox
from nanoclaw.sandbox.spec import build_spec
from nanoclaw.sandbox.wire import OutChat
from tests.runner_process import SETTINGS
from tests.wall.conftest import BOX_UID, Wall, cgroups_of, open_descriptors

pytestmark = [
    pytest.mark.ci,  # 50 boxes at once and 500 starts: a minute of two cores
    pytest.mark.blocks_loop(
        "fifty starts at once on two cores: each blocks for a millisecond, and the machine for more"
    ),
]

AT_ONCE = 50
STARTS = 500
SIDE_BY_SIDE = 10
ANSWER_SECONDS = 60.0
WAITS = "import os, sys; os.write(1, b'o'); sys.stdin.read()"


@dataclass(frozen=True)
class Left:
    """What a host has of boxes: all of it must be as before when they are over."""

    descriptors: int
    children: tuple[int, ...]
    mounts: int
    cgroups: int
    folders: tuple[str, ...]


def look(wall: Wall) -> Left:
    return Left(
        descriptors=len(open_descriptors()),
        children=tuple(sorted(pid for pid in children_of(os.getpid()))),
        mounts=Path("/proc/self/mountinfo").read_text().count(str(wall.root)),
        cgroups=sum(1 for top in cgroups_of(wall.install) for _ in top.iterdir() if _.is_dir()),
        folders=tuple(sorted(path.name for path in (wall.root / "boxes").glob("*"))),
    )


def children_of(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def mailbox_of(wall: Wall, number: int) -> Mailbox:
    """A mailbox with one message that waits."""
    settings: RunSettings = replace(SETTINGS, workspace="/workspace", home="/home/agent")
    run = RunRow(1, f"01MANY{number}", to_json(settings))
    mailbox = create_mailbox(wall.root / f"run-{number}", run, BOX_UID, BOX_UID if os.geteuid() == 0 else -1)
    chat = ChatIn(text=f"hello {number}", sender="Alice", sender_id="alice", origin="family", sent_at=0)
    mailbox.project([InboundRow(2, f"row-{number}", 1, "chat", trigger=True, content=to_json(chat))])
    return mailbox


async def start_runner(wall: Wall, mailbox: Mailbox, number: int) -> ProcessBox:
    """A released box with the real runner over this mailbox."""
    inputs = replace(
        wall.inputs,
        in_directory=mailbox.in_directory,
        outbound_db=mailbox.outbound_db,
        outbound_journal=mailbox.outbound_journal,
        outbox=mailbox.outbox,
    )
    box = await wall.runtime.start(build_spec(inputs), BoxLabel(f"01MANY{number}", 1, wall.install))
    box.release()
    return box


async def hear(box: ProcessBox, mailbox: Mailbox) -> str:
    """The first thing its agent says."""
    async with asyncio.timeout(ANSWER_SECONDS):
        async for _ in box.bells():
            with suppress(MailboxBusy):
                out = await asyncio.to_thread(mailbox.read, 0, 0)
                texts = [message.body.text for message in out.messages if isinstance(message.body, OutChat)]
                if texts:
                    return texts[0]
    raise AssertionError(f"box {box.label.session} ended without an answer: {await box.wait()}")


async def test_fifty_boxes_at_once_all_answer_and_leave_nothing(wall: Wall) -> None:
    await wall.run("pass")  # the helper that makes listeners stays
    before = look(wall)
    mailboxes = [mailbox_of(wall, number) for number in range(AT_ONCE)]
    async with asyncio.TaskGroup() as group:
        starts = [group.create_task(start_runner(wall, box, number)) for number, box in enumerate(mailboxes)]
    boxes = [start.result() for start in starts]
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(hear(*pair)) for pair in zip(boxes, mailboxes, strict=True)]
    assert [answer.result() for answer in answers] == [f"hello {number}" for number in range(AT_ONCE)]
    labels = await wall.runtime.list_boxes(wall.install)
    assert {label.session for label in labels} == {f"01MANY{number}" for number in range(AT_ONCE)}
    async with asyncio.TaskGroup() as group:
        ends = [group.create_task(box.stop(20)) for box in boxes]
    assert {(end.result().code, end.result().reason) for end in ends} == {(0, ExitReason.STOPPED)}
    for mailbox in mailboxes:
        remove_tree(mailbox.directory)
    assert look(wall) == before


async def begin_and_end(wall: Wall, number: int) -> BoxExit:
    """One box, ended in one of seven ways."""
    spec = wall.spec("pass" if number % 7 == 0 else WAITS)
    box = await wall.runtime.start(spec, BoxLabel(f"01END{number}", 1, wall.install))
    how = number % 7
    if how == 1:  # never released
        box.kill()
        return await box.wait()
    box.release()
    if how == 0:  # by itself
        return await box.wait()
    if how == 2:  # before it has begun
        box.kill()
        return await box.wait()
    async for _ in box.bells():  # it runs
        break
    if how == 3:
        return await box.stop(10)
    if how == 4:
        os.kill(box.pid, signal.SIGKILL)
    elif how == 5:
        os.kill(box.monitor_pid, signal.SIGKILL)
    else:
        box.kill()
    return await box.wait()


async def test_of_five_hundred_starts_and_stops_nothing_is_left(wall: Wall) -> None:
    await wall.run("pass")
    before = look(wall)
    waiting = iter(range(STARTS))
    ended: list[tuple[int, BoxExit]] = []

    async def work() -> None:
        for number in waiting:
            ended.append((number % 7, await begin_and_end(wall, number)))

    async with asyncio.timeout(80), asyncio.TaskGroup() as group:
        for _ in range(SIDE_BY_SIDE):
            group.create_task(work())
    assert len(ended) == STARTS
    assert {end.code for how, end in ended if how in (0, 3)} == {0}
    assert {end.reason for how, end in ended if how in (1, 2, 6)} == {ExitReason.KILLED}
    assert {end.code for how, end in ended if how == 5} == {128 + signal.SIGKILL}
    assert look(wall) == before
    assert not await wall.runtime.list_boxes(wall.install)
