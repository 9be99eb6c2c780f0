"""The vault's lock on the command line: asking for its passphrase, opening it, choosing what it lies under."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import click

from nanoclaw.cli.gateway_link import GatewayDesk, open_gateway
from nanoclaw.cli.host_process import host_runs
from nanoclaw.config import Config, read_secret_file
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words
from nanoclaw.keyring import CURRENT, NEXT, clear_passphrase, find_passphrases, keep_passphrase

LOCKS = MappingProxyType({"keyfile": "a key file", "passphrase": "a passphrase", "keyring": "the system's keyring"})
LOCKED = "The vault is locked: `nanoclaw vault unlock`"


@contextmanager
def open_vault(config: Config, *, unlocked: bool = True) -> Generator[GatewayDesk]:
    """Yield who answers for this home's vault; opened first where no host runs. Raises OperatorError."""
    with open_gateway(config) as gateway:
        if unlocked:
            status = gateway.ask(admin_words.Status(), admin_words.GatewayStatus)
            if status.vault_locked and host_runs(config.paths):
                raise OperatorError(LOCKED)
            if status.vault_locked:
                try_passphrases(gateway, known_passphrases(config, status, None))
        yield gateway


def known_passphrases(config: Config, status: admin_words.GatewayStatus, path: Path | None) -> list[str]:
    """Return what may open the vault: of a file, of the keyring, or as a person types it. Raises OperatorError."""
    file = path or config.passphrase_file
    if file is not None:
        return [read_secret_file(file)]
    if status.vault_by == "keyring":
        return find_passphrases(config.install)
    if not sys.stdin.isatty():
        raise OperatorError(f"{LOCKED}. Here nobody can be asked: give --file, or set $CREDENTIALS_DIRECTORY")
    return [str(click.prompt("Passphrase of the vault", hide_input=True))]


def try_passphrases(gateway: GatewayDesk, passphrases: list[str]) -> None:
    """Open the vault with one of these. Raises OperatorError in the gateway's words."""
    failure = OperatorError("The keyring holds no passphrase for this vault. Unlock the keyring and try again.")
    for passphrase in passphrases:
        try:
            gateway.ask(admin_words.VaultUnlock(passphrase), bool)
        except OperatorError as error:
            failure = error
        else:
            return
    raise failure


def unlock(config: Config, path: Path | None) -> None:
    """Open the vault of the running host. Raises OperatorError."""
    if not host_runs(config.paths):
        raise OperatorError("no host runs, so there is nothing to unlock. Start it with `nanoclaw up`, then unlock it")
    with open_gateway(config) as gateway:
        status = gateway.ask(admin_words.Status(), admin_words.GatewayStatus)
        if status.vault_locked:
            try_passphrases(gateway, known_passphrases(config, status, path))


def protect(config: Config, by: str, path: Path | None) -> None:
    """Put the vault under something else. Raises OperatorError."""
    with open_vault(config) as gateway:
        if by == "keyring":
            rekey_by_keyring(config, gateway)
        else:
            gateway.ask(admin_words.VaultRekey(by, read_new(path) if by == "passphrase" else ""), bool)
    if by != "keyring":
        clear_passphrase(config.install)


def rotate_keys(config: Config) -> None:
    """Give the vault new keys under what protects it now. Raises OperatorError."""
    with open_vault(config) as gateway:
        by = gateway.ask(admin_words.Status(), admin_words.GatewayStatus).vault_by
        if by == "keyring":
            rekey_by_keyring(config, gateway)
        elif by == "passphrase":
            passphrase = known_passphrases(config, gateway.ask(admin_words.Status(), admin_words.GatewayStatus), None)[
                0
            ]
            gateway.ask(admin_words.VaultRekey(by, passphrase, current=passphrase), bool)
        else:
            gateway.ask(admin_words.VaultRekey(by), bool)


def rekey_by_keyring(config: Config, gateway: GatewayDesk) -> None:
    """Put the vault under a passphrase made by chance. It lies in the keyring before the vault needs it."""
    passphrase = secrets.token_hex(32)
    keep_passphrase(config.install, NEXT, passphrase)
    gateway.ask(admin_words.VaultRekey("keyring", passphrase), bool)
    keep_passphrase(config.install, CURRENT, passphrase)
    clear_passphrase(config.install, NEXT)


def read_new(path: Path | None) -> str:
    """Return a new passphrase, typed twice where a person types it."""
    if path is not None:
        return read_secret_file(path)
    if not sys.stdin.isatty():
        raise OperatorError("a new passphrase is typed on a terminal, or read with --file")
    return str(click.prompt("New passphrase of the vault", hide_input=True, confirmation_prompt=True))
