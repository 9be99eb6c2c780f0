"""The vault in use: unlocked, changed, handed out to the host by name; one change at a time, each written down.

In: requests of the operator, messages of the host. Out: answers without values; a channel's token to the host alone.
Writes: the vault, the ledger. Never: hands out a secret that is not marked for the host.
Fails: OperatorError in plain words; wrong passphrases are answered ever more slowly.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TypeVar, assert_never

from nanoclaw.clock import Clock
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words, control
from nanoclaw.gateway.ledger import Entry, Event, Ledger, LedgerError
from nanoclaw.gateway.new_secret import Wishes
from nanoclaw.gateway.policy import MODEL_SECRET, Caller
from nanoclaw.gateway.presets import PRESETS, Preset
from nanoclaw.gateway.vault import Vault, WrongPassphrase
from nanoclaw.gateway.vault_file import Protection, StoredSecret

PAUSE_MAX_SECONDS = 60
HOST = "the host"

VaultRequest = (
    admin_words.VaultSet
    | admin_words.VaultRotate
    | admin_words.VaultRemove
    | admin_words.VaultRekey
    | admin_words.VaultUnlock
    | admin_words.VaultList
    | admin_words.VaultPresets
)
Result = TypeVar("Result")


class Custody:
    """Who works on the vault. `on_open` is called when it was unlocked, `on_change` after a change."""

    def __init__(
        self, vault: Vault, ledger: Ledger, clock: Clock, tell: Callable[[control.GatewayEvent], None]
    ) -> None:
        self.vault = vault
        self.on_open: Callable[[], None] = lambda: None
        self.on_change: Callable[[], None] = lambda: None
        self._ledger = ledger
        self._clock = clock
        self._tell = tell
        self._turn = asyncio.Lock()
        self._wrong = 0
        self._not_before = 0.0
        self._key_told = self.model_key

    @property
    def model_key(self) -> bool:
        """Whether there is a model key; also known while the vault is locked."""
        return self.vault.holds(MODEL_SECRET)

    async def settled(self) -> None:
        """Return when no change is under way: a call made while the vault is being unlocked waits for it."""
        if self.vault.locked and self._turn.locked():
            async with self._turn:
                pass

    def state(self, error: str = "") -> control.VaultState:
        """Return whether the vault is open, and what protects it."""
        return control.VaultState(self.vault.locked, self.vault.protection, error)

    async def take(self, message: control.VaultMessage) -> None:
        """Do what the host asks, and tell it."""
        match message:
            case control.Unlock(passphrase=passphrase):
                try:
                    await self._unlock(passphrase, HOST)
                except OperatorError as error:
                    self._tell(self.state(str(error)))
            case control.TokenWanted(name=name):
                self._tell(control.Token(name, await self._hand_out(name)))
            case _:
                assert_never(message)

    async def perform(self, request: VaultRequest, uid: int) -> object:
        """Return the answer to the operator (admin_words.py says of which type). Raises OperatorError."""
        vault, who, now_ms = self.vault, f"uid {uid}", self._clock.now_ms()
        match request:
            case admin_words.VaultList():
                return [_line(stored) for stored in vault.list_stored()]
            case admin_words.VaultPresets():
                return [_preset_line(preset) for preset in PRESETS]
            case admin_words.VaultUnlock(passphrase=passphrase):
                return await self._unlock(passphrase, who)
            case admin_words.VaultSet(name=name, value=value, hosts=hosts):
                wishes = Wishes(request.kind, request.field, request.preset, request.for_host)
                stored = await self.change(vault.put, name, value, hosts, now_ms, wishes)
                await self._note("vault.set", f"{name} for {', '.join(stored.hosts) or HOST}", who)
                return _line(stored)
            case admin_words.VaultRotate(name=name, value=value):
                stored = await self.change(vault.rotate, name, value, now_ms)
                await self._note("vault.rotate", name, who)
                return _line(stored)
            case admin_words.VaultRemove(name=name):
                await self.change(vault.remove, name)
                await self._note("vault.rm", name, who)
                return True
            case admin_words.VaultRekey():
                return await self._rekey(request, who)
            case _:
                assert_never(request)

    async def change(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Do one change of the vault in a thread, when those before it are done."""
        async with self._turn:
            result = await asyncio.to_thread(work, *arguments)
        if self.model_key != self._key_told:
            self._key_told = self.model_key
            self._tell(control.ModelKey(self._key_told))
        self.on_change()
        return result

    async def _unlock(self, passphrase: str, who: str) -> bool:
        """Unlock the vault, and let the host keep what did: a gateway that was killed comes back by itself."""
        async with self._turn:
            pause = math.ceil(self._not_before - self._clock.monotonic())
            if pause > 0:
                raise OperatorError(f"The passphrase was wrong before; try again in {pause} s.")
            try:
                await asyncio.to_thread(self.vault.unlock, passphrase)
            except WrongPassphrase:
                self._wrong += 1
                self._not_before = self._clock.monotonic() + min(2**self._wrong / 2, PAUSE_MAX_SECONDS)
                await self._note("vault.unlock", "a wrong passphrase", who)
                raise
        self._wrong = 0
        self._tell(control.KeepPassphrase(passphrase))
        self._tell(self.state())
        self.on_open()
        await self._note("vault.unlock", "unlocked", who)
        return True

    async def _rekey(self, request: admin_words.VaultRekey, who: str) -> bool:
        by = next((by for by in Protection if by == request.by), None)
        if by is None:
            raise OperatorError(f"The vault can be protected by {', '.join(Protection)}.")
        if request.current:
            await asyncio.to_thread(self.vault.verify, request.current)
        await self.change(self.vault.rekey, by, request.passphrase)
        self._tell(control.KeepPassphrase("" if by is Protection.KEYFILE else request.passphrase))
        self._tell(self.state())
        await self._note("vault.rekey", f"new keys, under a {by}", who)
        return True

    async def _hand_out(self, name: str) -> str | None:
        """Return a channel's token, once it is written down that the host has it; None: none, not for the host."""
        found = self.vault.find(name)
        if found is None or not found[0].for_host:
            return None
        try:
            await self._note("vault.token", name, HOST)
        except LedgerError:
            return None
        return found[1].reveal()

    async def _note(self, verb: str, what: str, who: str) -> None:
        await self._ledger.record(Entry(Event.CHANGED, Caller("", 0, ""), rule=verb, reason=f"{what}, by {who}"))


def _line(stored: StoredSecret) -> admin_words.SecretLine:
    return admin_words.SecretLine(
        stored.name, stored.kind, stored.hosts, stored.set_at, stored.field, stored.for_host, stored.preset
    )


def _preset_line(preset: Preset) -> admin_words.PresetLine:
    return admin_words.PresetLine(
        preset.name, preset.title, preset.kind, preset.hosts, preset.begins, preset.env, preset.for_host
    )
