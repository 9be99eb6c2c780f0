"""Generations of rules on disk: what a crash, a broken file or a step back leaves in force."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.policy import Rule
from tests.unit.rule_stand import BY, allow, done, names, opened


def test_revert_points_back_without_rewriting_history(tmp_path: Path) -> None:
    book = opened(tmp_path)
    for host in ("a.org", "b.org", "c.org"):
        done(book.add_words(allow(host), BY))
    files = {path.name: path.read_bytes() for path in (tmp_path / "rules").glob("*.toml")}
    assert done(book.revert(None, BY)).generation == 2
    assert names(opened(tmp_path)) == ["b.org", "a.org"]
    assert done(book.revert(1, BY)).generation == 1
    assert done(book.revert(3, BY)).generation == 3
    assert done(book.revert(0, BY)).generation == 0
    assert opened(tmp_path).rules_for("main") == opened(tmp_path / "new").rules_for("main")
    with pytest.raises(OperatorError, match="no generation before this"):
        done(book.revert(None, BY))
    assert {path.name: path.read_bytes() for path in (tmp_path / "rules").glob("*.toml")} == files
    assert done(book.add_words(allow("d.org"), BY)).generation == 4


def test_a_broken_generation_falls_back_to_the_newest_older_one_and_says_so_with_its_line(tmp_path: Path) -> None:
    book = opened(tmp_path)
    for host in ("a.org", "b.org", "c.org"):
        done(book.add_words(allow(host), BY))
    (tmp_path / "rules/2.toml").write_bytes(b"\xff")
    path = tmp_path / "rules/3.toml"
    path.write_text(path.read_text().replace("host", "hots", 1))
    broken = opened(tmp_path)
    assert (broken.generation, names(broken)) == (1, ["a.org"])
    line = path.read_text().splitlines().index('hots = "c.org"') + 1
    assert f"gateway/rules/3.toml, line {line}: 'hots' is no key" in broken.fault
    assert "gateway/rules/2.toml is no text" in broken.fault
    assert "generation 1 is in force" in broken.fault
    done(broken.add_words(allow("d.org"), BY))
    assert (broken.fault, broken.generation, opened(tmp_path).fault) == ("", 4, "")


def test_with_no_generation_that_parses_the_built_in_rules_are_in_force(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.add_words(allow("a.org"), BY))
    (tmp_path / "rules/1.toml").write_text("no toml")
    broken = opened(tmp_path)
    assert (broken.generation, names(broken)) == (0, [])
    assert "only the built-in rules are in force" in broken.fault


@pytest.mark.parametrize("pointer", ["", "x", "7", "99 of 99", "-1 of 1", "1 of"])
def test_a_pointer_that_says_nothing_is_told_and_the_newest_that_parses_is_in_force(
    tmp_path: Path, pointer: str
) -> None:
    book = opened(tmp_path)
    done(book.add_words(allow("a.org"), BY))
    done(book.add_words(allow("b.org"), BY))
    (tmp_path / "rules/current").write_text(pointer)
    broken = opened(tmp_path)
    assert (broken.generation, names(broken)) == (2, ["b.org", "a.org"])
    assert "generation 2 is in force" in broken.fault


def test_a_rules_folder_that_cannot_be_read_leaves_the_built_in_rules(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("a file")
    book = opened(tmp_path)
    assert "Only the built-in rules are in force" in book.fault
    with pytest.raises(OperatorError, match="gateway/rules"):
        done(book.add_words(allow("a.org"), BY))


def test_killed_anywhere_in_a_change_the_old_or_the_new_rules_are_in_force(tmp_path: Path) -> None:
    """Every file a change writes is tried absent, cut short at every length as its `.new`, and whole."""
    home = tmp_path / "home"
    book = opened(home.parent / "home")
    home.mkdir()
    done(book.add_words(allow("a.org"), BY))
    shutil.copytree(home, tmp_path / "old")
    done(book.add_words(allow("b.org"), BY))
    fresh, pointer = (home / "rules/2.toml").read_bytes(), (home / "rules/current").read_bytes()
    steps: list[dict[str, bytes]] = [{"2.toml.new": fresh[:size]} for size in range(0, len(fresh) + 1, 7)]
    steps += [{"2.toml": fresh}]
    steps += [{"2.toml": fresh, "current.new": pointer[:size]} for size in range(len(pointer) + 1)]
    for number, step in enumerate([{}, *steps, {"2.toml": fresh, "current": pointer}]):
        killed = tmp_path / f"killed{number}"
        shutil.copytree(tmp_path / "old", killed)
        for name, data in step.items():
            (killed / "rules" / name).write_bytes(data)
        after = opened(killed)
        assert (after.fault, names(after)) in [("", ["a.org"]), ("", ["b.org", "a.org"])]
        assert (names(after) == ["b.org", "a.org"]) == ("current" in step)
        done(after.add_words(allow("c.org"), BY))
        assert names(opened(killed))[0] == "c.org"


def test_a_yes_whose_change_a_kill_cut_short_is_carried_out_when_it_comes_again(tmp_path: Path) -> None:
    book = opened(tmp_path)
    done(book.add_words(allow("a.org"), BY))
    pointer = (tmp_path / "rules/current").read_bytes()
    done(book.add(Rule("b.org", "b.org"), "u1", "ap1"))
    (tmp_path / "rules/current").write_bytes(pointer)
    after = opened(tmp_path)
    assert names(after) == ["a.org"]
    assert done(after.add(Rule("b.org", "b.org"), "u1", "ap1")) == 3
    assert names(opened(tmp_path)) == ["b.org", "a.org"]


def test_only_so_many_generations_are_kept_and_the_one_in_force_is_among_them(tmp_path: Path) -> None:
    book = opened(tmp_path)
    folder = tmp_path / "rules"
    done(book.add_words(allow("a.org"), BY))
    for number in range(2, 260):
        shutil.copy(folder / "1.toml", folder / f"{number}.toml")
    assert done(book.add_words(allow("b.org"), BY)).generation == 260
    assert len(list(folder.glob("*.toml"))) == 200
    assert names(opened(tmp_path)) == ["b.org", "a.org"]
