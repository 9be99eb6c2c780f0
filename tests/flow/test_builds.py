"""Builds of packages: queued, built one by one, swapped in whole or not at all, and told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nanoclaw.domain.group import BuildState, Packages
from nanoclaw.domain.packages import PackageChange, parse_packages
from nanoclaw.errors import Refused, StoreFull
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.builds import BuildOrder, Builds, cut_detail, request_build
from nanoclaw.sandbox.packages import BuildFailed, BuiltSet, Wanted
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.world import Home, World, open_world


@dataclass
class Workshop:
    """Builds as a script says."""

    script: list[Callable[[Wanted], Awaitable[BuiltSet]]] = field(default_factory=list)
    built: list[Packages] = field(default_factory=list)
    kept: list[frozenset[str]] = field(default_factory=list)
    at_work: int = 0
    kind: str = "set-"

    def owns(self, name: str) -> bool:
        return name.startswith(self.kind)

    async def build(self, wanted: Wanted) -> BuiltSet:
        self.at_work += 1
        assert self.at_work == 1, "two builds at once"
        self.built.append(wanted.packages)
        try:
            return await self.script.pop(0)(wanted) if self.script else BuiltSet(f"set-{len(self.built)}")
        finally:
            self.at_work -= 1

    async def remove_unused(self, group: str, used: frozenset[str]) -> None:
        self.kept.append(used)


def builds_of(world: World, workshop: Workshop, slow_seconds: float = 3.0) -> Builds:
    builds = Builds(world.means, world.live, lambda _: workshop, slow_seconds)
    builds.carry = world.carrier.carry
    return builds


async def order(world: World, **change: Packages) -> str:
    """Order for the only group, on behalf of its newest session's agent."""

    def ask(connection: object) -> tuple[str, Aftermath]:
        after, (group,) = Aftermath(), world.tables.groups.list_all(connection)  # type: ignore[arg-type]
        sessions = world.tables.sessions.list_of_group(connection, group.id)  # type: ignore[arg-type]
        wanted = BuildOrder(group.id, sessions[-1].id if sessions else None, PackageChange(**change), None)
        return request_build(connection, world.tables, wanted, after, world.clock.now_ms()), after  # type: ignore[arg-type]

    words, after = await world.store.write(ask)
    assert after.build is ("built now" in words)
    return words


async def state(world: World) -> tuple[str, ...]:
    return (await world.rows("SELECT packages_apt, packages_pip, packages_set FROM container_configs"))[0]


async def ready(world: World) -> None:
    chat = await world.chat("family")
    world.script.replies("hello")
    await chat.says("hi")
    await chat.hears("hello")
    await world.quiet()


class NoRoom(Builds):
    """Finds the disk full at each look."""

    looks = 0

    async def look(self) -> bool:
        self.looks += 1
        raise StoreFull("no room")


async def test_a_full_disk_is_not_asked_without_a_pause(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        builds = NoRoom(world.means, world.live, lambda _: Workshop())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await builds.run(asyncio.Event())
        assert builds.looks == 1


async def test_a_build_is_swapped_in_and_the_next_box_and_the_agent_know(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        workshop = Workshop()
        await ready(world)
        heard: list[str] = []

        async def listens(turn: BoxTurn) -> None:
            heard.extend(row.content for row in turn.rows)
            turn.finish("thanks")

        world.script.then(listens)
        await order(world, add=parse_packages(apt=["jq"]))
        assert await builds_of(world, workshop).look()
        await world.until(lambda: len(heard) > 0)
        await world.quiet()
        assert await state(world) == ('["jq"]', "[]", "set-1")
        assert len(world.boxes) == 2, "the group got no new box"
        assert "Installed in this sandbox now: apt: jq" in heard[0]
        assert await world.rows("SELECT state FROM package_builds") == [("done",)]
        assert [run.packages_set for run in world.live] == ["set-1"]


async def test_builds_are_made_one_by_one_and_each_is_of_the_whole_set(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        workshop = Workshop()
        builds = builds_of(world, workshop)
        await order(world, add=parse_packages(apt=["jq"]))
        await order(world, add=parse_packages(pip=["six"]))
        assert [await builds.look() for _ in range(3)] == [True, True, False]
        assert workshop.built == [Packages(apt=("jq",)), Packages(apt=("jq",), pip=("six",))]
        await order(world, remove=Packages(apt=("jq",), pip=("six",)))
        assert await builds.look()
        assert await state(world) == ("[]", "[]", ""), "an empty set needs no build"
        assert len(workshop.built) == 2


async def test_a_build_that_fails_keeps_the_old_set_and_says_why(tmp_path: Path) -> None:
    async def fails(wanted: Wanted) -> BuiltSet:
        raise BuildFailed("there is no apt package \x1b]0;owned\x07jqq.")

    async with open_world(Home(tmp_path)) as world:
        await ready(world)
        builds = builds_of(world, workshop := Workshop())
        await order(world, add=parse_packages(apt=["jq"]))
        await builds.look()
        workshop.script.append(fails)
        await order(world, add=parse_packages(apt=["jqq"]))
        await builds.look()
        assert await state(world) == ('["jq"]', "[]", "set-1")
        (detail,) = (await world.rows("SELECT detail FROM package_builds WHERE state = 'failed'"))[0]
        assert "there is no apt package" in detail
        assert "\x1b" not in detail
        notes = await world.rows("SELECT content FROM inbox WHERE kind = 'system' ORDER BY seq")
        assert "Nothing changed; installed is apt: jq" in notes[-1][0]


async def test_a_host_killed_in_mid_build_builds_it_again(tmp_path: Path) -> None:
    async def hangs(wanted: Wanted) -> BuiltSet:
        await asyncio.Event().wait()
        raise AssertionError

    home, workshop = Home(tmp_path), Workshop()
    workshop.script.append(hangs)
    async with open_world(home) as world:
        await order(world, add=parse_packages(apt=["jq"]))
        world.spawn(builds_of(world, workshop).run(asyncio.Event()), "run builds")
        await world.until(lambda: workshop.at_work == 1)
        assert await world.rows("SELECT state FROM package_builds") == [("building",)]
    async with open_world(home) as world:
        assert await state(world) == ("[]", "[]", "")
        assert await builds_of(world, workshop).look()
        assert await state(world) == ('["jq"]', "[]", "set-2")


async def test_a_host_killed_between_build_and_swap_builds_it_again(tmp_path: Path) -> None:
    home, workshop = Home(tmp_path), Workshop()
    async with open_world(home, crash_at="build.made") as world:
        await order(world, add=parse_packages(apt=["jq"]))
        world.spawn(builds_of(world, workshop).run(asyncio.Event()), "run builds")
        await world.until(lambda: world.dead)
    async with open_world(home) as world:
        assert await builds_of(world, workshop).look()
        assert await state(world) == ('["jq"]', "[]", "set-2")


async def test_a_slow_build_is_announced_in_the_chat(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def slow(wanted: Wanted) -> BuiltSet:
        await go_on.wait()
        return BuiltSet("slow")

    async with open_world(Home(tmp_path)) as world:
        await ready(world)
        world.script.replies("thanks")
        builds = builds_of(world, Workshop([slow]), slow_seconds=0.01)
        await order(world, add=parse_packages(apt=["jq"]))
        world.spawn(builds.run(asyncio.Event()), "run builds")
        chat = await world.chat("family")
        await world.until(lambda: "Installing apt: jq. This may take some minutes." in chat.heard)
        go_on.set()
        await world.until(lambda: chat.heard[-1] == "thanks")


async def test_old_sets_are_removed_later_and_never_one_in_use(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        builds = builds_of(world, workshop := Workshop())
        await order(world, add=parse_packages(apt=["jq"]))
        await builds.look()
        await builds.tidy()
        assert workshop.kept == [], "a start that was under way may still use the old one"
        world.clock.advance(61)
        await builds.tidy()
        assert workshop.kept == [frozenset({"set-1"})]


async def test_what_cannot_be_ordered_is_refused(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        with pytest.raises(Refused, match="Not installed: rg"):
            await order(world, remove=Packages(apt=("rg",)))
        for number in range(5):
            await order(world, add=parse_packages(apt=[f"p{number}"]))
        with pytest.raises(Refused, match="5 builds"):
            await order(world, add=parse_packages(apt=["jq"]))


async def test_what_is_there_already_is_not_built_again(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        builds = builds_of(world, Workshop())
        await order(world, add=parse_packages(apt=["jq"]))
        await builds.look()
        assert "installed already" in await order(world, add=parse_packages(apt=["jq"]))


def test_only_the_end_of_a_long_log_is_kept_and_it_obeys_nobody() -> None:
    said = cut_detail("x" * 100_000 + "\n\x1b[2Jlast words")
    assert len(said) <= 1500
    assert said.endswith("last words")
    assert "\x1b" not in said


async def test_a_group_whose_runtime_was_changed_gets_its_packages_built_anew_once(tmp_path: Path) -> None:
    async def other(wanted: Wanted) -> BuiltSet:
        return BuiltSet("other-1")

    async with open_world(Home(tmp_path)) as world:
        builds = builds_of(world, workshop := Workshop())
        await order(world, add=parse_packages(apt=["jq"]))
        await builds.look()
        workshop.kind = "other-"
        workshop.script.append(other)
        world.clock.advance(61)
        await builds.tidy()
        await builds.tidy()
        assert [await builds.look(), await builds.look()] == [True, False]
        assert await state(world) == ('["jq"]', "[]", "other-1")


async def test_a_build_for_which_there_is_no_room_any_more_fails_and_says_so(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        workshop = Workshop()
        builds = builds_of(world, workshop)
        for first in (0, 40):  # each has room as it is ordered; both have not
            await order(world, add=parse_packages(pip=[f"p{number}" for number in range(first, first + 40)]))
        assert await builds.look() and await builds.look()
        assert await world.rows("SELECT state FROM package_builds ORDER BY id") == [("done",), ("failed",)]
        ((detail,),) = await world.rows("SELECT detail FROM package_builds WHERE state = 'failed'")
        assert "At most 60 pip packages" in detail
        assert len(workshop.built) == 1


async def test_what_a_waiting_build_will_remove_is_not_said_to_be_installed(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        builds = builds_of(world, Workshop())
        await order(world, add=parse_packages(apt=["jq"]))
        assert await builds.look()
        await order(world, remove=Packages(apt=("jq",)))
        assert "built now" in await order(world, add=parse_packages(apt=["jq"]))
        assert await builds.look() and await builds.look()
        assert (await state(world))[0] == '["jq"]'


async def test_a_fault_of_ours_in_a_build_fails_that_build_alone(tmp_path: Path) -> None:
    async def breaks(wanted: Wanted) -> BuiltSet:
        raise KeyError(wanted.group)

    async with open_world(Home(tmp_path)) as world:
        await world.chat("family")
        builds = builds_of(world, workshop := Workshop([breaks]))
        await order(world, add=parse_packages(pip=["six"]))
        assert await builds.look()
        assert not await builds.look()
        (group,) = await world.store.read(world.tables.groups.list_all)
        (build,) = await world.store.read(lambda c: world.tables.builds.list_of(c, group.id))
        assert (str(build.state), "KeyError" in build.detail, len(workshop.built)) == ("failed", True, 1)


async def test_old_builds_are_forgotten_but_the_newest_that_was_done(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        await world.chat("family")
        (group,) = await world.store.read(world.tables.groups.list_all)
        builds = world.tables.builds

        def fill(connection: sqlite3.Connection) -> list[str]:
            made = [builds.add(connection, (group.id, None), PackageChange(), None, now).id for now in range(6)]
            for now, build in enumerate(made):
                builds.begin(connection, build)
                builds.end(connection, build, BuildState.DONE if now == 0 else BuildState.FAILED, "", now)
            assert builds.prune(connection, group.id, most=2) == 3
            return [made[index] for index in (5, 4, 0)]

        left = await world.store.write(fill)
        assert [build.id for build in await world.store.read(lambda c: builds.list_of(c, group.id))] == left
