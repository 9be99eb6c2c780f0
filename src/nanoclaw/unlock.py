"""Keeps the vault open: with a passphrase file, or what the system's keyring holds, at every start of a gateway.

In: what the gateway says of its vault. Out: passphrases to it. Never: logs one, or asks a person (cli/vault_lock.py).
Fails: OperatorError for a passphrase file that cannot be read; a keyring that cannot be asked is logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from nanoclaw.config import Config, read_secret_file
from nanoclaw.errors import OperatorError
from nanoclaw.gateway.client import Secret, VaultLink
from nanoclaw.gateway.control import VaultState
from nanoclaw.keyring import find_passphrases
from nanoclaw.log import Log

PAUSE_SECONDS = 1.2  # the gateway takes another passphrase a second after a first wrong one

Spawn = Callable[[Coroutine[Any, Any, None], str], None]


class VaultOpener:
    """What hears the gateway's `VaultState`."""

    def __init__(self, vault: VaultLink, config: Config, log: Log, spawn: Spawn) -> None:
        self._vault = vault
        self._config = config
        self._log = log
        self._spawn = spawn
        self._left: list[str] = []

    def start(self) -> None:
        """Begin to listen. Raises OperatorError."""
        if self._config.passphrase_file is not None:
            self._vault.unlock(Secret(read_secret_file(self._config.passphrase_file)))
        self._vault.on_state = self._hear

    def _hear(self, state: VaultState) -> None:
        if not state.locked:
            self._log.info("vault.opened", by=state.by)
        elif self._vault.knows_passphrase:
            return  # it is being tried
        elif state.by == "keyring" and not state.error:
            self._spawn(self._ask_keyring(), "vault keyring")
        elif self._left:
            self._spawn(self._try_next(), "vault keyring")
        else:
            self._log.warning("vault.locked", by=state.by, error=state.error)

    async def _ask_keyring(self) -> None:
        try:
            self._left = await asyncio.to_thread(find_passphrases, self._config.install)
        except OperatorError as error:
            self._log.warning("vault.locked", by="keyring", error=str(error))
            return
        if self._left:
            self._vault.unlock(Secret(self._left.pop(0)))
        else:
            self._log.warning("vault.locked", by="keyring", error="the keyring holds no passphrase for this vault")

    async def _try_next(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        self._vault.unlock(Secret(self._left.pop(0)))
