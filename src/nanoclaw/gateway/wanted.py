"""What is looked for in all that passes: the vault's secrets in each of their forms, and the shapes of tokens.

In: the vault's values. Out: `Wanted`, worked out once for each state of the vault, not for each call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nanoclaw.gateway.forms import write_forms
from nanoclaw.gateway.needles import Needles
from nanoclaw.gateway.shapes import Shapes


@dataclass(frozen=True, slots=True)
class Wanted:
    """`secrets` neither leave nor come back, `shapes` do not leave."""

    secrets: Needles
    shapes: Shapes


class SecretWatch:
    """Says what is wanted now; made anew when the vault's values have changed."""

    def __init__(self, read_values: Callable[[], tuple[bytes, ...]]) -> None:
        self._read_values = read_values
        self._values: tuple[bytes, ...] = ()
        self._wanted = Wanted(Needles(()), Shapes())

    def __call__(self) -> Wanted:
        """Return what is wanted."""
        values = self._read_values()
        if values is not self._values and values != self._values:
            secrets = Needles(form for value in values for form in write_forms(value))
            self._wanted = Wanted(secrets, self._wanted.shapes)
        self._values = values
        return self._wanted
