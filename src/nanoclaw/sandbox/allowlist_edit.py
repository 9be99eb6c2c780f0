"""Changes `config/mounts.toml` for somebody: everything else in it, words of people too, stays as it is.

In: the file's text, a root to put in or take out. Out: the new text.
Never: writes what does not mean exactly what was wanted: the new text is read back and compared.
Fails: OperatorError; then the file is as it was.
"""

from __future__ import annotations

import os
from pathlib import Path

from nanoclaw.errors import OperatorError
from nanoclaw.sandbox.allowlist import Allowlist, Root, parse_allowlist

HEADER = "[[root]]"
BY_HAND = "{path} is written in a way that cannot be changed from here. Change it by hand"


def read_text(path: Path) -> str:
    """Return the file's text, '' when there is none. Raises OperatorError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path} cannot be read: {error}") from error


def put_root(path: Path, root: Root) -> bool:
    """Allow a root, in place of what the file says of that path; return whether it was there. Raises OperatorError."""
    text = read_text(path)
    known = _parse(path, text)
    others = tuple(other for other in known.roots if other.path != root.path)
    is_known = len(others) != len(known.roots)
    kept = _without(path, text, root.path) if is_known else text
    _write(path, f"{kept.rstrip()}\n\n{_block(root)}".lstrip(), Allowlist((*others, root), known.blocked))
    return is_known


def remove_root(path: Path, wanted: str) -> None:
    """Take a root out. Raises OperatorError, also when it is not in the file."""
    text = read_text(path)
    known = _parse(path, text)
    others = tuple(other for other in known.roots if other.path != wanted)
    if len(others) == len(known.roots):
        raise OperatorError(f"{wanted} is no root in {path}. `./nanoclaw.sh mounts list` shows those there are")
    _write(path, _without(path, text, wanted), Allowlist(others, known.blocked))


def _parse(path: Path, text: str) -> Allowlist:
    try:
        return parse_allowlist(text)
    except OperatorError as error:
        raise OperatorError(f"{path}: {error}. Mend it first") from None


def _without(path: Path, text: str, wanted: str) -> str:
    """Return the text without the table of one root: from its header to the next."""
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line.split("#")[0].strip() == HEADER]
    roots = _parse(path, text).roots
    if len(starts) != len(roots):
        raise OperatorError(BY_HAND.format(path=path))
    place = [root.path for root in roots].index(wanted)
    end = starts[place + 1] if place + 1 < len(starts) else len(lines)
    return "".join(lines[: starts[place]] + lines[end:])


def _block(root: Root) -> str:
    lines = [HEADER, f"path = {_quote(root.path)}"]
    lines += ["read_write = true"] if root.writable else []
    lines += [f"note = {_quote(root.note)}"] if root.note else []
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write(path: Path, text: str, meant: Allowlist) -> None:
    try:
        is_meant = parse_allowlist(text) == meant
    except OperatorError as error:
        raise OperatorError(f"That cannot be allowed: {error}") from None
    if not is_meant:
        raise OperatorError(BY_HAND.format(path=path))
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    os.chmod(draft, 0o600)
    draft.replace(path)
