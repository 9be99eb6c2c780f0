"""The gateway's own small files: read whole, or replaced so that after a crash the old or the new one is there.

In: a path in the gateway's directory. Writes: 0600, synced, renamed over the old one, the directory synced.
Never: leaves half a file under the name. Fails: OperatorError naming the file as a person finds it in the home.
"""

from __future__ import annotations

import os
from pathlib import Path

from nanoclaw.errors import OperatorError

FILE_BYTES = 4 * 1024 * 1024  # far more than a vault or a rule file holds; a longer one is refused, not cut


def read_whole(path: Path, limit: int = FILE_BYTES) -> bytes | None:
    """Return a file's bytes, None when there is no such file. Raises OperatorError: unreadable, over `limit` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(f"gateway/{path.name} cannot be read: {error.strerror}.") from None
    if len(data) > limit:
        raise OperatorError(f"gateway/{path.name} is longer than {limit} bytes, so it is not one of ours.")
    return data


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file, readable by its owner alone. Raises OperatorError; the old file is then still there."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise OperatorError(f"gateway/{path.name} cannot be written: {error.strerror}. Nothing was changed.") from None


def sync_directory(directory: Path) -> None:
    """Make what was renamed or unlinked in a directory last. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
