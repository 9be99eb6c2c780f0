"""The rules on disk: `rules/<generation>.toml`, never rewritten, and `rules/current`, which names the one in force.

In: a generation's text with who changed what. Out: what is kept. Writes: below the gateway's `rules/`, each file whole,
synced, read back, renamed. Never: points at a file that it has not read back.
Fails: OperatorError when the disk refuses; then the pointer stands where it stood.

Killed at any line, the old or the new generation is in force: a file without its pointer is only kept.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.files import read_whole, sync_directory, write_whole

MOST_KEPT = 200  # generations; the oldest go first, the one in force never
FILE_BYTES = 512 * 1024
MARK = "# ---- the rules ----\n"
ABOUT = "# Written by `nanoclaw egress` and never changed again: the next change makes the next file.\n"

_FILE = re.compile(r"([1-9][0-9]{0,8})\.toml")
_POINTER = re.compile(r"([0-9]{1,9}) of ([0-9]{1,9})")
_CHANGE = re.compile(r"# change: (\{.*\})")


class Change(msgspec.Struct, frozen=True):
    """Who made a generation, when (epoch milliseconds), by what; `approval` when a person's yes to an agent did it."""

    at: int = 0
    by: str = ""
    what: str = ""
    approval: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """One kept generation: its number, how it came about, the rules' text, and how many lines are above that."""

    number: int
    change: Change
    text: str
    lines_above: int = 0


@dataclass(frozen=True, slots=True)
class Pointer:
    """What `current` says: the generation in force (0: none, the built-in rules alone), and the newest that ever was.

    A file with a higher number was written by a change that a kill cut short, and was never in force.
    """

    number: int
    newest: int


class RuleShelf:
    """The gateway's `rules/`; one process at a time (main.py holds the lock). Everything blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find_pointer(self) -> Pointer | None:
        """Return what `current` says; None when there is no such file or it says nothing. Raises OperatorError."""
        raw = read_whole(self._directory / "current", FILE_BYTES)
        found = _POINTER.fullmatch((raw or b"").decode("ascii", "replace").strip())
        return Pointer(int(found[1]), int(found[2])) if found else None

    def list_numbers(self) -> list[int]:
        """Return the kept generations, oldest first."""
        try:
            names = [path.name for path in self._directory.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OperatorError(f"gateway/rules cannot be read: {error.strerror}.") from None
        return sorted(int(found[1]) for name in names if (found := _FILE.fullmatch(name)))

    def read(self, number: int) -> Generation:
        """Return a kept generation. Raises OperatorError when there is none, or it is no text."""
        raw = read_whole(self._directory / f"{number}.toml", FILE_BYTES)
        if raw is None:
            raise OperatorError(f"There is no generation {number} of the rules. `nanoclaw egress log` lists them.")
        try:
            whole = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise OperatorError(f"gateway/rules/{number}.toml is no text.") from None
        head, mark, text = whole.partition(MARK)
        if not mark:
            return Generation(number, Change(), whole)  # put there by hand
        return Generation(number, _parse_change(head), text, (head + mark).count("\n"))

    def keep(self, text: str, change: Change) -> int:
        """Keep a text as the next generation, then put it in force; return its number. Raises OperatorError."""
        number = max(self.list_numbers(), default=0) + 1
        head = f"{ABOUT}# change: {msgspec.json.encode(change).decode()}\n{MARK}"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._directory.parent)
        except OSError as error:
            raise OperatorError(f"gateway/rules cannot be made: {error.strerror}. Nothing was changed.") from None
        write_whole(self._directory / f"{number}.toml", (head + text).encode())
        kept = self.read(number)
        if (kept.change, kept.text) != (change, text):
            raise OperatorError(f"gateway/rules/{number}.toml is not what was written. The old rules stay in force.")
        self.point(number)
        self._prune(self.list_numbers())
        return number

    def point(self, number: int) -> None:
        """Put a kept generation in force, or none (0). Raises OperatorError."""
        newest = max(self.list_numbers(), default=0)
        write_whole(self._directory / "current", f"{number} of {newest}\n".encode())

    def _prune(self, numbers: Sequence[int]) -> None:
        for number in numbers[:-MOST_KEPT]:
            with contextlib.suppress(OSError):  # one more is kept, and tried again at the next change
                (self._directory / f"{number}.toml").unlink()


def _parse_change(head: str) -> Change:
    found = _CHANGE.search(head)
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(found[1], type=Change) if found else Change()
    return Change()
