"""What one check of `nanoclaw doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended; only `wrong` makes doctor fail."""

    GOOD = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer. `mend` is a command or step, '' when nothing is to be done."""

    what: str
    state: State
    words: str
    mend: str = ""
