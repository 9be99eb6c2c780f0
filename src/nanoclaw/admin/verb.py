"""What `ncl` can do, as data: nouns, their verbs, what each verb is given.

From these rows come the click commands and their help, the check of a request on the server, the parser of what an
agent types in its box, the completion of a shell, and docs/reference/commands.md. What a verb does is in resources/.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MOST_TEXT = 200  # characters of a value, unless its row says otherwise
MOST_PROSE = 10_000  # a request is one line of at most 64 kB
MOST_ROWS = 10_000


class Access(StrEnum):
    """READ changes nothing and is answered from the file too while no host runs; the others need the host."""

    READ = "read"
    WRITE = "write"
    PROCESS = "process"  # about the running host itself, nothing of the store


class Kind(StrEnum):
    """What a value is."""

    TEXT = "text"  # one line
    PROSE = "prose"  # may have line ends
    INTEGER = "integer"
    CHOICE = "choice"
    FLAG = "flag"


class CallerKind(StrEnum):
    """Where a command came in."""

    OPERATOR = "operator"  # on the admin socket, or from the file
    AGENT = "agent"  # through the mailbox of a box


class AskWhom(StrEnum):
    """Who decides about a change that an agent asks for."""

    OWN = "own"  # the approvers of its agent group
    ALL = "all"  # those of all: global admins and owners


@dataclass(frozen=True, slots=True)
class Value:
    """One thing a verb is given: `--name`, or the target that needs no name."""

    name: str
    words: str
    kind: Kind = Kind.TEXT
    choices: tuple[str, ...] = ()
    default: str | int | None = None
    required: bool = False
    repeated: bool = False
    least: int = 0
    most: int = MOST_ROWS
    refers: str = ""  # the noun whose id, beginning of an id, or name it is


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of a noun. A name of two words is a verb below another: `config get`."""

    name: str
    words: str
    access: Access = Access.READ
    target: Value | None = None
    options: tuple[Value, ...] = ()
    single: bool = False  # its answer is one thing, shown as a line each
    details: str = ""
    confirm: str = ""  # asked on a terminal before it is done; `--yes` answers it
    confirm_when: str = ""  # only with this flag

    @property
    def values(self) -> tuple[Value, ...]:
        """Everything it may be given."""
        return self.options if self.target is None else (self.target, *self.options)


@dataclass(frozen=True, slots=True)
class Noun:
    """One resource."""

    name: str
    words: str
    verbs: tuple[Verb, ...]


LIMIT = Value("limit", "At most this many.", Kind.INTEGER, default=200, least=1)
