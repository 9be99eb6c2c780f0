"""AES-256-GCM around each thing in the vault's file, bound to what is said about it.

In: keys, values and their settings. Out: the same as they lie in the file, and back. Never: writes, or keeps a key.
Fails: OperatorError for what was changed or damaged; InvalidTag alone where another key may fit.
"""

from __future__ import annotations

import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.secret import Secret
from nanoclaw.gateway.vault_file import (
    MEND,
    VAULT_FILE,
    VERSION,
    Sealed,
    StoredSecret,
    VaultFile,
    WrappedKey,
    Wrapping,
    bind_data_key,
    bind_sealed,
    bind_secret,
)

NONCE_BYTES = 12


def wrap(key: bytes, data_key: bytes, wrapping: Wrapping) -> WrappedKey:
    """Return the data key, encrypted under `key`."""
    nonce = os.urandom(NONCE_BYTES)
    return WrappedKey(nonce, AESGCM(key).encrypt(nonce, data_key, bind_data_key(wrapping)))


def unwrap(key: bytes, file: VaultFile) -> bytes | None:
    """Return the data key of a file, None when `key` does not fit. Raises OperatorError for damage."""
    bound = bind_data_key(file.wrapping, file.version)
    try:
        return AESGCM(key).decrypt(file.data_key.nonce, file.data_key.data, bound)
    except InvalidTag:
        return None
    except ValueError:
        raise damaged("data key") from None


def encrypt(data_key: bytes, draft: StoredSecret, value: str) -> StoredSecret:
    """Return a secret as it lies in the file."""
    nonce = os.urandom(NONCE_BYTES)
    data = AESGCM(data_key).encrypt(nonce, value.encode("ascii"), bind_secret(draft))
    return msgspec.structs.replace(draft, nonce=nonce, data=data)


def decrypt(data_key: bytes, stored: StoredSecret, version: int) -> Secret:
    """Return a secret's value. Raises OperatorError."""
    return Secret(_open(data_key, stored.nonce, stored.data, bind_secret(stored, version), stored.name).decode("ascii"))


def seal(data_key: bytes, name: str, data: bytes) -> Sealed:
    """Return something of the gateway's own as it lies in the file."""
    nonce = os.urandom(NONCE_BYTES)
    return Sealed(name, nonce, AESGCM(data_key).encrypt(nonce, data, bind_sealed(name)))


def unseal(data_key: bytes, sealed: Sealed) -> bytes:
    """Return what was sealed. Raises OperatorError."""
    return _open(data_key, sealed.nonce, sealed.data, bind_sealed(sealed.name), sealed.name)


def reencrypt(file: VaultFile, data_key: bytes, fresh: bytes, wrapping: Wrapping, key: bytes) -> VaultFile:
    """Return a file of this version with everything under the data key `fresh`, that under `key`."""
    secrets = tuple(encrypt(fresh, s, decrypt(data_key, s, file.version).reveal()) for s in file.secrets)
    sealed = tuple(seal(fresh, s.name, unseal(data_key, s)) for s in file.sealed)
    return VaultFile(VERSION, wrap(key, fresh, wrapping), secrets, wrapping, sealed)


def damaged(what: str) -> OperatorError:
    """Return what is said of something that no key fits."""
    return OperatorError(f"{VAULT_FILE} cannot be decrypted ({what}): it or its key file was changed. {MEND}")


def _open(key: bytes, nonce: bytes, data: bytes, bound: bytes, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, data, bound)
    except (InvalidTag, ValueError):
        raise damaged(what) from None
