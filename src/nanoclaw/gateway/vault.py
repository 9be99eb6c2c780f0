"""The secrets at rest: vault.json, one AES-256-GCM ciphertext a secret under a data key, that under a key file.

In: names, values and hosts from the operator. Out: `Secret`s, for inject.py and redact.py alone.
Writes: vault.json and vault.key in the gateway's directory (0600), whole, synced, renamed.
Never: shows a value (`Secret` prints ***), reads a key file that others can read, or guesses at a damaged file.
Fails: OperatorError in plain words.

The additional data of each ciphertext is name|kind|hosts|version, so a secret cannot be given other hosts by editing
the file. In key-file mode this protects backups and copies of vault.json, not a machine whose root is hostile.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.files import read_whole, write_whole
from nanoclaw.gateway.policy import MODEL_SECRET
from nanoclaw.gateway.target import MODEL_HOST

VERSION = 1
KEY_BYTES = 32
NONCE_BYTES = 12
SECRET_MIN = 8  # shorter ones would blot out ordinary words when answers are redacted
SECRET_MAX = 8192
VAULT_FILE, KEY_FILE = "gateway/vault.json", "gateway/vault.key"  # as a person finds them in the home
HOME = "NanoClaw's home (~/.nanoclaw unless you chose another)"
MEND = (
    f"Restore it from a backup, or move {VAULT_FILE} and {KEY_FILE} in {HOME} away and set your keys again with "
    "`nanoclaw vault set anthropic`."
)
DATA_KEY_AAD = b"nanoclaw vault data key|1"

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_VALUE = re.compile(r"[\x21-\x7e]+")


class Kind(StrEnum):
    """What a secret is, which says how it is sent."""

    ANTHROPIC_KEY = "anthropic-key"
    ANTHROPIC_OAUTH = "anthropic-oauth"
    GENERIC = "generic"


class Secret:
    """A value that prints as ***."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for injection and redaction alone."""
        return self._value

    def __repr__(self) -> str:
        """Hide the value."""
        return "***"

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied."""
        raise TypeError("a secret is not serialised")


class WrappedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data key, encrypted by the key file's."""

    nonce: bytes
    data: bytes


class StoredSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret as it lies in the file. `set_at` in epoch milliseconds."""

    name: str
    kind: Kind
    hosts: tuple[str, ...]
    set_at: int
    nonce: bytes
    data: bytes


class VaultFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """vault.json of version 1."""

    version: int
    data_key: WrappedKey
    secrets: tuple[StoredSecret, ...]


class _Versioned(msgspec.Struct):
    """Any version of vault.json."""

    version: int


@dataclass(frozen=True, slots=True)
class _Opened:
    """A secret and its value."""

    stored: StoredSecret
    secret: Secret


class Vault:
    """The open vault; one process at a time (main.py holds the lock)."""

    def __init__(self, directory: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self._path = directory / "vault.json"
        self._key_path = directory / "vault.key"
        self._random = random
        self._data_key = b""
        self._opened: dict[str, _Opened] = {}

    def load(self) -> None:
        """Read and decrypt everything; a directory without vault.json is an empty vault. Raises OperatorError."""
        raw = read_whole(self._path)
        if raw is None:
            return
        file = _parse_vault(raw)
        key = self._read_key_file()
        self._data_key = _decrypt(key, file.data_key.nonce, file.data_key.data, DATA_KEY_AAD, "data key")
        for stored in file.secrets:
            value = _decrypt(self._data_key, stored.nonce, stored.data, _bind(stored), stored.name)
            self._opened[stored.name] = _Opened(stored, Secret(value.decode("ascii")))

    def put(self, name: str, value: str, hosts: Sequence[str], now_ms: int) -> StoredSecret:
        """Keep a secret, in place of one of that name, and write the file. Raises OperatorError for bad input."""
        value = value.strip()
        kind, pinned = _classify(name, value, hosts)
        self._make_keys()
        bound = StoredSecret(name, kind, pinned, now_ms, self._random(NONCE_BYTES), b"")
        data = AESGCM(self._data_key).encrypt(bound.nonce, value.encode("ascii"), _bind(bound))
        stored = msgspec.structs.replace(bound, data=data)
        self._write({**self._opened, name: _Opened(stored, Secret(value))})
        return stored

    def remove(self, name: str) -> None:
        """Forget a secret and write the file. Raises OperatorError when there is none of that name."""
        if name not in self._opened:
            raise OperatorError(f"There is no secret named {name!r}. `nanoclaw vault list` shows the names.")
        self._write({known: opened for known, opened in self._opened.items() if known != name})

    def find(self, name: str) -> tuple[StoredSecret, Secret] | None:
        """Return a secret with its value, None when there is none."""
        opened = self._opened.get(name)
        return (opened.stored, opened.secret) if opened else None

    def list_stored(self) -> list[StoredSecret]:
        """Return what may be shown of every secret, by name."""
        return [self._opened[name].stored for name in sorted(self._opened)]

    def values(self) -> tuple[bytes, ...]:
        """Return every value, for redaction."""
        return tuple(opened.secret.reveal().encode("ascii") for opened in self._opened.values())

    def _write(self, opened: dict[str, _Opened]) -> None:
        """Write the whole file, then believe it."""
        nonce = self._random(NONCE_BYTES)
        wrapped = AESGCM(self._read_key_file()).encrypt(nonce, self._data_key, DATA_KEY_AAD)
        stored = tuple(opened[name].stored for name in sorted(opened))
        file = VaultFile(VERSION, WrappedKey(nonce, wrapped), stored)
        write_whole(self._path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
        self._opened = opened

    def _make_keys(self) -> None:
        if self._data_key:
            return
        if not self._key_path.exists():
            write_whole(self._key_path, self._random(KEY_BYTES).hex().encode("ascii") + b"\n")
        self._data_key = self._random(KEY_BYTES)

    def _read_key_file(self) -> bytes:
        raw = read_whole(self._key_path)
        if raw is None:
            raise OperatorError(f"The vault's key file {KEY_FILE} is missing. {MEND}")
        if stat.S_IMODE(self._key_path.stat().st_mode) & 0o077:
            raise OperatorError(
                f"Others can read the vault's key file {KEY_FILE}, so it is not used. Run `chmod 600 {KEY_FILE}` in "
                f"{HOME}, and set your keys anew if this machine is shared."
            )
        with contextlib.suppress(ValueError):
            key = bytes.fromhex(raw.decode("ascii"))
            if len(key) == KEY_BYTES:
                return key
        raise OperatorError(f"The vault's key file {KEY_FILE} is damaged. {MEND}")


def _classify(name: str, value: str, hosts: Sequence[str]) -> tuple[Kind, tuple[str, ...]]:
    """Return the kind of a secret and the hosts it is bound to; raises OperatorError naming what is wrong."""
    if not _NAME.fullmatch(name):
        raise OperatorError(
            f"{name[:64]!r} is no name for a secret: use small letters, digits, - and _, a letter first, at most 64."
        )
    if not SECRET_MIN <= len(value) <= SECRET_MAX or not _VALUE.fullmatch(value):
        raise OperatorError(
            f"The value for {name!r} is not usable: it must be {SECRET_MIN} to {SECRET_MAX} printable ASCII characters "
            "without spaces or line breaks."
        )
    if name == MODEL_SECRET:
        if hosts and tuple(hosts) != (MODEL_HOST,):
            raise OperatorError(f"The secret {MODEL_SECRET!r} is bound to {MODEL_HOST}; leave --host out.")
        if not value.startswith("sk-ant-"):
            raise OperatorError("This does not look like an Anthropic key: those begin with sk-ant-.")
        oauth = value.startswith("sk-ant-oat")
        return (Kind.ANTHROPIC_OAUTH if oauth else Kind.ANTHROPIC_KEY), (MODEL_HOST,)
    if not hosts:
        raise OperatorError(f"Say where the secret {name!r} may be sent: --host HOST, at least one.")
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise OperatorError(f"{host[:64]!r} is no host name: write it in small letters, without scheme or port.")
    return Kind.GENERIC, tuple(hosts)


def _bind(stored: StoredSecret) -> bytes:
    """Return what a ciphertext is bound to."""
    return "|".join((stored.name, stored.kind, ",".join(stored.hosts), str(VERSION))).encode("ascii", "replace")


def _parse_vault(raw: bytes) -> VaultFile:
    try:
        version = msgspec.json.decode(raw, type=_Versioned).version
        if version > VERSION:
            raise OperatorError(
                f"{VAULT_FILE} was written by a newer NanoClaw (version {version}, this one knows {VERSION}). "
                "Update NanoClaw."
            )
        return msgspec.json.decode(raw, type=VaultFile)
    except msgspec.DecodeError as error:
        raise OperatorError(f"{VAULT_FILE} is damaged or cut short ({error}). {MEND}") from None


def _decrypt(key: bytes, nonce: bytes, data: bytes, bound: bytes, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, data, bound)
    except (InvalidTag, ValueError):
        raise OperatorError(
            f"{VAULT_FILE} cannot be decrypted ({what}): it or its key file was changed. {MEND}"
        ) from None
