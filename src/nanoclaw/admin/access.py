"""Who may use the admin socket (ring): root and the user the host runs as, by the kernel's word alone.

In: a connected unix socket. Out: a verdict. Writes: nothing. Never: believes anything the peer says about itself.
Fails: a peer whose identity cannot be read is denied.
"""

from __future__ import annotations

import socket
import struct

from nanoclaw.domain.verdict import Allow, Deny, Verdict

ROOT = 0
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED, unix(7)


def decide_access(peer_uid: int | None, host_uid: int) -> Verdict:
    """Decide about a peer; None: the kernel did not say who it is."""
    if peer_uid is None:
        return Deny("admin.unknown-peer", "It cannot be told who is asking.")
    if peer_uid in (ROOT, host_uid):
        return Allow("admin.owner-of-host")
    return Deny("admin.other-user", "This socket is only for root and the user who runs the host.")


def find_peer_uid(sock: socket.socket) -> int | None:
    """Return the uid at the other end, None when the kernel does not tell."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    except OSError:
        return None
    return CREDENTIALS.unpack(raw)[1]
