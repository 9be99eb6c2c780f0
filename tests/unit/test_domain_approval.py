"""Answers by typing: exactly an option, of the one question that stands last in the chat; with its code always."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.domain.approval import (
    APPROVE,
    DENY,
    ApprovalKind,
    ApprovalState,
    OpenCard,
    Typed,
    Unclear,
    decide_answer,
    decide_end_state,
    decide_typed,
)
from nanoclaw.domain.card import Card, Option, card_from_json, card_to_json, one_line, render_card
from nanoclaw.domain.people import Standing
from nanoclaw.domain.verdict import Allow

NAMED = Option("new_agent", "New assistant", takes_text=True)
YES_NO = OpenCard("A", "k3", (APPROVE, DENY), mine=True, latest=True)
CHOICE = OpenCard("B", "m7", (Option("r", "Red wine"), NAMED), mine=True, latest=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "approve"), ("2", "deny"), (" 1 ", "approve"), ("yes", "approve"), ("No", "deny"), ("APPROVE", "approve"),
        ("Deny", "deny"), ("k3 1", "approve"), ("K3 yes", "approve"), ("k3  2", "deny"),
    ],
)  # fmt: skip
def test_what_is_exactly_an_answer_is_one(text: str, value: str) -> None:
    assert decide_typed(text, [YES_NO]) == Typed("A", value)


@pytest.mark.parametrize(
    "text",
    [
        "", "yes please", "1 more", "3", "0", "11", "one", "k3", "k3 maybe", "k4 1", "k31", "approve it", "1.", "①",
        "\u0662", "y" * 300,
    ],
)  # fmt: skip
def test_anything_else_is_a_message(text: str) -> None:
    assert decide_typed(text, [YES_NO]) is None


def test_an_option_that_takes_words_takes_them_after_its_number_and_only_with_the_code() -> None:
    assert decide_typed("m7 2 Flora the second", [CHOICE]) == Typed("B", "new_agent", "Flora the second")
    assert decide_typed("2", [CHOICE]) == Typed("B", "new_agent")
    assert decide_typed("2 apples please", [CHOICE]) is None
    assert decide_typed("red wine", [CHOICE]) == Typed("B", "r")
    assert isinstance(decide_typed("m7 9", [CHOICE]), Unclear)


def test_with_two_questions_a_bare_answer_names_the_codes() -> None:
    unclear = decide_typed("1", [YES_NO, CHOICE])
    assert isinstance(unclear, Unclear) and "`k3 1` or `m7 1`" in unclear.words
    assert decide_typed("m7 1", [YES_NO, CHOICE]) == Typed("B", "r")


def test_after_other_words_a_yes_is_talk_and_a_number_is_asked_about() -> None:
    earlier = OpenCard("A", "k3", (APPROVE, DENY), mine=True, latest=False)
    assert decide_typed("yes", [earlier]) is None
    assert isinstance(decide_typed("1", [earlier]), Unclear)
    assert decide_typed("k3 1", [earlier]) == Typed("A", "approve")


def test_a_card_for_somebody_else_is_answered_by_its_code_alone() -> None:
    theirs = OpenCard("A", "k3", (APPROVE, DENY), mine=False, latest=True)
    assert decide_typed("1", [theirs]) is None and decide_typed("k3 1", [theirs]) == Typed("A", "approve")


@given(st.text(max_size=30), st.booleans(), st.booleans())
def test_no_text_breaks_it_and_what_it_returns_is_an_option(text: str, mine: bool, latest: bool) -> None:
    card = OpenCard("A", "k3", (APPROVE, DENY, NAMED), mine, latest)
    found = decide_typed(text, [card])
    if isinstance(found, Typed):
        assert found.value in {"approve", "deny", "new_agent"}
        assert (mine and latest) or text.strip().casefold().startswith("k3 ")


@pytest.mark.parametrize("standing", list(Standing))
def test_approvers_and_the_asked_person_may_answer_and_nobody_else(standing: Standing) -> None:
    allowed = standing in (Standing.OWNER, Standing.ADMIN, Standing.GROUP_ADMIN)
    assert isinstance(decide_answer(standing, is_asked=False), Allow) is allowed
    assert isinstance(decide_answer(standing, is_asked=True), Allow)


def test_a_no_denies_but_a_question_has_no_wrong_answer() -> None:
    assert decide_end_state(ApprovalKind.UNKNOWN_SENDER, "deny_for_good") is ApprovalState.DENIED
    assert decide_end_state(ApprovalKind.QUESTION, "deny") is ApprovalState.APPROVED
    assert decide_end_state(ApprovalKind.AGENT_REQUEST, "approve") is ApprovalState.APPROVED


def test_a_card_says_its_options_by_number_and_comes_back_from_json() -> None:
    card = Card("A", "k3", "May it?", "It wants to.", (APPROVE, NAMED))
    assert card_from_json(card_to_json(card)) == card
    assert render_card(card) == (
        "May it?\nIt wants to.\n1. Approve\n2. New assistant (or at once: `k3 2 NAME`)\n"
        "Answer with the number, or at any time with `k3 1`."
    )
    assert render_card(Card("A", "k3", "May it?", "Approved by Tom.")) == "May it?\nApproved by Tom."


def test_a_strangers_name_is_one_line_without_markup() -> None:
    assert one_line("Bob\n**1. Allow** `x`\u202e\x1b[2J") == "Bob 1. Allow x 2J"
    assert one_line("x" * 100) == "x" * 63 + "…"
