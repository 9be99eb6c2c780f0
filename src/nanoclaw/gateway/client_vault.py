"""What the host knows of the vault: whether it is open, the passphrase that opens it again, tokens of its channels.

In: the gateway's events. Out: messages to it. Never: writes a passphrase or a token anywhere, or prints one.
The host keeps the passphrase in memory, so that a gateway that was killed opens the vault again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import assert_never

from nanoclaw.errors import OperatorError
from nanoclaw.gateway import control
from nanoclaw.gateway.secret import Secret

TOKEN_SECONDS = 5.0


class VaultLink:
    """The vault as the host knows it. `state` is what the gateway said last; `on_state` (set by host.py) hears it."""

    def __init__(self, send: Callable[[control.VaultMessage], None]) -> None:
        self.state = control.VaultState(locked=False, by="keyfile")
        self.on_state: Callable[[control.VaultState], None] = lambda state: None
        self._send = send
        self._passphrase: Secret | None = None
        self._wanted: dict[str, list[asyncio.Future[str | None]]] = {}

    @property
    def knows_passphrase(self) -> bool:
        """Whether there is a passphrase to open the vault with."""
        return self._passphrase is not None

    def unlock(self, passphrase: Secret) -> None:
        """Open the vault with this, now and after each start of a gateway. Never blocks."""
        self._passphrase = passphrase
        self._send(control.Unlock(passphrase.reveal()))

    def started(self) -> None:
        """Open the vault of a gateway that was just started, and ask again for what the last one left unanswered."""
        if self._passphrase is not None:
            self._send(control.Unlock(self._passphrase.reveal()))
        for name in self._wanted:
            self._send(control.TokenWanted(name))

    async def token(self, name: str) -> Secret | None:
        """Return a channel's token, None when there is none that is for the host. Raises OperatorError."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        waiting = self._wanted.setdefault(name, [])
        waiting.append(future)
        self._send(control.TokenWanted(name))
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                value = await future
        except TimeoutError:
            raise OperatorError("The gateway did not answer in time. Look at `nanoclaw logs`.") from None
        finally:
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._wanted.pop(name, None)
        if value is None and self.state.locked:
            raise OperatorError("The vault is locked: `nanoclaw vault unlock`")
        return None if value is None else Secret(value)

    def received(self, event: control.VaultEvent) -> None:
        """Take what the gateway says."""
        match event:
            case control.VaultState(error=error):
                if error:
                    self._passphrase = None  # it is wrong: not tried again at the next start
                self.state = event
                self.on_state(event)
            case control.KeepPassphrase(passphrase=passphrase):
                self._passphrase = Secret(passphrase) if passphrase else None
            case control.Token(name=name, value=value):
                for future in self._wanted.pop(name, []):
                    if not future.done():
                        future.set_result(value)
            case _:
                assert_never(event)
