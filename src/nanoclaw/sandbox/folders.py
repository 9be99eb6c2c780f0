"""Whether a folder of this machine may be given to a sandbox, and how: the one place that decides it.

In: a path as somebody asked for it; the allowlist; the places that are NanoClaw's own or the machine's.
Out: `Allowed`, with the folder held by descriptor, or `Forbidden` with the reason and what mends it.
In this order: is the path plain, is it there, has what was asked or where it leads a blocked word, is it (in, or
around) something that is never given, is it below a root. Read-write only where root and request both say so.
Never: decides about a path; what was opened is judged, and that very folder is mounted (pins.py).
Fails: whatever cannot be found out is `Forbidden`.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nanoclaw.domain.group import ExtraMount
from nanoclaw.sandbox.allowlist import Allowlist, AllowlistFile, Root, explain_path, find_blocked
from nanoclaw.sandbox.pins import Pin, find_lineage, open_pin
from nanoclaw.sandbox.spec import Mount

PLACE = "/extra"  # in the box; each folder is a name below it
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
SYSTEM = ("/proc", "/sys", "/dev", "/run", "/etc", "/boot")
PEOPLE_FROM = 1000  # below are users of services, whose homes are no person's
NOBODY = 65534
COMMAND = "./nanoclaw.sh"


@dataclass(frozen=True, slots=True)
class Allowed:
    """It may be mounted. Whoever gets this closes the pin. `rule`: the root that decides, as the file has it."""

    pin: Pin
    writable: bool
    rule: Root


@dataclass(frozen=True, slots=True)
class Forbidden:
    """It may not. `reason` is a word for the audit."""

    reason: str
    words: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A folder of a group that its box does not get."""

    mount: ExtraMount
    why: Forbidden


class Folders:
    """Decides about folders; from any thread. `own`: what is NanoClaw's: its home, sockets and program."""

    def __init__(self, file: AllowlistFile, own: Sequence[Path]) -> None:
        self.file = file
        self._own = tuple(own)

    def judge(self, asked: str, *, write: bool) -> Allowed | Forbidden:
        """Decide about a folder; blocks as its file system does."""
        if fault := explain_path(asked):
            return Forbidden("path", f"That is no path that can be mounted: {fault}.")
        allowlist = self.file.read()
        try:
            pin = open_pin(Path(asked))
        except OSError as error:
            return Forbidden("missing", f"{asked} is no folder that can be opened: {error.strerror or error}.")
        try:
            verdict = self._judge(allowlist, asked, pin, write)
        except OSError as error:
            verdict = Forbidden("unknown", f"It cannot be found out what {asked} is: {error}.")
        if isinstance(verdict, Forbidden):
            pin.close()
        return verdict

    def _judge(self, allowlist: Allowlist, asked: str, pin: Pin, write: bool) -> Allowed | Forbidden:
        real, where = str(pin.real), asked if str(pin.real) == asked else f"{asked} (which is {pin.real})"
        if fault := explain_path(real):
            return Forbidden("path", f"{asked} leads to a path that cannot be mounted: {fault}.")
        for path in (asked, real):
            if (word := find_blocked(allowlist, path)) is not None:
                return Forbidden("blocked", f"{where} has {word!r} in it, which is never given to a sandbox.")
        if never := self._find_never(pin):
            return Forbidden("never", f"{where} is never given to a sandbox: {never}.")
        if allowlist.fault:
            mend = f"Mend the file, then: {COMMAND} mounts list"
            return Forbidden("allowlist", f"No folder is given to sandboxes: {allowlist.fault}.", mend)
        root = _find_root(allowlist, pin)
        if root is None:
            mend = f"{COMMAND} mounts allow {shlex.quote(real)}" + (" --read-write" if write else "")
            return Forbidden("root", f"{where} is below no folder that you have allowed.", mend)
        return Allowed(pin, write and root.writable, root)

    def _find_never(self, pin: Pin) -> str:
        for path in (*self._own, *(Path(path) for path in SYSTEM)):
            name = "of the system" if str(path) in SYSTEM else "NanoClaw's own"
            lineage = find_lineage(path)
            if pin.identity in lineage[1:] or path.is_relative_to(pin.real):
                return f"it is {name}" if path == pin.real else f"{path} is in it, which is {name}"
            if (lineage and lineage[0] in pin.lineage) or pin.real.is_relative_to(path):
                return f"it is {name} ({path})"
        for home in _list_homes():
            if pin.identity in find_lineage(home) or home.is_relative_to(pin.real):
                return f"a person's home as a whole ({home}); give a folder in it"
        return ""


def _list_homes() -> list[Path]:
    """Return the homes of people on this machine."""
    own = os.geteuid()
    users = [user for user in pwd.getpwall() if user.pw_uid in (0, own) or PEOPLE_FROM <= user.pw_uid < NOBODY]
    homes = [Path(user.pw_dir) for user in users if user.pw_dir.startswith("/") and user.pw_dir != "/"]
    below, listed = Path("/home"), list[Path]()
    with suppress(OSError):  # not there, or not for us to list: the homes of known users are known all the same
        listed = [below / name for name in os.listdir(below)]
    with suppress(RuntimeError):  # nobody knows where our own is
        listed.append(Path.home())
    return list(dict.fromkeys([*homes, *listed]))


def _find_root(allowlist: Allowlist, pin: Pin) -> Root | None:
    """Return the root that decides: of those it is below, one that lets write before one that does not."""
    fitting = [root for root in allowlist.roots if _is_below(pin, root)]
    return max(fitting, key=lambda root: root.writable, default=None)


def _is_below(pin: Pin, root: Root) -> bool:
    try:
        above = open_pin(root.place)
    except (OSError, RuntimeError):  # it is not there: it allows nothing
        return False
    above.close()
    return above.identity in pin.lineage and pin.real.is_relative_to(above.real)


def decide_name(mount: ExtraMount) -> str:
    """Return the name of a folder in the box, '' when none can be made of its path."""
    if mount.name:
        return mount.name if NAME.fullmatch(mount.name) else ""
    plain = re.sub(r"[^a-z0-9._-]+", "-", PurePosixPath(mount.source).name.lower()).strip("-._")
    return plain if NAME.fullmatch(plain) else ""


class OpenFolders:
    """A group's folders for one start: opened and judged in a thread, closed by whoever made it, also on failure."""

    def __init__(self, folders: Folders, mounts: Sequence[ExtraMount]) -> None:
        self._folders = folders
        self.wanted = tuple(mounts)
        self._pins: list[Pin] = []
        self._is_closed = False
        self._lock = threading.Lock()  # a start that is given up closes while a thread may still open
        self.mounts: tuple[Mount, ...] = ()
        self.left_out: tuple[LeftOut, ...] = ()

    def open(self) -> None:
        """Open and judge every one; blocks as their file systems do."""
        mounts, left_out, names = list[Mount](), list[LeftOut](), set[str]()
        for wanted in self.wanted:
            name = decide_name(wanted)
            if not name or name in names:
                left_out.append(LeftOut(wanted, Forbidden("name", f"{wanted.source} has no name of its own.")))
                continue
            verdict = self._folders.judge(wanted.source, write=wanted.writable)
            if isinstance(verdict, Forbidden):
                left_out.append(LeftOut(wanted, verdict))
            elif self._keep(verdict.pin):
                names.add(name)
                pin = verdict.pin
                mounts.append(Mount(pin.real, f"{PLACE}/{name}", verdict.writable, pin.descriptor))
        self.mounts, self.left_out = tuple(mounts), tuple(left_out)

    def _keep(self, pin: Pin) -> bool:
        with self._lock:
            if not self._is_closed:
                self._pins.append(pin)
                return True
        pin.close()
        return False

    def close(self) -> None:
        """Let go of them; the box has its own."""
        with self._lock:
            pins, self._pins, self._is_closed = self._pins, [], True
        for pin in pins:
            pin.close()
