"""What may be asked to be installed for a group, and how two sets become one. Pure.

A name is a name: no URL, path, option, range or space, for each goes to a package manager as a word of its command.
Grammar: Debian policy 5.6.1 and 5.6.12 (apt), npm's package.json "name" (npm), PEP 508 and PEP 440 (pip).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from nanoclaw.domain.group import Packages
from nanoclaw.errors import Refused

MOST_CHARACTERS = 214  # npm's own limit of a name
MOST_OF_MANAGER = 60
SHOWN_CHARACTERS = 60


class Source(StrEnum):
    """Who installs it."""

    APT = "apt"
    NPM = "npm"
    PIP = "pip"


WORDS = {
    # A last `-` would mean "remove" to apt-get, a last `+` "install": g++ is the one name that needs it, doubled.
    Source.APT: re.compile(r"(?P<name>[a-z0-9](?:[a-z0-9.-]|\+)*(?:[a-z0-9]|\+\+))(?:=[0-9][A-Za-z0-9.+~:-]*)?"),
    Source.NPM: re.compile(
        r"(?P<name>(?:@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*)(?:@[A-Za-z0-9][A-Za-z0-9.+-]*)?"
    ),
    Source.PIP: re.compile(
        r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
        r"(?:\[[A-Za-z0-9][A-Za-z0-9._-]*(?:,[A-Za-z0-9][A-Za-z0-9._-]*)*\])?"
        r"(?:==[A-Za-z0-9][A-Za-z0-9.!+_-]*)?"
    ),
}
FORMS = {
    Source.APT: "a name as `jq`, or `jq=1.6-2.1`",
    Source.NPM: "a name as `left-pad` or `@scope/name`, or `left-pad@1.3.0`",
    Source.PIP: "a name as `requests` or `requests[socks]`, or `requests==2.32.0`",
}


class PackageChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a group's set becomes: with `add`, and without the names of `remove`."""

    add: Packages = Packages()
    remove: Packages = Packages()


def parse_packages(apt: Iterable[str] = (), npm: Iterable[str] = (), pip: Iterable[str] = ()) -> Packages:
    """Return names from outside, each once. Raises Refused with a plain sentence that names the first bad one."""
    found = Packages(_parse(Source.APT, apt), _parse(Source.NPM, npm), _parse(Source.PIP, pip))
    if not count(found):
        raise Refused("No package was named.")
    return found


def merge(have: Packages, change: PackageChange) -> Packages:
    """Return the whole set after a change: one version of each name, the newest asked for. Raises Refused."""
    parts: list[tuple[str, ...]] = []
    for source in Source:
        kept = {name_of(source, word): word for word in words_of(have, source)}
        for word in words_of(change.remove, source):
            kept.pop(name_of(source, word), None)
        kept |= {name_of(source, word): word for word in words_of(change.add, source)}
        if len(kept) > MOST_OF_MANAGER:
            raise Refused(f"At most {MOST_OF_MANAGER} {source} packages can be installed for one assistant.")
        parts.append(tuple(sorted(kept.values())))
    return Packages(*parts)


def missing_of(have: Packages, wanted: Packages) -> list[str]:
    """Return the words of `wanted` whose names are not in `have`."""
    return [
        word
        for source in Source
        for word in words_of(wanted, source)
        if name_of(source, word) not in {name_of(source, known) for known in words_of(have, source)}
    ]


def describe(packages: Packages) -> str:
    """Return a set in words: `apt: jq, ripgrep; pip: requests`; `nothing` when it is empty."""
    parts = [f"{source}: {', '.join(words_of(packages, source))}" for source in Source if words_of(packages, source)]
    return "; ".join(parts) or "nothing"


def describe_change(change: PackageChange) -> str:
    """Return a change in words."""
    added, removed = count(change.add), count(change.remove)
    parts = [f"add {describe(change.add)}"] if added else []
    parts += [f"remove {describe(change.remove)}"] if removed else []
    return "; ".join(parts) or "build anew"


def count(packages: Packages) -> int:
    """Return how many packages a set names."""
    return sum(len(words_of(packages, source)) for source in Source)


def words_of(packages: Packages, source: Source) -> tuple[str, ...]:
    """Return what one package manager is to install."""
    match source:
        case Source.APT:
            return packages.apt
        case Source.NPM:
            return packages.npm
        case Source.PIP:
            return packages.pip


def name_of(source: Source, word: str) -> str:
    """Return the name in a checked word, as the package manager compares names."""
    found = WORDS[source].fullmatch(word)
    name = found["name"] if found else word
    return re.sub(r"[-_.]+", "-", name).lower() if source is Source.PIP else name


def _parse(source: Source, words: Iterable[str]) -> tuple[str, ...]:
    taken: dict[str, str] = {}
    for word in words:
        if len(word) > MOST_CHARACTERS or not WORDS[source].fullmatch(word):
            shown = repr(word if len(word) <= SHOWN_CHARACTERS else f"{word[:SHOWN_CHARACTERS]}...")
            raise Refused(f"{shown} is not what {source} calls a package. Write {FORMS[source]}, and nothing else.")
        taken[name_of(source, word)] = word
        if len(taken) > MOST_OF_MANAGER:
            raise Refused(f"At most {MOST_OF_MANAGER} {source} packages can be named at once.")
    return tuple(taken.values())
