"""No box before its wall was tried: once for a set-up and boot, again after each change, and what fails refuses."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nanoclaw.admin.call import OPERATOR, check_request
from nanoclaw.admin.words import parse_words
from nanoclaw.domain.group import BoxLimits
from nanoclaw.domain.limits import Limits
from nanoclaw.domain.session import SessionId
from nanoclaw.errors import StoreFull
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.proof import Asked, Prover, decide_hash, describe_failure, find_builders, find_grounds
from nanoclaw.sandbox.prove import LIMIT_MEANINGS, MEANINGS, Finding, Proof, Result
from nanoclaw.sandbox.runtimes.base import Runtime
from nanoclaw.sandbox.spec import Mount, SandboxSpec
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.proofs import KEPT, ProofOf
from nanoclaw.testing.scripted_runtime import ScriptedRuntime
from tests.flow.test_limits_path import limit
from tests.flow.world import Home, open_world

HOME = Path("/home/alice/.nanoclaw")
SPEC = SandboxSpec(
    (Mount(HOME / "groups/main", "/workspace", writable=True), Mount(Path("/srv/photos"), "/extra/photos")),
    {"/etc/passwd": b""}, {"PATH": "/bin"}, Limits(), ("/usr/bin/python3",), "/workspace", 1000, "agent",
)  # fmt: skip


@dataclass
class ScriptedTrials:
    """A wall with the holes it is told."""

    holes: list[str] = field(default_factory=list[str])
    limit_holes: list[str] = field(default_factory=list[str])
    tried: list[str] = field(default_factory=list[str])
    held_back: asyncio.Event | None = None
    errors: list[Exception] = field(default_factory=list[Exception])

    async def wall(self, runtime: Runtime, spec: SandboxSpec, group: AgentGroup) -> Proof:
        self.tried.append("wall")
        if self.errors:
            raise self.errors.pop()
        if self.held_back is not None:
            await self.held_back.wait()
        return proof_of(MEANINGS, self.holes)

    async def limits(self, runtime: Runtime, spec: SandboxSpec) -> Proof:
        self.tried.append("limits")
        return proof_of(LIMIT_MEANINGS, self.limit_holes)


def proof_of(names: dict[str, str], holes: list[str]) -> Proof:
    return Proof(tuple(Result(name, Finding.FAILED if name in holes else Finding.HELD) for name in names), 7)


def home_with(path: Path, trials: ScriptedTrials) -> Home:
    return Home(path, trials=trials)


async def test_a_wall_is_tried_before_the_first_box_and_kept_with_the_session(tmp_path: Path) -> None:
    trials = ScriptedTrials()
    async with open_world(home_with(tmp_path, trials)) as world:
        chat = await world.chat()
        await chat.says("hi")
        await chat.hears("you said: hi")
        await world.quiet()
        assert trials.tried == ["limits", "wall"]
        ((passed, took, results),) = await world.rows(
            "SELECT p.passed, p.took_ms, p.results FROM sessions s JOIN sandbox_proofs p ON p.id = s.proof_id"
        )
        assert (passed, took) == (1, 7)
        assert {result["name"] for result in json.loads(results)} == set(MEANINGS)


async def test_a_session_shows_what_its_wall_holds(tmp_path: Path) -> None:
    async with open_world(home_with(tmp_path, ScriptedTrials())) as world:
        chat = await world.chat()
        await chat.says("hi")
        await chat.hears("you said: hi")
        await world.quiet()
        ((session,),) = await world.rows("SELECT id FROM sessions")
        typed = parse_words(["sessions", "get", session])
        assert not isinstance(typed, str)
        call = check_request(typed.request, OPERATOR, world.clock.now_ms())
        table = await world.store.write(lambda connection: world.desk.run(connection, call, Aftermath()))
        row = dict(zip(table.columns, table.rows[0], strict=True))
        assert (row["wall"], row["wall_by"], row["wall_took_ms"]) == ("held", "scripted", 7)
        assert row["wall_tried_at"]
        assert "host-files held, planted-secret held" in str(row["canaries"])
        assert "memory held" in str(row["wall_limits"])


async def test_what_was_proved_in_this_boot_is_not_tried_again_by_a_new_host(tmp_path: Path) -> None:
    trials = ScriptedTrials()
    home = home_with(tmp_path, trials)
    async with open_world(home) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
    async with open_world(home) as world:
        await world.recover()
        chat = await world.chat()
        await chat.says("two")
        await world.until(lambda: "you said: two" in chat.heard)
        assert trials.tried == ["limits", "wall"]
        await world.change("UPDATE sandbox_proofs SET boot = 'an earlier one'")
    async with open_world(home) as world:
        await world.recover()
        chat = await world.chat()
        await chat.says("three")
        await world.until(lambda: "you said: three" in chat.heard)
        assert trials.tried == ["limits", "wall"] * 2


async def test_a_changed_set_up_is_tried_again_and_its_limits_are_not(tmp_path: Path) -> None:
    trials = ScriptedTrials()
    async with open_world(home_with(tmp_path, trials)) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        await limit(world, BoxLimits(memory_mb=4096))
        await world.quiet()
        await chat.says("two")
        await chat.hears("you said: one", "you said: two")
        assert trials.tried == ["limits", "wall", "wall"]


async def test_two_chats_of_one_assistant_that_start_together_prove_once(tmp_path: Path) -> None:
    trials = ScriptedTrials(held_back=asyncio.Event())
    async with open_world(home_with(tmp_path, trials)) as world:
        one, two = await world.chat("one"), await world.chat("two")
        await one.says("hi")
        await two.says("ho")
        await world.until(lambda: "wall" in trials.tried)
        assert not world.boxes
        assert trials.held_back is not None
        trials.held_back.set()
        await one.hears("you said: hi")
        await two.hears("you said: ho")
        assert trials.tried == ["limits", "wall"]


async def test_a_canary_that_got_through_starts_no_box_and_the_chat_is_told_which(tmp_path: Path) -> None:
    trials = ScriptedTrials(holes=["host-files", "dns"])
    async with open_world(home_with(tmp_path, trials)) as world:
        chat = await world.chat()
        await chat.says("hi")
        await world.quiet()
        await world.after(5.1)
        await world.after(20.1)
        assert not world.boxes
        (words,) = chat.heard
        assert "the agent could read this machine's own files (host-files), and 1 more" in words
        assert "nanoclaw doctor --prove" in words
        assert trials.tried.count("wall") == 3
        entries = await world.rows("SELECT verdict, reason FROM audit WHERE event = 'sandbox.not_proved'")
        assert entries[0] == ("refused", "scripted: host-files, dns")
        ((passed,),) = await world.rows("SELECT p.passed FROM sessions s JOIN sandbox_proofs p ON p.id = s.proof_id")
        assert passed == 0


async def test_a_limit_that_nothing_keeps_starts_no_box(tmp_path: Path) -> None:
    trials = ScriptedTrials(limit_holes=["memory"])
    async with open_world(home_with(tmp_path, trials)) as world:
        chat = await world.chat()
        await chat.says("hi")
        await world.quiet()
        assert not world.boxes
        assert "nothing bounds the agent's memory" in world.log_lines.getvalue()
        trials.limit_holes.clear()  # as after a reboot that gave the host its cgroups
        await world.after(5.1)
        await chat.hears("you said: hi")


async def test_a_set_up_that_comes_back_after_many_others_is_known_or_tried_again(tmp_path: Path) -> None:
    trials = ScriptedTrials()
    async with open_world(home_with(tmp_path, trials)) as world:
        chat = await world.chat()
        heard: list[str] = []
        for number, memory in enumerate((4096, *range(1024, 1024 + KEPT), 4096, 4096)):
            await limit(world, BoxLimits(memory_mb=memory))
            await world.quiet()
            await chat.says(str(number))
            heard.append(f"you said: {number}")
            await chat.hears(*heard)
            await world.quiet()
            ((proof,),) = await world.rows("SELECT proof_id FROM sessions")
            assert (proof,) in await world.rows("SELECT id FROM sandbox_proofs")
        assert trials.tried.count("wall") == KEPT + 2


async def test_only_the_newest_proofs_of_a_group_are_kept_and_a_failure_is_no_pass(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        ((group,),) = await world.rows("SELECT id FROM agent_groups")
        of = ProofOf(group, "bubblewrap", "hash", "boot")
        proofs = world.tables.proofs
        for at in range(KEPT + 5):
            await world.store.write(lambda c, at=at: proofs.add(c, of, (True, "[]"), 1, at))
        assert await world.rows("SELECT count(*), min(proved_at) FROM sandbox_proofs") == [(KEPT, 5)]
        assert await world.store.read(lambda c: proofs.find_passed(c, of)) is not None
        await world.store.write(lambda c: proofs.add(c, of, (False, "[]"), 1, 99))
        assert await world.store.read(lambda c: proofs.find_passed(c, of)) is None


@pytest.mark.parametrize(
    "changed",
    [
        replace(SPEC, mounts=(*SPEC.mounts, Mount(Path("/srv/more"), "/extra/more"))),
        replace(SPEC, mounts=(SPEC.mounts[0], Mount(Path("/srv/other"), "/extra/photos"))),
        replace(SPEC, mounts=(SPEC.mounts[0], Mount(Path("/srv/photos"), "/extra/photos", writable=True))),
        replace(SPEC, env={"PATH": "/bin", "MORE": ""}),
        replace(SPEC, limits=Limits(processes=7)),
        replace(SPEC, command=("/opt/python/bin/python3",)),
        replace(SPEC, image="nanoclaw-7"),
        replace(SPEC, host_uid=0),
        replace(SPEC, ports=()),
        replace(SPEC, files={}),
    ],
)
def test_whatever_could_open_a_wall_needs_a_new_proof(changed: SandboxSpec) -> None:
    assert decide_hash(changed, HOME) != decide_hash(SPEC, HOME)


def test_another_set_of_packages_needs_a_new_proof() -> None:
    first, second = (
        replace(SPEC, mounts=(*SPEC.mounts, Mount(HOME / "pkgs/main" / name, "/opt/pkgs"))) for name in ("1", "2")
    )
    assert decide_hash(first, HOME) != decide_hash(second, HOME)


async def test_a_disk_that_fills_during_a_start_leaves_no_session_half_started(tmp_path: Path) -> None:
    trials = ScriptedTrials(errors=[StoreFull("no room")])
    async with open_world(home_with(tmp_path, trials)) as world:
        chat = await world.chat()
        await chat.says("hi")
        await world.until(lambda: "wall" in trials.tried)
        await world.quiet()
        assert await world.rows("SELECT run_state FROM sessions") == [("over",)]


def test_another_session_of_the_same_group_needs_none() -> None:
    other = replace(SPEC, mounts=(Mount(HOME / "groups/other", "/workspace", writable=True), SPEC.mounts[1]))
    assert decide_hash(other, HOME) == decide_hash(SPEC, HOME)


def test_a_failure_is_told_in_words_short_enough_for_a_chat() -> None:
    for name in (*MEANINGS, *LIMIT_MEANINGS):
        words = describe_failure(
            Proof((Result(name, Finding.FAILED, "x" * 200), *proof_of(MEANINGS, list(MEANINGS)).results), 1)
        )
        assert len(words) < 230
    silent = tuple(Result(name, Finding.FAILED, "it gave no answer") for name in MEANINGS)
    assert "gave no answer" in describe_failure(Proof(silent, 1))


async def test_grounds_are_the_hosts_own_files_and_the_other_groups(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        config = world.means.config
        for name in ("main", "other"):
            (config.paths.home / "groups" / name).mkdir(exist_ok=True)
        grounds = find_grounds(config, "main")
        assert config.paths.database in grounds.paths
        assert grounds.groups == (config.paths.workspace("other"),)
        assert config.paths.admin_socket in grounds.sockets


def test_what_builds_walls_is_part_of_what_was_proved(tmp_path: Path) -> None:
    (tmp_path / "launch.py").write_text("drop_to(uid)\n")
    before = find_builders(tmp_path)
    assert find_builders(tmp_path) == before
    (tmp_path / "launch.py").write_text("pass\n")
    assert find_builders(tmp_path) != before
    assert decide_hash(SPEC, HOME, before) != decide_hash(SPEC, HOME, find_builders(tmp_path))


class Docker(ScriptedRuntime):
    """A scripted runtime of another name."""

    @property
    def name(self) -> str:
        return "docker"


class HangingEngine(ScriptedTrials):
    """An engine that does not answer while its limits are tried."""

    async def limits(self, runtime: Runtime, spec: SandboxSpec) -> Proof:
        if runtime.name == "docker":
            self.tried.append("docker")
            await asyncio.Event().wait()
        return await super().limits(runtime, spec)


async def test_an_engine_that_hangs_in_its_proof_holds_up_no_box_of_another_runtime(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        ((id_,),) = await world.rows("SELECT id FROM agent_groups")
        asked = Asked(await world.store.read(lambda c: world.tables.groups.get(c, id_)), SessionId("S"))
        trials = HangingEngine()
        prover = Prover(world.means, trials)
        hanging = asyncio.create_task(prover.prove(asked, Docker(world.means.spawn), SPEC))
        await world.until(lambda: "docker" in trials.tried)
        async with asyncio.timeout(5):
            await prover.prove(asked, ScriptedRuntime(world.means.spawn), SPEC)
        hanging.cancel()


async def test_a_wall_and_its_limits_are_tried_again_when_what_builds_them_has_changed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        ((id_,),) = await world.rows("SELECT id FROM agent_groups")
        asked = Asked(await world.store.read(lambda c: world.tables.groups.get(c, id_)), SessionId("S"))
        trials, runtime = ScriptedTrials(), ScriptedRuntime(world.means.spawn)
        for builders in ("before", "before", "after a git pull"):
            prover = Prover(world.means, trials)  # as a host that was started anew
            prover._builders = builders
            await prover.prove(asked, runtime, SPEC)
        assert sorted(trials.tried) == ["limits", "limits", "wall", "wall"]
