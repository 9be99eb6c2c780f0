"""Who may use `ncl` (ring): on the admin socket by the kernel's word alone, in a box by this table.

In: a connected unix socket; or a command, and the `cli_scope` of the agent group whose mailbox it came through.
Out: a verdict; `Ask` names whose approvers decide. Writes: nothing.
Never: believes what a peer says about itself; lets an agent widen what it may do, or decide what it asked for.
Fails: an unknown peer, scope or command is denied.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection

from nanoclaw.admin.verb import AskWhom, CallerKind
from nanoclaw.domain.verdict import Allow, Ask, Deny, Verdict

ROOT = 0
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED, unix(7)

OWN_READS = frozenset({
    "groups list", "groups get", "groups config get", "groups config list-skills", "groups config list-mcp-servers",
    "groups builds", "sessions list", "sessions get", "destinations list", "members list", "tasks list",
    "tasks get"})  # fmt: skip
ALL_READS = OWN_READS | {"audit list",
    "messaging-groups list", "messaging-groups get", "wirings list", "wirings get", "users list", "users get",
    "roles list", "user-dms list", "dropped-messages list", "approvals list", "approvals get"}  # fmt: skip
OWN_WRITES = frozenset({"groups restart", "groups update", "members add", "members remove", "destinations remove"})
REACHING_WRITES = frozenset({  # asked of who decides for all: they reach beyond the group, or to this machine
    "destinations add", "groups config update", "groups config add-mount", "groups config remove-mount",
    "groups config add-skill", "groups config remove-skill", "groups config add-package",
    "groups config remove-package"})  # fmt: skip
ALL_WRITES = OWN_WRITES | REACHING_WRITES | {
    "groups create", "groups delete", "groups restore", "messaging-groups create", "messaging-groups update",
    "messaging-groups delete", "wirings create", "wirings update", "wirings delete"}  # fmt: skip
OPERATORS_OPTIONS = frozenset({"cli-scope", "purge"})


def decide_command(caller: CallerKind, scope: str, command: str, options: Collection[str]) -> Verdict:
    """Decide about `RESOURCE VERB` with these options."""
    if caller is CallerKind.OPERATOR:
        return Allow("operator")
    if scope not in ("group", "global"):
        return Deny("cli_disabled", "ncl is switched off for this assistant.")
    reads, writes = (ALL_READS, ALL_WRITES) if scope == "global" else (OWN_READS, OWN_WRITES | REACHING_WRITES)
    if command in reads:
        return Allow(f"cli_{scope}")
    if command in writes and OPERATORS_OPTIONS.isdisjoint(options):
        return Ask(AskWhom.OWN if scope == "group" and command in OWN_WRITES else AskWhom.ALL)
    return Deny("cli_not_for_agents", "This cannot be done from a sandbox. Ask the person who runs this NanoClaw.")


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
