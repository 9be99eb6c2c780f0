"""Limits of boxes: sizes as people write them, ranges, and what a group has in place of the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.domain.group import BoxLimits
from nanoclaw.domain.limits import (
    GIB,
    MIB,
    RANGES,
    Limits,
    decide_limits,
    parse_limit,
    show_size,
    show_used,
)
from nanoclaw.errors import Refused
from tests.unit.office import Office

REFUSED = ["", "4", "4GG", "-4G", "4 G G", "4e3M", "0.001G", "G", "4K", "١G", "4G\n", "1,5G", "nan", "9999999G"]


def test_a_group_without_limits_of_its_own_has_the_defaults() -> None:
    assert decide_limits(Limits(), BoxLimits()) == Limits()


def test_each_limit_of_a_group_stands_in_place_of_the_default() -> None:
    own = BoxLimits(memory_mb=4096, processes=300, disk_mb=10240, cpus=1.5, open_files=999, tmp_mb=512, turn_minutes=90)
    assert decide_limits(Limits(), own) == Limits(
        memory_bytes=4 * GIB, processes=300, open_files=999, file_bytes=4 * GIB, tmp_bytes=512 * MIB, cpu_cores=1.5,
        disk_bytes=10 * GIB, turn_seconds=5400.0,
    )  # fmt: skip


def test_no_file_may_be_larger_than_the_whole_workspace() -> None:
    assert decide_limits(Limits(), BoxLimits(disk_mb=64)).file_bytes == 64 * MIB


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("memory", "4G", 4096), ("memory", "1.5g", 1536), ("disk", "2 TiB", 2 * 1024 * 1024), ("tmp", "512MB", 512),
     ("cpus", "1.5", 1.5), ("cpus", "2", 2.0), ("pids", "300", 300), ("turn-minutes", "90", 90)],
)  # fmt: skip
def test_sizes_and_numbers_are_read_as_people_write_them(name: str, text: str, value: float) -> None:
    assert parse_limit(name, text) == value


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_size_is_refused_with_an_example_and_the_range(text: str) -> None:
    with pytest.raises(ValueError, match="from 256 MB to 1 TB"):
        parse_limit("memory", text)


@pytest.mark.parametrize(
    ("name", "text"),
    [("memory", "255M"), ("memory", "2T"), ("pids", "31"), ("cpus", "0.05"), ("turn-minutes", "0"), ("disk", "63M"),
     ("open-files", "255"), ("tmp", "15M"), ("pids", "1.5"), ("cpus", "1e3"), ("pids", "-300")],
)  # fmt: skip
def test_what_is_out_of_range_is_refused_with_the_range(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(RANGES[name].words)):
        parse_limit(name, text)


@given(st.text(max_size=12), st.sampled_from(sorted(RANGES)))
def test_whatever_is_written_it_is_in_range_or_refused(text: str, name: str) -> None:
    try:
        value = parse_limit(name, text)
    except ValueError:
        return
    assert RANGES[name].least <= value <= RANGES[name].most


def test_sizes_are_shown_for_people() -> None:
    assert [show_size(n) for n in (2 * GIB, 1536 * MIB, 256 * MIB, 1024 * GIB, 1)] == [
        "2 GB", "1.5 GB", "256 MB", "1 TB", "1 MB",
    ]  # fmt: skip
    assert show_used(5 * GIB + 200 * MIB, 5 * GIB) == "5.2 of 5.0 GB"
    assert show_used(70 * MIB, 64 * MIB) == "70.0 of 64.0 MB"


@contextmanager
def office(home: Path) -> Iterator[Office]:
    opened = Office(home)
    try:
        yield opened
    finally:
        opened.close()


def facts(office: Office, words: str) -> dict[str, object]:
    table = office.ncl(words)
    return dict(zip(table.columns, table.rows[0], strict=True))


def test_limits_are_set_shown_and_taken_back_and_the_boxes_are_set_up_anew(tmp_path: Path) -> None:
    with office(tmp_path) as desk:
        before = facts(desk, "groups config get main")
        assert (before["memory"], before["pids"], before["disk"]) == (
            "2 GB (default)",
            "512 (default)",
            "5 GB (default)",
        )
        changed = facts(desk, "groups config update main --memory 4G --cpus 1.5 --turn-minutes 90 --open-files 9999")
        assert len(desk.after.renew) == 1
        assert (changed["memory"], changed["cpus"], changed["turn_minutes"]) == ("4 GB", "1.5", "90")
        assert (changed["open_files"], changed["tmp"]) == ("9999", "256 MB (default)")
        assert facts(desk, "groups config update main --memory default")["memory"] == "2 GB (default)"
        assert facts(desk, "groups config get main")["cpus"] == "1.5"


def test_a_limit_that_is_refused_changes_nothing_and_the_words_name_option_and_range(tmp_path: Path) -> None:
    with office(tmp_path) as desk:
        with pytest.raises(Refused, match=r"--memory: 4 is|--memory: '4' is not a size.*from 256 MB to 1 TB.*default"):
            desk.ncl("groups config update main --pids 300 --memory 4")
        assert facts(desk, "groups config get main")["pids"] == "512 (default)"


def test_a_change_of_something_else_sets_no_box_up_anew(tmp_path: Path) -> None:
    with office(tmp_path) as desk:
        desk.ncl("groups config update main --memory 3G")
        desk.ncl("groups config update main --instructions hello")
        assert not desk.after.renew
