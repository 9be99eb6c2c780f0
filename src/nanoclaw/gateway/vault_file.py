"""What lies in vault.json: its two versions, and what each ciphertext is bound to.

In: the bytes of the file. Out: a `VaultFile`, whose secrets are still encrypted. Never: guesses at a damaged file, or
believes a setting of version 1's that its ciphertexts are not bound to.
Fails: OperatorError in plain words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from nanoclaw.errors import OperatorError

VERSION = 2
VAULT_FILE, KEY_FILE = "gateway/vault.json", "gateway/vault.key"  # as a person finds them in the home
HOME = "NanoClaw's home (~/.nanoclaw unless you chose another)"
MEND = (
    f"Restore it from a backup, or move {VAULT_FILE} and {KEY_FILE} in {HOME} away and set your keys again with "
    "`nanoclaw vault set anthropic`."
)


class Kind(StrEnum):
    """What a secret is, which says how it is sent."""

    ANTHROPIC_KEY = "anthropic-key"
    ANTHROPIC_OAUTH = "anthropic-oauth"
    BEARER = "bearer"  # Authorization: Bearer VALUE
    BASIC = "basic"  # Authorization: Basic, of user:password
    HEADER = "header"  # a header of its own
    QUERY = "query"  # a parameter of the query string
    PATH = "path"  # a segment of the path that begins with a word, as Telegram's /botTOKEN/
    OAUTH2 = "oauth2"  # bearer, with an access token that the gateway gets and renews
    CHANNEL = "channel"  # for the host alone
    GENERIC = "generic"  # of version 1: kept, but nothing says how it is sent


class Protection(StrEnum):
    """Where the key that encrypts the data key comes from."""

    KEYFILE = "keyfile"
    PASSPHRASE = "passphrase"
    KEYRING = "keyring"  # a passphrase made by chance, which the operating system's keyring keeps


class Way(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a secret is sent to one host, below one path, where that is not its usual way."""

    host: str
    prefix: str
    kind: Kind
    field: str = ""


class StoredSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret as it lies in the file. `set_at` in epoch milliseconds; `field` is a header, parameter, user or word."""

    name: str
    kind: Kind
    hosts: tuple[str, ...]
    set_at: int
    nonce: bytes
    data: bytes
    field: str = ""
    ways: tuple[Way, ...] = ()
    for_host: bool = False  # the host may be handed the value, for a channel
    preset: str = ""

    def find_way(self, host: str, path: str) -> Way:
        """Return how it is sent to a host below a path."""
        for way in self.ways:
            if way.host == host and path.startswith(way.prefix):
                return way
        return Way(host, "", self.kind, self.field)


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something of the gateway's own, such as the key of its certificate authority; no list shows it."""

    name: str
    nonce: bytes
    data: bytes


class Wrapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the data key is encrypted: by what, with which parameters of scrypt (RFC 7914; none for a key file)."""

    by: Protection = Protection.KEYFILE
    salt: bytes = b""
    n: int = 0
    r: int = 0
    p: int = 0


class WrappedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data key, encrypted."""

    nonce: bytes
    data: bytes


class VaultFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """vault.json. Of version 1 are only `version`, `data_key`, and a secret's first six fields."""

    version: int
    data_key: WrappedKey
    secrets: tuple[StoredSecret, ...] = ()
    wrapping: Wrapping = Wrapping()
    sealed: tuple[Sealed, ...] = ()


class _SecretOfOne(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    kind: Literal["anthropic-key", "anthropic-oauth", "generic"]
    hosts: tuple[str, ...]
    set_at: int
    nonce: bytes
    data: bytes


class _FileOfOne(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    data_key: WrappedKey
    secrets: tuple[_SecretOfOne, ...]


class _Versioned(msgspec.Struct):
    version: int


def parse_file(raw: bytes) -> VaultFile:
    """Return what is in vault.json. Raises OperatorError: damaged, cut short, or of a newer version."""
    try:
        version = msgspec.json.decode(raw, type=_Versioned).version
        if version > VERSION:
            raise OperatorError(
                f"{VAULT_FILE} was written by a newer NanoClaw (version {version}, this one knows {VERSION}). "
                "Update NanoClaw."
            )
        if version == VERSION:
            return msgspec.json.decode(raw, type=VaultFile)
        old = msgspec.json.decode(raw, type=_FileOfOne)
    except (msgspec.DecodeError, RecursionError) as error:
        raise OperatorError(f"{VAULT_FILE} is damaged or cut short ({error}). {MEND}") from None
    return VaultFile(1, old.data_key, tuple(_read_one(secret) for secret in old.secrets))


def _read_one(old: _SecretOfOne) -> StoredSecret:
    preset = "" if old.kind == "generic" else "anthropic"
    return StoredSecret(old.name, Kind(old.kind), old.hosts, old.set_at, old.nonce, old.data, preset=preset)


def write_file(file: VaultFile) -> bytes:
    """Return the bytes of vault.json."""
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def bind_secret(stored: StoredSecret, version: int = VERSION) -> bytes:
    """Return what a secret's ciphertext is bound to: all that is said about it."""
    if version == 1:
        return "|".join((stored.name, stored.kind, ",".join(stored.hosts), "1")).encode("ascii", "replace")
    bare = msgspec.structs.replace(stored, nonce=b"", data=b"")
    return b"secret|%d|" % version + msgspec.json.encode(bare)


def bind_sealed(name: str) -> bytes:
    """Return what a sealed entry's ciphertext is bound to."""
    return b"sealed|%d|%s" % (VERSION, name.encode())


def bind_data_key(wrapping: Wrapping, version: int = VERSION) -> bytes:
    """Return what the encrypted data key is bound to."""
    if version == 1:
        return b"nanoclaw vault data key|1"
    return b"nanoclaw vault data key|%d|" % version + msgspec.json.encode(wrapping)
