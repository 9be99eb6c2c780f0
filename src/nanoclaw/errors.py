"""Every error by whose fault it is; catch at the level that can mend it.

NanoClawError
├── OperatorError        the person at the keyboard can mend it; the message says how (exit 2)
├── PlatformError        a chat platform or model API said no: `retry_after_seconds`, `permanent`
├── SandboxError         a box could not be built or started; nothing ran
├── AgentFault           a hostile or broken agent; ends its run, never the host
│   └── MailboxBusy      the box holds a lock on its mailbox; look again later
├── Refused              a gate said no; `reason` is a plain sentence for the person refused
└── StoreError           the central database cannot be trusted; the host stops
    ├── StoreFull        no room on the disk: nothing was committed, try again when there is
    └── StaleClaim       a guarded update found its row already moved on

Standard library only: this file crosses the wall (mounted in every box).
"""

from __future__ import annotations


class NanoClawError(Exception):
    """The root; never raised itself."""


class OperatorError(NanoClawError):
    """The operator can mend it: the message says what happened, to what, and the command that mends it."""


class PlatformError(NanoClawError):
    """A platform refused or failed. `permanent` means a retry cannot help."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, permanent: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.permanent = permanent


class SandboxError(NanoClawError):
    """A box could not be built or started; `mend` is the command or step that mends it, may be empty."""

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend


class AgentFault(NanoClawError):
    """What came out of a box is hostile or broken. The run ends, the chat is told, the host goes on."""


class MailboxBusy(AgentFault):
    """The box holds a lock on `outbound.db`. Not a fault until it has lasted 30 s (architecture section 6)."""


class Refused(NanoClawError):
    """A gate said no. `reason` is a plain sentence shown to the person who was refused."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreError(NanoClawError):
    """The central database failed or cannot be trusted. The host stops rather than guess."""


class StoreFull(StoreError):
    """The disk is full: this transaction did not happen; the host goes on and tries again."""


class StaleClaim(StoreError):
    """A guarded update matched no row: another run or attempt owns it now."""
