"""What tokens cost: the operator's own prices before the table we ship (prices.toml), in whole millionths of a dollar.

In: a model's name and what a call used. Out: its cost, rounded up, and whether the price is known. Never: a fraction
of money in a float; a model that costs nothing because nobody knows it (it costs as the dearest of its maker).
Fails: ValueError when the shipped table is wrong (a test reads it).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nanoclaw.gateway.forecast import Forecast
from nanoclaw.gateway.usage import Usage

MICROS = 1_000_000  # of a dollar; and prices are for as many tokens


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of the models that fit `model` (a last `*` is any rest), in millionths of a dollar for a million tokens.

    `above`: for prompts of more tokens than that.
    """

    model: str
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    above: int = 0

    def cost(self, usage: Usage) -> int:
        """Return what a call cost, in millionths of a dollar, rounded up."""
        total = (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.cache_read
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * self.cache_write
            + usage.cache_write_1h_tokens * self.cache_write_1h
        )
        return -(-total // MICROS)

    def most(self, expected: Forecast) -> int:
        """Return what a call may cost at most, in millionths of a dollar, rounded up."""
        read = self.cache_write_1h if expected.hour else self.cache_write if expected.cached else self.input
        return -(-(expected.input_tokens * max(read, self.input) + expected.output_tokens * self.output) // MICROS)


FREE = Price("*", 0, 0, 0, 0, 0)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    models: tuple[str, ...]
    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    above: int = 0


class _File(msgspec.Struct, forbid_unknown_fields=True):
    read_on: str
    sources: tuple[str, ...]
    makers: dict[str, tuple[str, ...]]
    price: tuple[_Line, ...]


class PriceTable:
    """The prices in force; `own` go first."""

    def __init__(self, own: Iterable[Price] = ()) -> None:
        shipped = Path(__file__).with_name("prices.toml").read_text(encoding="utf-8")
        file = msgspec.convert(tomllib.loads(shipped), _File)
        self.read_on = file.read_on
        self._makers = tuple(file.makers.values())
        self._shipped = tuple(_price(model, line) for line in file.price for model in line.models)
        self._own = tuple(own)

    def set_own(self, own: Iterable[Price]) -> None:
        """Take the operator's own prices, in place of the ones before."""
        self._own = tuple(own)

    def list_all(self) -> list[tuple[Price, bool]]:
        """Return every price in the order in which they are tried, and whether it is the operator's own."""
        return [(price, True) for price in self._own] + [(price, False) for price in self._shipped]

    def find_own(self, model: str) -> Price | None:
        """Return the operator's own price of a model."""
        name = plain_name(model)
        return next((price for price in self._own if _fits(price.model, name)), None)

    def find(self, model: str, prompt_tokens: int) -> tuple[Price, bool]:
        """Return a model's price for a prompt of that length, and whether it is known."""
        if (own := self.find_own(model)) is not None:
            return own, True
        name = plain_name(model)
        for price in self._shipped:
            if prompt_tokens >= (price.above and price.above + 1) and _fits(price.model, name):
                return price, True
        return self._dearest(name), False

    def _dearest(self, name: str) -> Price:
        """Return the highest price of the maker whose models are named like this, of all makers for other names."""
        for beginnings in self._makers:
            if name.startswith(beginnings):
                return max((p for p in self._shipped if p.model.startswith(beginnings)), key=_height)
        return max(self._shipped, key=_height)


def to_micros(dollars: float) -> int:
    """Return dollars as whole millionths."""
    return round(dollars * MICROS)


def _price(model: str, line: _Line) -> Price:
    """Return a line's price of one model; what it does not say costs as plain input."""
    prices = [line.input if value is None else value for value in (line.cache_read, line.cache_write)]
    hour = prices[1] if line.cache_write_1h is None else line.cache_write_1h
    read, write = map(to_micros, prices)
    return Price(model, to_micros(line.input), to_micros(line.output), read, write, to_micros(hour), line.above)


def _height(price: Price) -> tuple[int, int]:
    return price.output, price.input


def plain_name(model: str) -> str:
    """Return a model's name as prices know it."""
    return model.lower().rpartition("/")[2].replace(".", "-")


def _fits(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
