"""What every sandbox runtime must do (sandbox/runtimes/base.py); a bench says how its boxes are made to behave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

from nanoclaw.contract.mailbox import ALIVE, OUT
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.base import Box, BoxExit, BoxLabel, ExitReason, Runtime
from nanoclaw.testing.contracts.proof import DEADLINE_SECONDS, eventually, expect

GRACE_SECONDS = 10.0
SHORT_GRACE_SECONDS = 0.2
END_SECONDS = 5.0  # for a box that is killed to be gone
CODE = 7
WORDS = "bye"


class Part(StrEnum):
    """What the command of a box does. Each first leaves the sign that `has_run` looks for."""

    WAITS = "waits"  # rings OUT, then waits until it is asked to stop, and ends with 0
    STUBBORN = "stubborn"  # rings OUT, then goes on whatever it is asked
    ENDS = "ends"  # says WORDS on stderr and ends with CODE
    RINGS = "rings"  # rings ALIVE faster than anybody listens, then OUT once, and ends with 0 at once
    ANSWERS = "answers"  # rings OUT at its start and at each doorbell, until it is asked to stop


class RuntimeBench(Protocol):
    """A runtime, and what a suite needs beside it."""

    @property
    def runtime(self) -> Runtime:
        """The runtime; the suite may close it."""
        ...

    @property
    def ports(self) -> int:
        """How many listeners a box of `start` has."""
        ...

    def label(self) -> BoxLabel:
        """Return a label of this bench's install that no box had before."""
        ...

    async def start(self, part: Part, label: BoxLabel) -> Box:
        """Start a held box whose command plays this part."""
        ...

    async def start_impossible(self, label: BoxLabel) -> Box:
        """Try to start a box that cannot be built here."""
        ...

    def has_run(self, box: Box) -> bool:
        """Return whether anything of the box's command has run."""
        ...

    def left(self) -> list[str]:
        """Name everything of this install that is there now: processes, records, limits."""
        ...

    async def strand(self, install: str) -> Callable[[], bool] | None:
        """Leave a box behind as a killed host does; return how to see that it lives. None where none can outlive it."""
        ...


Behaviour = Callable[[RuntimeBench], Awaitable[None]]


async def a_box_is_held_until_its_release(bench: RuntimeBench) -> None:
    """Neither time nor a doorbell starts it."""
    box = await bench.start(Part.ENDS, bench.label())
    box.ring()
    await asyncio.sleep(0.02)  # nothing to wait for: it must not happen
    expect(not bench.has_run(box), "a held box ran before its release")
    box.release()
    ended = await over(box)
    expect(bench.has_run(box), "a released box did not run")
    expect((ended.code, ended.reason) == (CODE, ExitReason.EXITED), "the exit is not the command's own", ended)
    expect(WORDS in ended.stderr_tail, "the last words on stderr are lost", ended)


async def a_held_box_can_be_stopped_and_killed_and_never_runs(bench: RuntimeBench) -> None:
    """The host may change its mind; a release that comes too late is nothing."""
    stopped, killed = await bench.start(Part.WAITS, bench.label()), await bench.start(Part.WAITS, bench.label())
    async with asyncio.timeout(END_SECONDS):
        ended = await stopped.stop(GRACE_SECONDS)
    expect(ended.reason in (ExitReason.STOPPED, ExitReason.KILLED), "a stopped box has another reason", ended)
    killed.kill()
    expect((await over(killed)).reason is ExitReason.KILLED, "a killed box has another reason")
    for box in (stopped, killed):
        box.release()
        expect(not bench.has_run(box), "a box that was never released ran")
    expect(not bench.left(), "something is left of a held box", bench.left())


async def a_box_keeps_its_label_and_has_a_pid(bench: RuntimeBench) -> None:
    """Before its release, and after its end."""
    labels = [bench.label(), bench.label()]
    boxes = [await bench.start(Part.WAITS, label) for label in labels]
    expect([box.label for box in boxes] == labels, "a box has not the label it was started with")
    expect(all(box.pid > 1 for box in boxes), "a box has no pid", [box.pid for box in boxes])
    expect(boxes[0].pid != boxes[1].pid, "two boxes have the same pid")
    for box in boxes:
        box.kill()
        await over(box)
    expect([box.label for box in boxes] == labels, "a box that is over has lost its label")


async def listeners_are_there_before_the_release_and_closed_after_the_end(bench: RuntimeBench) -> None:
    """The gateway is given them before the box can call; the box closes its own."""
    box = await bench.start(Part.WAITS, bench.label())
    listeners = list(box.listeners)
    expect(len(listeners) == bench.ports, f"not {bench.ports} listeners", listeners)
    for listener in listeners:
        expect(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1, "a socket does not listen", listener)
    box.release()
    await first_bell(box)
    await box.stop(GRACE_SECONDS)
    expect(all(listener.fileno() == -1 for listener in listeners), "a listener is open after the end", listeners)


async def doorbells_ring_both_ways(bench: RuntimeBench) -> None:
    """Each ring of the host is heard, when the last has been."""
    box = await bench.start(Part.ANSWERS, bench.label())
    box.release()
    heard = 0
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for bell in box.bells():
            heard += bell == OUT
            if heard == 4:
                break
            box.ring()
    expect(heard == 4, "the bells ended before the box did", heard)
    expect((await box.stop(GRACE_SECONDS)).reason is ExitReason.STOPPED, "a box that was asked has another reason")


async def bells_may_merge_but_never_vanish_at_the_end(bench: RuntimeBench) -> None:
    """What a box rang just before it ended is heard, even by whoever listens only then; then the bells end."""
    box = await bench.start(Part.RINGS, bench.label())
    box.release()
    await over(box)
    heard = await all_bells(box)
    expect(set(heard) == {ALIVE, OUT}, "a bell vanished, or came that was not rung", heard)
    expect(not await all_bells(box), "the bells of a box that is over ring again")


async def ring_never_fails_also_when_the_box_is_gone(bench: RuntimeBench) -> None:
    """Nor does it block when nobody answers."""
    box = await bench.start(Part.STUBBORN, bench.label())
    box.ring()
    box.release()
    await first_bell(box)
    for _ in range(70_000):  # more than a pipe holds
        box.ring()
    box.kill()
    box.ring()
    await over(box)
    box.ring()


async def many_may_wait_and_all_hear_the_same(bench: RuntimeBench) -> None:
    """Whoever asks later hears it too; one who gives up takes nothing from the others."""
    box = await bench.start(Part.ENDS, bench.label())
    async with asyncio.TaskGroup() as group:
        impatient = group.create_task(box.wait())
        waiting = [group.create_task(box.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        impatient.cancel()
        box.release()
    exits = {(task.result().code, task.result().reason) for task in waiting}
    expect(exits == {(CODE, ExitReason.EXITED)}, "not all who waited heard the same", exits)
    last = await box.stop(GRACE_SECONDS)
    box.kill()
    expect((last.code, last.reason) == (CODE, ExitReason.EXITED), "a stop after the end changed it", last)
    expect((await over(box)).reason is ExitReason.EXITED, "a kill after the end changed it")


async def a_box_that_is_asked_ends_within_its_grace(bench: RuntimeBench) -> None:
    """With its own exit code, and nothing of it left."""
    box = await bench.start(Part.WAITS, bench.label())
    box.release()
    await first_bell(box)
    ended = await box.stop(GRACE_SECONDS)
    expect((ended.code, ended.reason) == (0, ExitReason.STOPPED), "a polite box did not end as it was asked", ended)
    expect(not bench.left(), "something is left of a box that was stopped", bench.left())


async def a_box_that_will_not_go_is_killed_after_its_grace(bench: RuntimeBench) -> None:
    """Not before, and not much later."""
    box = await bench.start(Part.STUBBORN, bench.label())
    box.release()
    await first_bell(box)
    loop = asyncio.get_running_loop()
    began = loop.time()
    ended = await box.stop(SHORT_GRACE_SECONDS)
    took = loop.time() - began
    expect(ended.reason is ExitReason.KILLED and ended.code != 0, "a stubborn box was not killed", ended)
    expect(SHORT_GRACE_SECONDS * 0.9 <= took < SHORT_GRACE_SECONDS + END_SECONDS, "not after its grace", took)
    expect(not bench.left(), "something is left of a box that was killed", bench.left())


async def a_kill_says_its_reason(bench: RuntimeBench) -> None:
    """As the watchdog of the disk gives one."""
    box = await bench.start(Part.STUBBORN, bench.label())
    box.release()
    await first_bell(box)
    box.kill(ExitReason.DISK)
    async with asyncio.timeout(END_SECONDS):
        ended = await box.wait()
    expect(ended.reason is ExitReason.DISK and ended.code != 0, "the reason of a kill is lost", ended)


async def a_start_that_fails_leaves_nothing(bench: RuntimeBench) -> None:
    """And its label can be used again."""
    label = bench.label()
    try:
        box = await bench.start_impossible(label)
    except SandboxError as error:
        expect(str(error).strip(), "a start that failed does not say why")
    else:
        box.kill()
        expect(False, "a box that cannot be built was started")
    expect(not bench.left(), "something is left of a start that failed", bench.left())
    again = await bench.start(Part.WAITS, label)
    again.kill()
    await over(again)


async def a_start_that_is_cancelled_leaves_nothing(bench: RuntimeBench) -> None:
    """At whatever moment."""
    loop = asyncio.get_running_loop()
    boxes: list[Box] = []

    async def start() -> None:
        boxes.append(await bench.start(Part.WAITS, bench.label()))

    async with asyncio.TaskGroup() as group:
        for milliseconds in (0, 1, 5, 15):
            task = group.create_task(start())
            loop.call_later(milliseconds / 1000, task.cancel)
    for box in boxes:  # was quicker than its cancel
        box.kill()
    await eventually(lambda: not bench.left(), "something is left of a start that was cancelled")


async def orphans_are_ended_only_of_this_install(bench: RuntimeBench) -> None:
    """What lives is left alone, and so is what another install left behind."""
    live, held = await bench.start(Part.WAITS, bench.label()), await bench.start(Part.WAITS, bench.label())
    live.release()
    await first_bell(live)
    install = live.label.install
    ours, foreign = await bench.strand(install), await bench.strand("another1")
    ended = await bench.runtime.end_orphans(install)
    expect(ended == (ours is not None), "not as many orphans were ended as there are", ended)
    expect(ours is None or not ours(), "an orphan of this install still lives")
    expect(foreign is None or foreign(), "an orphan of another install was ended")
    expect(await bench.runtime.end_orphans(install) == 0, "an orphan was ended twice")
    expect((await live.stop(GRACE_SECONDS)).reason is ExitReason.STOPPED, "a box that was no orphan was ended")
    held.release()
    await first_bell(held)
    held.kill()
    await over(held)


async def a_runtime_that_is_closed_leaves_nothing(bench: RuntimeBench) -> None:
    """What is held, what runs and what will not stop are gone when `close` returns; twice is once."""
    boxes = [await bench.start(part, bench.label()) for part in (Part.WAITS, Part.WAITS, Part.STUBBORN)]
    for box in boxes[1:]:
        box.release()
        await first_bell(box)
    async with asyncio.timeout(2 * END_SECONDS):
        await bench.runtime.close()
    expect(not bench.left(), "something is left after `close`", bench.left())
    async with asyncio.timeout(END_SECONDS):
        expect({(await box.wait()).reason for box in boxes} == {ExitReason.KILLED}, "a box does not know its end")
        await bench.runtime.close()


async def over(box: Box) -> BoxExit:
    """Wait for the end of a box that is to end."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await box.wait()


async def first_bell(box: Box) -> None:
    """Wait until the box has rung: its command is at work."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for bell in box.bells():
            if bell == OUT:
                return
    expect(False, "a box ended before it rang")


async def all_bells(box: Box) -> list[bytes]:
    """Return the bells until they end."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [bell async for bell in box.bells()]


BEHAVIOURS: tuple[Behaviour, ...] = (
    a_box_is_held_until_its_release,
    a_held_box_can_be_stopped_and_killed_and_never_runs,
    a_box_keeps_its_label_and_has_a_pid,
    listeners_are_there_before_the_release_and_closed_after_the_end,
    doorbells_ring_both_ways,
    bells_may_merge_but_never_vanish_at_the_end,
    ring_never_fails_also_when_the_box_is_gone,
    many_may_wait_and_all_hear_the_same,
    a_box_that_is_asked_ends_within_its_grace,
    a_box_that_will_not_go_is_killed_after_its_grace,
    a_kill_says_its_reason,
    a_start_that_fails_leaves_nothing,
    a_start_that_is_cancelled_leaves_nothing,
    orphans_are_ended_only_of_this_install,
    a_runtime_that_is_closed_leaves_nothing,
)
