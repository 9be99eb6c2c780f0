"""Every probe over every wall, compared with what docs/reference/wall.json says; and walls weak on purpose.

    NANOCLAW_WALL_WRITE=1 ./nanoclaw.sh test --ci tests/wall/test_wall.py    write what was seen into that file
    .venv/bin/python docs/reference/generate.py                              make docs/reference/wall.md of it

A verdict that is worse than the written one fails; one that is better asks for the file to be written anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nanoclaw.sandbox.interpreter import find_interpreter
from tests.engine import Engine
from tests.wall.probes.run import every_probe
from tests.wall.test_as_normal_user import REPOSITORY, copy_for_a_normal_user, readable, run_as_a_normal_user

__all__ = ["readable"]  # the fixture

WRITTEN = REPOSITORY / "docs/reference/wall.json"
WRITES = os.environ.get("NANOCLAW_WALL_WRITE") == "1"
PROBES = 120
RUN_SECONDS = 240
ROOT, USER, RUNC, RUNSC = "bubblewrap, host is root", "bubblewrap, normal user", "docker runc", "docker runsc"
WALLS = (ROOT, USER, RUNC, RUNSC)
RANK = {"held": 0, "contained": 1, "broken": 2, "error": 3}
Told = dict[str, list[str]]  # probe -> verdict, what was seen

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="plants secrets of root and drops to other users: sudo pytest")


def run_walls(into: Path, *words: str) -> Told:
    """Run the program of walls.py here."""
    command = [sys.executable, "-m", "tests.wall.walls", str(into), *words]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=RUN_SECONDS)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(into.read_text())


def written() -> dict[str, Any]:
    return json.loads(WRITTEN.read_text()) if WRITTEN.exists() else {"probes": {}, "walls": {}, "weak": {}}


def write_down(part: str, wall: str, told: Told) -> None:
    """Put one wall's verdicts into the file; what is held needs no words."""
    with (REPOSITORY / "docs/reference/generate.py").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        page = written()
        page["probes"] = {each.name: [family, each.tries, each.kernel] for family, each in every_probe()}
        page[part][wall] = {
            name: [verdict, "" if verdict == "held" else seen] for name, (verdict, seen) in told.items()
        }
        page["walls"] = {wall: page["walls"][wall] for wall in WALLS if wall in page["walls"]}
        WRITTEN.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def compare(wall: str, told: Told) -> None:
    """Fail where a verdict is worse than the written one, or better and not written yet."""
    if WRITES:
        write_down("walls", wall, told)
    known: Told = written()["walls"].get(wall, {})
    worse = [f"{n}: {told[n]}" for n in told if RANK[told[n][0]] > RANK[known.get(n, ["held"])[0]]]
    assert not worse, f"{wall} is worse than docs/reference/wall.md says: {worse}"
    assert set(told) == {each.name for _, each in every_probe()}
    better = [n for n in told if n in known and RANK[told[n][0]] < RANK[known[n][0]]]
    if better:
        print(f"{wall} is better than written, write it anew: {better}")


def test_there_are_more_than_enough_probes_each_with_a_name_of_its_own() -> None:
    names = [each.name for _, each in every_probe()]
    assert len(names) >= PROBES
    assert len(names) == len(set(names))
    assert all(each.tries for _, each in every_probe())


def test_nothing_gets_through_the_wall_that_this_user_builds(tmp_path: Path) -> None:
    """Every probe but those of resources, in one box: the short form of what the ci tier does."""
    told = run_walls(tmp_path / "told", "--only", "all")
    through = {name: seen for name, seen in told.items() if seen[0] not in ("held", "contained")}
    assert not through
    assert len(told) >= PROBES


@pytest.mark.ci  # fifteen boxes, one of which waits for the disk's watchdog
@is_root
def test_bubblewrap_holds_under_a_host_that_is_root(tmp_path: Path) -> None:
    compare(ROOT, run_walls(tmp_path / "told"))


@pytest.mark.ci  # the same, and a copy of the product for another user
@is_root
def test_bubblewrap_holds_under_a_host_that_is_a_normal_user(readable: Path) -> None:
    if find_interpreter().prefix is not None:
        pytest.skip("there is no Python 3.11 in /usr that another uid could read: install python3")
    scratch = copy_for_a_normal_user(readable)
    ran = run_as_a_normal_user(readable, "tests.wall.walls", str(scratch / "told"))
    assert ran.returncode == 0, ran.stderr[-3000:]
    compare(USER, json.loads((scratch / "told").read_text()))


@pytest.mark.ci  # an engine, and sixteen containers for each of its runtimes
@is_root
@pytest.mark.parametrize(("wall", "runtime"), [(RUNC, "docker:runc"), (RUNSC, "docker:runsc")])
def test_containers_hold_what_the_page_says(engine: Engine, tmp_path: Path, wall: str, runtime: str) -> None:
    if shutil.which(runtime.partition(":")[2]) is None:
        pytest.skip(f"{runtime} is not installed: apt install {runtime.partition(':')[2]}")
    words = ("--wall", runtime, "--engine", str(engine.socket), "--image", engine.image)
    compare(wall, run_walls(tmp_path / "told", *words))


@pytest.mark.ci  # half a minute: six weak walls, one of them none at all
@is_root
def test_probes_say_broken_where_a_wall_is_weak_on_purpose(tmp_path: Path) -> None:
    told = run_walls(tmp_path / "told", "--wall", "weak")
    if WRITES:
        write_down("weak", "weak", told)
    shown = {name for name, (verdict, _) in told.items() if verdict == "broken"}
    known = {name for name, (verdict, _) in written()["weak"]["weak"].items() if verdict == "broken"}
    assert not known - shown, "these probes failed over a weak wall before, and hold now: they see nothing any more"
    families = {family for family, each in every_probe() if each.name in shown}
    assert families == {family for family, _ in every_probe()}
    assert len(shown) >= PROBES


def test_the_page_of_the_wall_knows_every_probe_and_every_wall() -> None:
    page = written()
    probes = {each.name: [family, each.tries, each.kernel] for family, each in every_probe()}
    assert page["probes"] == probes, "run: NANOCLAW_WALL_WRITE=1 ./nanoclaw.sh test --ci tests/wall/test_wall.py"
    assert tuple(page["walls"]) == WALLS
    for wall, told in page["walls"].items():
        assert set(told) == set(probes), wall
        assert not [name for name in told if told[name][0] == "error"], wall
