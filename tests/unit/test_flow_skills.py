"""Skills: which folders are one, and what of them a group's sandboxes get."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nanoclaw.flow.skills import MOST_DEPTH, MOST_FILES, Skill, SkillShelf, make_shelf, read_skill
from tests.unit.office import Office

HEAD = "---\nname: {name}\ndescription: How to {name}.\n---\n\nDo it.\n"
SHIPPED = ["browser", "channel-formatting", "gateway-manners", "self-customize", "welcome", "wiki"]


def make(folder: Path, name: str, text: str = HEAD) -> Path:
    skill = folder / name
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text(text.format(name=name))
    (skill / "scripts" / "do.py").write_text("print('done')\n")
    (skill / "scripts" / "do.py").chmod(0o700)
    return skill


def composed(compose: Path) -> list[str]:
    return sorted(os.listdir(compose / ".claude" / "skills"))


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The product's skills, the operator's, a group's compose folder."""
    for name in ("shipped", "own", "compose"):
        (tmp_path / name).mkdir()
    return tmp_path / "shipped", tmp_path / "own", tmp_path / "compose"


def test_every_skill_of_the_product_can_be_used_and_is_short() -> None:
    skills = make_shelf(Path("/nonexistent")).list()
    assert [(skill.name, skill.fault) for skill in skills] == [(name, "") for name in SHIPPED]
    for skill in skills:
        assert 40 <= len(skill.description) <= 400
        lines = (skill.source / "SKILL.md").read_text().splitlines()
        assert len(lines) <= 120 and max(map(len, lines)) <= 360
        scripts = [path for path, *_ in skill.files if path.startswith("scripts/")]
        assert all(runs for path, _, _, runs in skill.files if path in scripts), "scripts are executable"
        assert all(path in (skill.source / "SKILL.md").read_text() for path in scripts)


def test_all_skills_or_a_chosen_list_are_copied_and_others_removed(places: tuple[Path, Path, Path]) -> None:
    shipped, own, compose = places
    for name in ("one", "two"):
        make(shipped, name)
    make(own, "three")
    shelf = SkillShelf(shipped, own)
    assert shelf.compose(compose, None) == [] and composed(compose) == ["one", "three", "two"]
    assert (compose / ".claude/skills/two/SKILL.md").read_text().endswith("Do it.\n")
    script = compose / ".claude/skills/three/scripts/do.py"
    assert script.stat().st_mode & 0o777 == 0o755, "the box's uid is another one"
    shelf.compose(compose, ("two", "gone"))
    assert composed(compose) == ["two"]
    shelf.compose(compose, ())
    assert composed(compose) == []


def test_a_copy_is_made_anew_only_when_the_skill_has_changed(places: tuple[Path, Path, Path]) -> None:
    shipped, own, compose = places
    source = make(shipped, "one")
    shelf, copy = SkillShelf(shipped, own), compose / ".claude/skills/one"
    shelf.compose(compose, None)
    before = copy.stat().st_ino
    shelf.compose(compose, None)
    assert copy.stat().st_ino == before
    (source / "SKILL.md").write_text(HEAD.format(name="one") + "And again.\n")
    (source / "scripts" / "do.py").unlink()
    shelf.compose(compose, None)
    assert (copy / "SKILL.md").read_text().endswith("And again.\n") and not (copy / "scripts").exists()
    assert os.listdir(compose / ".claude") == ["skills"]


def test_a_skill_of_the_operators_takes_the_place_of_ours(places: tuple[Path, Path, Path]) -> None:
    shipped, own, compose = places
    make(shipped, "one")
    make(own, "one", HEAD + "My way.\n")
    SkillShelf(shipped, own).compose(compose, None)
    assert (compose / ".claude/skills/one/SKILL.md").read_text().endswith("My way.\n")


def test_what_is_begun_and_not_finished_is_not_seen_and_done_again(places: tuple[Path, Path, Path]) -> None:
    shipped, own, compose = places
    make(shipped, "one")
    (compose / ".claude/.one.new/rubbish").mkdir(parents=True)
    (compose / ".claude/skills/one").mkdir(parents=True)
    SkillShelf(shipped, own).compose(compose, None)
    assert sorted(os.listdir(compose / ".claude/skills/one")) == ["SKILL.md", "scripts"]


def link(skill: Path) -> None:
    (skill / "shadow").symlink_to("/etc/shadow")


def link_folder(skill: Path) -> None:
    (skill / "etc").symlink_to("/etc")


def link_head(skill: Path) -> None:
    (skill / "SKILL.md").rename(skill.parent / "elsewhere.md")
    (skill / "SKILL.md").symlink_to(skill.parent / "elsewhere.md")


def pipe(skill: Path) -> None:
    os.mkfifo(skill / "pipe")


def large(skill: Path) -> None:
    with (skill / "big.bin").open("wb") as file:
        file.truncate(3 * 1024 * 1024)


def many(skill: Path) -> None:
    for number in range(MOST_FILES + 1):
        (skill / f"f{number}").touch()


def deep(skill: Path) -> None:
    (skill / "/".join("d" * (MOST_DEPTH + 2))).mkdir(parents=True)


def odd_name(skill: Path) -> None:
    (skill / "a\nb").touch()


def hidden(skill: Path) -> None:
    (skill / ".env").write_text("KEY=x")


def no_head(skill: Path) -> None:
    (skill / "SKILL.md").unlink()


def head(text: str) -> Callable[[Path], object]:
    return lambda skill: (skill / "SKILL.md").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (link, "shadow is a link"),
        (link_folder, "etc is a link"),
        (link_head, "SKILL.md is a link"),
        (pipe, "pipe is a link or no file"),
        (large, "larger than 2 MiB"),
        (many, "more than 200 files"),
        (deep, "deep"),
        (odd_name, "not plain"),
        (hidden, "not plain"),
        (no_head, "no SKILL.md"),
        (head("Do it.\n"), "frontmatter"),
        (head("---\nname: bad\n"), "frontmatter"),
        (head("---\nname: other\ndescription: x\n---\n"), "not that of its folder"),
        (head("---\nname: bad\ndescription: How to: x\n---\n"), "stands in quotes"),
        (head("---\nname: bad\n---\n"), "needs a description"),
        (head("---\nname: bad\ndescription: >\n  x\n---\n"), "needs a description"),
        (head("---\nname: bad\ndescription: a\x1b[2Jb\n---\n"), "needs a description"),
        (lambda skill: (skill / "SKILL.md").write_bytes(b"---\n\xff\n---\n"), "cannot be read"),
    ],
)
def test_a_damaged_skill_is_left_out_with_its_reason_and_stops_no_box(
    places: tuple[Path, Path, Path], spoil: Callable[[Path], object], words: str
) -> None:
    shipped, own, compose = places
    make(shipped, "good")
    spoil(make(own, "bad"))
    (left,) = SkillShelf(shipped, own).compose(compose, None)
    assert left.name == "bad" and words in left.fault, left.fault
    assert composed(compose) == ["good"]


def test_a_skill_that_is_a_link_itself_is_left_out(places: tuple[Path, Path, Path]) -> None:
    shipped, own, compose = places
    make(shipped, "elsewhere")
    (own / "linked").symlink_to(shipped / "elsewhere")
    assert [skill.name for skill in SkillShelf(shipped, own).compose(compose, None)] == ["linked"]


def test_a_file_that_becomes_a_link_after_it_was_looked_at_is_not_followed(places: tuple[Path, Path, Path]) -> None:
    shipped, own, compose = places
    source = make(own, "one")
    read = read_skill(source, own=True)

    class Stale(SkillShelf):
        def list(self) -> list[Skill]:
            return [read]

    (source / "scripts" / "do.py").unlink()
    (source / "scripts" / "do.py").symlink_to("/etc/shadow")
    with pytest.raises(OSError, match=r"symbolic|loop"):
        Stale(shipped, own).compose(compose, None)
    assert composed(compose) == []


def test_ncl_lists_gives_and_takes_skills(tmp_path: Path) -> None:
    make(tmp_path / "skills", "mine")
    link(make(tmp_path / "skills", "broken"))
    office = Office(tmp_path)
    try:
        group = office.row("groups get main")["id"]
        rows = {str(row["skill"]): row for row in office.table("groups config list-skills main")}
        assert sorted(rows) == sorted([*SHIPPED, "mine", "broken"])
        assert rows["mine"]["enabled"] == "yes" and rows["mine"]["from"] == "you"
        assert rows["broken"]["enabled"] == "no" and str(rows["broken"]["description"]).startswith("NOT USED")
        office.ncl("groups config add-skill main --skill wiki --skill mine")
        assert office.after.renew == {group: None}, "its boxes are set up anew"
        assert office.row("groups config get main")["skills"] == "wiki, mine"
        office.ncl("groups config remove-skill main --skill wiki")
        assert office.row("groups config get main")["skills"] == "mine"
        office.ncl("groups config add-skill main --skill all")
        assert office.row("groups config get main")["skills"] == "all"
        office.ncl("groups config remove-skill main --skill browser")
        assert "browser" not in str(office.row("groups config get main")["skills"]).split(", ")
    finally:
        office.close()


def test_ncl_adds_and_removes_mcp_servers(tmp_path: Path) -> None:
    office = Office(tmp_path)
    try:
        group = office.row("groups get main")["id"]
        added = "groups config add-mcp-server main --name weather --command npx --arg=-y --arg @example/weather"
        (row,) = office.table(f"{added} --env UNITS=metric --instructions 'For forecasts.'")
        assert row == {
            "server": "weather",
            "command": "npx -y @example/weather",
            "env": "UNITS=metric",
            "instructions": "For forecasts.",
        }
        assert office.after.renew == {group: None}
        assert office.row("groups config get main")["mcp_servers"] == "weather"
        assert office.table("groups config remove-mcp-server main --name weather") == []
    finally:
        office.close()
