"""What host and gateway say to each other of the vault; seen by others through control.py. Never: prints a value."""

from __future__ import annotations

import msgspec


class Unlock(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: open the vault. Answered by `VaultState`."""

    passphrase: str

    def __repr__(self) -> str:
        """Hide the passphrase."""
        return "Unlock(***)"


class TokenWanted(msgspec.Struct, frozen=True, tag=True):
    """Host to gateway: a channel needs its token. Answered by `Token`."""

    name: str


class VaultState(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: whether the vault is open, and by what it is protected; `error`: why it could not be opened."""

    locked: bool
    by: str
    error: str = ""


class KeepPassphrase(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: what opens the vault from now on; "" nothing does."""

    passphrase: str

    def __repr__(self) -> str:
        """Hide the passphrase."""
        return "KeepPassphrase(***)"


class Token(msgspec.Struct, frozen=True, tag=True):
    """Gateway to host: a channel's token, None when there is none that is for the host."""

    name: str
    value: str | None

    def __repr__(self) -> str:
        """Hide the value."""
        return f"Token(name={self.name!r}, value=***)"


VaultMessage = Unlock | TokenWanted
VaultEvent = VaultState | KeepPassphrase | Token
