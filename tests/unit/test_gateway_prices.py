"""Tokens become money: whole millionths of a dollar, rounded up, and never nothing because a model is not known."""

from __future__ import annotations

import pytest

from nanoclaw.gateway.forecast import DEFAULT_OUTPUT, MOST_INPUT, MOST_OUTPUT, forecast
from nanoclaw.gateway.prices import Price, PriceTable
from nanoclaw.gateway.usage import Usage

SHIPPED = PriceTable()


@pytest.mark.parametrize(
    ("model", "usage", "micros"),
    [
        ("claude-sonnet-4-5-20250929", Usage("", 100_000, 0), 300_000),
        ("claude-sonnet-4-5-20250929", Usage("", 0, 1_000_000), 15_000_000),
        ("claude-opus-4-5", Usage("", 0, 0, 1_000_000), 500_000),
        ("claude-opus-4-5", Usage("", 0, 0, 0, 1_000_000), 6_250_000),
        ("claude-opus-4-5", Usage("", 0, 0, 0, 1_000_000, 1_000_000), 10_000_000),
        ("anthropic/claude-opus-4.5", Usage("", 2, 2), 60),
        ("claude-haiku-5-5", Usage("", 100_000, 1000), 10_500),
        ("claude-haiku-5-5", Usage("", 100_001, 1000), 52_501),
        ("claude-haiku-5-5", Usage("", 1, 1000), 501),
        ("gpt-5.2-2025-12-11", Usage("", 1000, 100, 1000), 3325),
        ("openai/gpt-5-mini", Usage("", 1000, 100), 450),
        ("text-embedding-3-small", Usage("", 1, 0), 1),
    ],
)
def test_a_known_model_costs_what_the_table_says(model: str, usage: Usage, micros: int) -> None:
    price, known = SHIPPED.find(model, usage.prompt_tokens)
    assert (price.cost(usage), known) == (micros, True)


@pytest.mark.parametrize(
    ("model", "output"),
    [("claude-zeta-9", 75_000_000), ("gpt-99", 180_000_000), ("qwen/qwen3", 180_000_000), ("", 180_000_000)],
)
def test_an_unknown_model_costs_as_the_dearest_of_its_maker(model: str, output: int) -> None:
    price, known = SHIPPED.find(model, 0)
    assert (price.output, known) == (output, False)


def test_every_shipped_price_is_reached_by_a_name() -> None:
    """A pattern behind a wider one would never be used."""
    for price, _ in SHIPPED.list_all():
        assert SHIPPED.find(price.model.rstrip("*"), price.above + 1)[0] == price


def test_an_operators_own_price_goes_first() -> None:
    own = Price("qwen3*", 1, 2, 3, 4, 5)
    table = PriceTable([own])
    assert table.find("qwen/qwen3-32b", 0) == (own, True)
    assert table.find("claude-opus-4-5", 0)[0].output == 25_000_000


def test_a_forecast_reads_the_model_and_the_limit_of_every_shape() -> None:
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        body = b'{"model":"m","%s":100}' % name.encode()
        expected = forecast(body, None)
        assert (expected.model, expected.output_tokens, expected.input_tokens) == ("m", 100, -(-len(body) // 3))
    assert forecast(b'{"model":"m","max_tokens":100,"n":3}', None).output_tokens == 300
    assert forecast(b'{"model":"m"}', None).output_tokens == DEFAULT_OUTPUT


def test_a_request_of_which_only_the_beginning_has_come_is_read_as_far_as_it_goes() -> None:
    expected = forecast(b'{"model":"claude-x","max_tokens":500,"messages":[{"content":"aaa', 3_000_000)
    assert (expected.model, expected.output_tokens, expected.input_tokens) == ("claude-x", 500, 1_000_000)


def test_a_picture_is_not_taken_for_text() -> None:
    picture = b"A" * 200_000
    assert forecast(b'{"data":"%s"}' % picture, None).input_tokens < 15_000


def test_nonsense_is_taken_to_be_much_but_not_without_end() -> None:
    for body in (b"", b"\xff", b"[]", b'{"max_tokens":"x"}', b'{"model":5}', b'{"max_tokens":-4}', b'{"n":-1}'):
        assert forecast(body, None).output_tokens == DEFAULT_OUTPUT
    huge = forecast(b'{"max_tokens":99999999999999999999999999}', 10**12)
    assert (huge.input_tokens, huge.output_tokens) == (MOST_INPUT, MOST_OUTPUT)
    assert forecast(b'{"max_tokens":9000000000}', None).output_tokens == MOST_OUTPUT


def test_what_is_written_to_a_cache_is_reserved_at_its_price() -> None:
    price = Price("m", 1_000_000, 0, 0, 2_000_000, 3_000_000)
    plain, five, hour = (
        forecast(b'{"max_tokens":1,"x":"%s"}' % text, None)
        for text in (b"", b'"cache_control"', b'"cache_control""1h"')
    )
    assert price.most(plain) == plain.input_tokens
    assert price.most(five) == 2 * five.input_tokens
    assert price.most(hour) == 3 * hour.input_tokens
