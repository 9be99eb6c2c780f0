"""7e files: what agents send each other is copied out of one box, kept by the host, and copied into the next.

In: the file names of a reading; the `files` of claimed rows.
Out: `StoredFile`s in `sessions/<group>/<session>/attachments/<fence>-<seq>/`; plain files in a mailbox's `in/inbox/`.
Writes: those two folders.
Never: follows a link out of a box's outbox; takes anything but a plain file with one name; lets a name of a box's be
a path of the host's (it is a number there).
Fails: a file that cannot be taken is left out with a sentence for the agent; OSError for a disk that cannot be written.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import msgspec

from nanoclaw.sandbox.inbound import InboundRow
from nanoclaw.sandbox.mailbox import Mailbox, Outbound
from nanoclaw.sandbox.mounts import read_beneath
from nanoclaw.sandbox.wire import OutChat, OutMessage

MIB = 1024 * 1024
FILE_BYTES = 20 * MIB
MESSAGE_BYTES = 50 * MIB
KEPT_BYTES = 200 * MIB  # of one session, until whoever got them is done with them


class StoredFile(msgspec.Struct, frozen=True):
    """A file the host keeps. `path` is relative to the home's `sessions` folder."""

    name: str
    bytes: int
    path: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the files of one message: those the host has, and why it has not the others."""

    files: tuple[StoredFile, ...] = ()
    left_out: tuple[str, ...] = ()


NOTHING_TAKEN: Mapping[int, Taken] = MappingProxyType({})


@dataclass(slots=True)
class _Room:
    """How much more may be taken."""

    message: int = MESSAGE_BYTES
    session: int = KEPT_BYTES
    files: list[StoredFile] = field(default_factory=list[StoredFile])
    left_out: list[str] = field(default_factory=list[str])


def files_to_json(files: Sequence[StoredFile]) -> str:
    """Serialise for `inbox.files`."""
    return msgspec.json.encode(list(files)).decode()


def files_from_json(text: str) -> tuple[StoredFile, ...]:
    """Parse what `files_to_json` wrote."""
    return msgspec.json.decode(text, type=tuple[StoredFile, ...])


def take_files(mailbox: Mailbox, out: Outbound) -> Mapping[int, Taken]:
    """Copy what a reading's messages name out of the box, by message seq; blocks. Doing it again changes nothing.

    Raises OSError when the host's own folder cannot be written.
    """
    named = [message for message in out.messages if isinstance(message.body, OutChat) and message.body.files]
    if not named:
        return NOTHING_TAKEN
    session, fence = mailbox.directory.parent.parent, mailbox.directory.name
    room = KEPT_BYTES - _size_of(session / "attachments")
    taken: dict[int, Taken] = {}
    for message in named:
        taken[message.seq] = _take(mailbox, message, session / "attachments" / f"{fence}-{message.seq}", room)
        room -= sum(file.bytes for file in taken[message.seq].files)
    return taken


def place_files(sessions: Path, mailbox: Mailbox, rows: Iterable[InboundRow]) -> None:
    """Copy the files of claimed rows to where their messages say they are, before the box sees the rows; blocks.

    One the host no longer has is left out. Raises OSError for a disk that cannot be written.
    """
    for row in rows:
        for file in files_from_json(row.files):
            source, folder = sessions / file.path, mailbox.attachments / str(row.seq)
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)  # the box is another user, whatever our umask is
            if source.exists() and not (folder / file.name).exists():
                _put_whole(folder / file.name, partial(shutil.copyfile, source))


def remove_files(sessions: Path, paths: Iterable[str]) -> None:
    """Remove kept files nobody needs any more, by their paths below `sessions`, and the folders they leave empty."""
    for path in paths:
        (sessions / path).unlink(missing_ok=True)
        folder = (sessions / path).parent
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _take(mailbox: Mailbox, message: OutMessage, folder: Path, room: int) -> Taken:
    state = _Room(session=room)
    names = message.body.files if isinstance(message.body, OutChat) else ()
    for number, name in enumerate(dict.fromkeys(names)):
        _take_one(mailbox, name, folder / str(number), state)
    return Taken(tuple(state.files), tuple(state.left_out))


def _take_one(mailbox: Mailbox, name: str, target: Path, room: _Room) -> None:
    limit = min(FILE_BYTES, room.message, room.session)
    try:
        content = target.read_bytes() if target.exists() else read_beneath(mailbox.outbox, name, limit)
    except OSError as error:
        room.left_out.append(f"{name}: {_why_not(error, limit)}")
        return
    if not target.exists():
        target.parent.parent.mkdir(mode=0o700, exist_ok=True)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        _put_whole(target, lambda draft: draft.write_bytes(content))
    room.message -= len(content)
    room.session -= len(content)
    path = target.relative_to(target.parents[4]).as_posix()
    room.files.append(StoredFile(name, len(content), path))


def remove_unreferenced(sessions: Path, kept: set[str]) -> int:
    """Remove kept files that no waiting message names, left by a host that died; return how many. Blocks."""
    found = [path.relative_to(sessions).as_posix() for path in sessions.glob("*/*/attachments/*/*")]
    spent = [path for path in found if path not in kept]
    remove_files(sessions, spent)
    return len(spent)


def _why_not(error: OSError, limit: int) -> str:
    if error.errno == errno.EFBIG:
        return f"it is larger than the {limit} bytes there is room for: 20 MiB a file, 50 MiB a message, 200 MiB unread"
    if error.errno == errno.ELOOP:
        return "it is a link"
    return error.strerror or "it cannot be read"


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def _put_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name, outside its folder, then rename: it is there whole or not at all."""
    draft = path.parent.parent / ".draft"
    write(draft)
    draft.chmod(0o644)
    draft.rename(path)
