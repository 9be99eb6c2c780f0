"""Whether a box's user can read, and write, a folder of the machine; and the command that lets it.

In: an open folder and a uid. Out: '' or words with the exact mend. On a root host boxes run as uids of their own,
which own nothing of the operator's. Sources: acl(5); the layout of the attribute is Linux `posix_acl_xattr.h`.
Never: changes anybody's rights. Looks at the folder itself: what lies in it may be closed all the same.
"""

from __future__ import annotations

import os
import shlex
import struct

from nanoclaw.sandbox.pins import Pin

ACCESS = "system.posix_acl_access"
ENTRY = struct.Struct("<HHI")  # tag, rights, id
HEADER_BYTES = 4
USER, MASK = 0x02, 0x10
READ, WRITE = 0o5, 0o7  # a folder is read with its x


def explain_rights(pin: Pin, uid: int, *, write: bool) -> str:
    """Return what keeps `uid` from reading (and writing) a folder, with the command that mends it; '' when nothing."""
    needed = WRITE if write else READ
    held = _rights_of(pin, uid)
    if held & needed == needed:
        return ""
    path, rights = shlex.quote(str(pin.real)), "rwX" if write else "rX"
    grants = f"u:{uid}:{rights},d:u:{uid}:{rights}"
    if write:  # what a box makes there belongs to it: the owner can still change it
        grants += f",d:u:{os.fstat(pin.descriptor).st_uid}:rwX"
    verb = "read" if not write else "write" if held & READ == READ else "read or write"
    return f"Its sandboxes run as uid {uid}, which may not {verb} it. This lets them: setfacl -R -m {grants} {path}"


def _rights_of(pin: Pin, uid: int) -> int:
    path = f"/proc/self/fd/{pin.descriptor}"
    found = os.stat(path)
    if uid == found.st_uid:
        return found.st_mode >> 6 & 7
    listed = _read_acl(path)
    if (USER, uid) in listed:
        return listed[(USER, uid)] & next((rights for (tag, _), rights in listed.items() if tag == MASK), 7)
    return found.st_mode >> 3 & 7 if uid == found.st_gid else found.st_mode & 7  # a box's gid is its uid


def _read_acl(path: str) -> dict[tuple[int, int], int]:
    try:
        raw = os.getxattr(path, ACCESS)
    except OSError:  # none, or a file system without
        return {}
    body = raw[HEADER_BYTES : len(raw) - (len(raw) - HEADER_BYTES) % ENTRY.size]
    return {(tag, number): rights for tag, rights, number in ENTRY.iter_unpack(body)}
