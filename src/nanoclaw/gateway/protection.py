"""What the data key is encrypted with: a key file beside the vault, or a key made of a passphrase by scrypt.

In: the gateway's directory, a passphrase. Out: 32 bytes. Writes: vault.key (0600), vault.key.next while keys
change. Never: reads a key file that others can read. Fails: OperatorError in plain words.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import unicodedata
from pathlib import Path

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.files import read_whole, sync_directory, write_whole
from nanoclaw.gateway.vault_file import HOME, KEY_FILE, MEND, VAULT_FILE, Protection, Wrapping

KEY_BYTES = 32
PASSPHRASE_MIN, PASSPHRASE_MAX = 8, 1024
SALT_BYTES = 16
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**16, 8, 1  # 0.3 s and 64 MiB here (security.md section 7)
SCRYPT_BYTES = 256 * 1024 * 1024  # what a vault file may make us spend
SCRYPT_N_MAX, SCRYPT_R_MAX, SCRYPT_P_MAX = 2**17, 8, 4


class KeyFile:
    """vault.key. While keys change the new one lies beside it: a change cut off anywhere leaves one that fits."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "vault.key"
        self._next = directory / "vault.key.next"

    def read(self) -> bytes:
        """Return the key in force. Raises OperatorError: missing, damaged, open to others."""
        key = _read_key(self._path)
        if key is None:
            raise OperatorError(f"The vault's key file {KEY_FILE} is missing. {MEND}")
        return key

    def find(self) -> bytes | None:
        """Return the key in force, None when there is no key file. Raises OperatorError as `read`."""
        return _read_key(self._path)

    def find_next(self) -> bytes | None:
        """Return the key that a change cut off left. Raises OperatorError as `read`."""
        return _read_key(self._next)

    def write(self, key: bytes) -> bytes:
        """Put a first key file in place; return the key. Raises OperatorError."""
        write_whole(self._path, key.hex().encode("ascii") + b"\n")
        return key

    def propose(self, key: bytes) -> None:
        """Lay the next key beside the one in force. Raises OperatorError."""
        write_whole(self._next, key.hex().encode("ascii") + b"\n")

    def adopt(self) -> None:
        """Put the next key in force. Raises OperatorError."""
        try:
            self._next.rename(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            raise OperatorError(f"{KEY_FILE} cannot be replaced: {error.strerror}. Start NanoClaw again.") from None

    def discard_next(self) -> None:
        """Forget a next key that no vault was written for."""
        with contextlib.suppress(OSError):
            self._next.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget every key file: a passphrase is in force. Raises OperatorError."""
        try:
            for path in (self._path, self._next):
                path.unlink(missing_ok=True)
            sync_directory(self._path.parent)
        except OSError as error:
            raise OperatorError(f"{KEY_FILE} cannot be removed: {error.strerror}. Remove it by hand.") from None


def _read_key(path: Path) -> bytes | None:
    raw = read_whole(path)
    if raw is None:
        return None
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise OperatorError(
            f"Others can read the vault's key file gateway/{path.name}, so it is not used. Run "
            f"`chmod 600 gateway/{path.name}` in {HOME}, and set your keys anew if this machine is shared."
        )
    with contextlib.suppress(ValueError):
        key = bytes.fromhex(raw.decode("ascii"))
        if len(key) == KEY_BYTES:
            return key
    raise OperatorError(f"The vault's key file gateway/{path.name} is damaged. {MEND}")


def new_wrapping(by: Protection, passphrase: str, n: int) -> Wrapping:
    """Return the parameters of a new passphrase; `n` is what each guess at it costs. Raises OperatorError."""
    if not PASSPHRASE_MIN <= len(passphrase) <= PASSPHRASE_MAX:
        raise OperatorError(f"A passphrase has {PASSPHRASE_MIN} to {PASSPHRASE_MAX} characters. Nothing was changed.")
    return Wrapping(by, os.urandom(SALT_BYTES), n, SCRYPT_R, SCRYPT_P)


def derive_key(passphrase: str, wrapping: Wrapping) -> bytes:
    """Return the key of a passphrase. Takes 0.3 s and 64 MiB. Raises OperatorError for parameters that are not ours."""
    n, r, p = wrapping.n, wrapping.r, wrapping.p
    fits = 2 <= n <= SCRYPT_N_MAX and 1 <= r <= SCRYPT_R_MAX and 1 <= p <= SCRYPT_P_MAX
    if not fits or n & (n - 1) or len(wrapping.salt) < SALT_BYTES:
        raise OperatorError(f"{VAULT_FILE} is damaged (the parameters of its passphrase). {MEND}")
    words = unicodedata.normalize("NFKC", passphrase).encode()
    return hashlib.scrypt(words, salt=wrapping.salt, n=n, r=r, p=p, maxmem=SCRYPT_BYTES, dklen=KEY_BYTES)
