"""Which folders of this machine may be given to sandboxes: `config/mounts.toml`, read again whenever it has changed.

    blocked = ["private"]          # beside those that always are

    [[root]]
    path = "/srv/documents"
    read_write = true              # without it: read-only
    note = "scans"

In: that file. Out: `Allowlist`. Fields and always-blocked words: nanoclaw-v2-behaviour.md section 8.3; blocked words
are looked for anywhere in the path and in small letters, which is at least as strict.
Never: allows anything while the file is missing, unreadable or has one mistake in it.
Fails: it cannot; what is wrong with the file is its `fault`, and then nothing is allowed.
"""

from __future__ import annotations

import os
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from nanoclaw.errors import OperatorError

FILE = "mounts.toml"  # in the home's config/
ALWAYS_BLOCKED = (
    ".ssh", ".gnupg", ".gpg", ".aws", ".azure", ".gcloud", ".kube", ".docker", "credentials", ".env", ".netrc",
    ".npmrc", ".pypirc", "id_rsa", "id_ed25519", "private_key", ".secret",
)  # fmt: skip
MOST_BYTES = 256 * 1024
MOST_PATH_BYTES = 1_000
MOST_NOTE = 200
MOST_ROOTS = 200
ROOT_KEYS = ("path", "read_write", "note")


@dataclass(frozen=True, slots=True)
class Root:
    """A folder below which folders may be given. `path` as written, `~` and links in it not resolved."""

    path: str
    writable: bool = False
    note: str = ""

    @property
    def place(self) -> Path:
        """The path, with the host's own home in place of `~`."""
        return Path(self.path).expanduser()


@dataclass(frozen=True, slots=True)
class Allowlist:
    """What the file says. `fault`: what is wrong with it; then there are no roots."""

    roots: tuple[Root, ...] = ()
    blocked: tuple[str, ...] = ()
    fault: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """Everything that may be in no path."""
        return (*ALWAYS_BLOCKED, *self.blocked)


def find_blocked(allowlist: Allowlist, path: str) -> str | None:
    """Return the blocked word that is in a path; capitals and small letters are the same."""
    folded = path.casefold()
    return next((word for word in allowlist.words if word.casefold() in folded), None)


def explain_path(text: str, *, tilde: bool = False) -> str:
    """Return what is wrong with a path somebody wrote, '' when it is absolute, plain and not too long."""
    if not text or len(os.fsencode(text)) > MOST_PATH_BYTES:
        return f"a path has 1 to {MOST_PATH_BYTES} bytes"
    if not text.isprintable():
        return "a path has no line breaks or other characters that cannot be shown"
    if not (text.startswith("/") or (tilde and (text == "~" or text.startswith("~/")))):
        return "a path is absolute, e.g. /srv/documents"
    if ".." in PurePosixPath(text).parts:
        return "a path has no `..` in it"
    return ""


def parse_allowlist(text: str) -> Allowlist:
    """Return what a file's text says. Raises OperatorError that names the line or key."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a mistake; a number of 5,000 digits; lists in lists in lists
        raise OperatorError(f"it is not valid TOML: {error}") from None
    if unknown := sorted(table.keys() - {"root", "blocked"}):
        raise OperatorError(f"it has an unknown key {unknown[0]!r}; it may have `blocked` and `[[root]]`")
    blocked, roots = table.get("blocked", []), table.get("root", [])
    if not isinstance(roots, list) or len(cast(list[object], roots)) > MOST_ROOTS:
        raise OperatorError(f"`root` is a list of at most {MOST_ROOTS} tables, each begun with [[root]]")
    listed = [_parse_root(number, root) for number, root in enumerate(cast(list[object], roots), 1)]
    for number, root in enumerate(listed, 1):
        if root.path in [other.path for other in listed[: number - 1]]:
            raise OperatorError(f"root {number} ({root.path}) is there twice")
    return Allowlist(tuple(listed), _parse_blocked(blocked))


def _parse_blocked(blocked: object) -> tuple[str, ...]:
    words = cast(list[object], blocked) if isinstance(blocked, list) else [None]
    if not all(isinstance(word, str) and word.strip() and word.isprintable() for word in words):
        raise OperatorError('`blocked` is a list of words that are not empty, e.g. ["private"]')
    return tuple(cast(list[str], words))


def _parse_root(number: int, raw: object) -> Root:
    if not isinstance(raw, dict):
        raise OperatorError(f"root {number} is not a table; begin it with [[root]]")
    root = cast(dict[str, object], raw)
    if unknown := sorted(root.keys() - set(ROOT_KEYS)):
        raise OperatorError(f"root {number} has an unknown key {unknown[0]!r}; it may have {', '.join(ROOT_KEYS)}")
    path, writable, note = root.get("path"), root.get("read_write", False), root.get("note", "")
    if not isinstance(path, str):
        raise OperatorError(f'root {number} needs `path`, a text, e.g. path = "/srv/documents"')
    if fault := explain_path(path, tilde=True):
        raise OperatorError(f"root {number}: {fault}")
    if not isinstance(writable, bool):
        raise OperatorError(f"root {number} ({path}): `read_write` is true or false")
    if not isinstance(note, str) or len(note) > MOST_NOTE or not note.isprintable():
        raise OperatorError(f"root {number} ({path}): `note` is one line of at most {MOST_NOTE} characters")
    return Root(path, writable, note)


class AllowlistFile:
    """The file, read when it is not what it was; from any thread. Keeps no descriptor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[tuple[int, ...], Allowlist] | None = None

    def read(self) -> Allowlist:
        """Return what it says now. Blocks for a `stat`, and for a small file's reading when it has changed."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return Allowlist()
        except OSError as error:
            return Allowlist(fault=f"{self.path} cannot be read: {error.strerror}")
        mark = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)
        known = self._read
        if known is not None and known[0] == mark:
            return known[1]
        allowlist = self._load(found)
        self._read = (mark, allowlist)
        return allowlist

    def _load(self, found: os.stat_result) -> Allowlist:
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            return Allowlist(fault=f"{self.path} is no plain file of at most {MOST_BYTES // 1024} kB")
        try:
            return parse_allowlist(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            return Allowlist(fault=f"{self.path} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            return Allowlist(fault=f"{self.path} is not UTF-8 text")
        except OperatorError as error:
            return Allowlist(fault=f"{self.path}: {error}")
