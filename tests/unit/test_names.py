"""What an agent may be called, and the folder a name becomes: no name leads out of the home, or looks like another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.domain.names import FOLDER, MOST_CHARACTERS, RESERVED, check_agent_name, check_folder, decide_folder
from nanoclaw.errors import Refused


@pytest.mark.parametrize(
    "name", ["Andy", "Zoë", "研究者", "R2-D2", "🤖", "👩‍💻 helper", "a/b", "../etc", "C++", "x" * 64]
)
def test_a_name_for_people_may_be_in_any_script_and_hold_emoji_and_slashes(name: str) -> None:
    assert check_agent_name(f"  {name} ") == name


@pytest.mark.parametrize(
    "name",
    ["", "   ", "x" * 65, "x" * 10_000, "a\nb", "a\0b", "\x1b[31mred", "...", "-- --", "/", "a\u202eb", "An\u200ddy",
     "\u200d", "a\u200d", "\ud800", "a\u2028b"],
)  # fmt: skip
def test_a_name_that_is_empty_long_unseen_or_only_punctuation_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        check_agent_name(name)


@pytest.mark.parametrize("folder", ["main", "a", "0", "a-b_c", "x" * 64])
def test_a_plain_folder_is_taken_as_it_is(folder: str) -> None:
    assert check_folder(folder) == folder


@pytest.mark.parametrize(
    "folder",
    ["", ".", "..", "../x", "a/b", "/etc", "A", "-a", "_a", "a b", "a\n", "a\0", "é", "🤖", "x" * 65, "x" * 10_000,
     *sorted(RESERVED)],
)  # fmt: skip
def test_a_folder_that_could_lead_elsewhere_or_is_reserved_is_refused(folder: str) -> None:
    with pytest.raises(Refused):
        check_folder(folder)


@pytest.mark.parametrize(
    ("name", "taken", "folder"),
    [
        ("Andy", (), "andy"),
        ("Zoë's Bot", (), "zoe-s-bot"),
        ("🤖", (), "agent"),
        ("../../etc/passwd", (), "etc-passwd"),
        ("Andy", ("andy",), "andy-2"),
        ("Andy", ("andy", "andy-2"), "andy-3"),
        ("global", (), "global-2"),
        ("x" * 64, ("x" * 64,), "x" * 62 + "-2"),
    ],
)
def test_a_folder_is_made_from_the_name_and_numbered_when_it_is_taken(
    name: str, taken: tuple[str, ...], folder: str
) -> None:
    assert decide_folder(name, taken) == folder


@given(st.text(max_size=10_000), st.sets(st.sampled_from(["agent", "agent-2", "a", "b", "0"])))
def test_whatever_the_name_its_folder_is_plain_and_free(name: str, taken: set[str]) -> None:
    folder = decide_folder(name, taken)
    assert check_folder(folder) == folder and folder not in taken and FOLDER.fullmatch(folder)


@given(st.text(max_size=300))
def test_what_is_taken_as_a_name_is_taken_again_unchanged(name: str) -> None:
    try:
        kept = check_agent_name(name)
    except Refused:
        return
    assert check_agent_name(kept) == kept and 1 <= len(kept) <= MOST_CHARACTERS and "\n" not in kept
