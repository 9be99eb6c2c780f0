"""The secrets at rest: one AES-256-GCM ciphertext each under a data key, that under a key file or a passphrase.

In: names, values and hosts from the operator. Out: `Secret`s, for inject.py, redaction, OAuth and the host's channels.
Writes: vault.json and vault.key in the gateway's directory (0600), whole, synced, renamed.
Never: shows a value (`Secret` prints ***), reads a key file that others can read, guesses at a damaged file, or serves
anything while it is locked. Fails: OperatorError in plain words.

Each ciphertext is bound to all that is said about its secret, so none can be given other hosts, or to the host, by
editing the file. In key-file mode this protects backups and copies of vault.json, not a machine whose root is hostile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nanoclaw.errors import OperatorError
from nanoclaw.gateway import envelope
from nanoclaw.gateway.files import read_whole, write_whole
from nanoclaw.gateway.new_secret import Wishes, check_new, check_value
from nanoclaw.gateway.protection import KEY_BYTES, SCRYPT_N, KeyFile, derive_key, new_wrapping
from nanoclaw.gateway.secret import Secret
from nanoclaw.gateway.vault_file import (
    VERSION,
    Kind,
    Protection,
    StoredSecret,
    VaultFile,
    WrappedKey,
    Wrapping,
    parse_file,
    write_file,
)
from nanoclaw.gateway.wire_form import wire_forms

__all__ = ["Kind", "Secret", "StoredSecret", "Vault", "VaultLocked", "WrongPassphrase"]

LOCKED = "The vault is locked: `nanoclaw vault unlock`"


class VaultLocked(OperatorError):
    """Nothing can be used or changed before the passphrase is given."""

    def __init__(self) -> None:
        super().__init__(LOCKED)


class WrongPassphrase(OperatorError):
    """The passphrase does not open this vault."""

    def __init__(self) -> None:
        super().__init__("That is not the vault's passphrase; nothing was changed.")


class Vault:
    """The vault; one process at a time (main.py holds the lock). `scrypt_n` is what a new passphrase costs."""

    def __init__(self, directory: Path, scrypt_n: int = SCRYPT_N) -> None:
        self._path = directory / "vault.json"
        self._key_file = KeyFile(directory)
        self._scrypt_n = scrypt_n
        self._file = VaultFile(VERSION, WrappedKey(b"", b""))
        self._data_key = b""
        self._opened: dict[str, tuple[StoredSecret, Secret]] = {}
        self._retired: dict[bytes, None] = {}  # what was in force since this process began stays redacted
        self._passing: dict[str, tuple[bytes, ...]] = {}  # access tokens, by the secret that got them
        self._values: tuple[bytes, ...] = ()

    @property
    def locked(self) -> bool:
        """Whether a passphrase is needed first."""
        return not self._data_key

    @property
    def protection(self) -> Protection:
        """What the data key is encrypted with."""
        return self._file.wrapping.by

    def load(self) -> None:
        """Read everything, decrypt it unless a passphrase is needed; make the keys at the first start."""
        raw = read_whole(self._path)
        if raw is None:
            self._begin()
            return
        self._file = parse_file(raw)
        if self.protection is Protection.KEYFILE:
            self._open(self._unwrap_by_file())

    def unlock(self, passphrase: str) -> None:
        """Decrypt everything; 0.3 s, not for the loop. Raises WrongPassphrase, OperatorError for a damaged file."""
        data_key = self.verify(passphrase)
        if self.locked:
            self._open(data_key)
            self._key_file.remove()  # of a change that was cut off

    def verify(self, passphrase: str) -> bytes:
        """Return the data key that this passphrase opens; 0.3 s. Raises WrongPassphrase."""
        data_key = None
        if self.protection is not Protection.KEYFILE:
            data_key = envelope.unwrap(derive_key(passphrase, self._file.wrapping), self._file)
        if data_key is None:
            raise WrongPassphrase
        return data_key

    def put(
        self, name: str, value: str, hosts: Sequence[str], now_ms: int, wishes: Wishes | None = None
    ) -> StoredSecret:
        """Keep a secret, in place of one of that name, and write the file. Raises OperatorError for bad input."""
        return self._keep(*check_new(name, value, hosts, wishes or Wishes(), now_ms))

    def rotate(self, name: str, value: str, now_ms: int) -> StoredSecret:
        """Give a secret a new value, with the hosts and kind it has. Raises OperatorError."""
        draft = msgspec.structs.replace(self._get(name), set_at=now_ms)
        return self._keep(*check_value(draft, value))

    def renew(self, name: str, known: Secret, value: str) -> None:
        """Keep what a service gave in place of `known`; without effect when the operator changed it meanwhile."""
        found = self._opened.get(name)
        if found is not None and found[1] is known:
            self._keep(found[0], value)

    def remove(self, name: str) -> None:
        """Forget a secret and write the file. Raises OperatorError when there is none of that name."""
        self._get(name)
        self._write(self._without(name), {known: pair for known, pair in self._opened.items() if known != name})

    def rekey(self, by: Protection, passphrase: str = "") -> None:
        """Encrypt everything anew, under a new data key and a new key file or this passphrase (0.3 s).

        Killed at any step it leaves a vault that opens: a new key file lies beside the old one until the vault that
        needs it is in place, and an old one is removed after. Raises OperatorError.
        """
        data_key = self._require()
        wrapping, key, fresh = Wrapping(), os.urandom(KEY_BYTES), os.urandom(KEY_BYTES)
        if by is Protection.KEYFILE:
            self._key_file.propose(key)
        else:
            wrapping = new_wrapping(by, passphrase, self._scrypt_n)
            key = derive_key(passphrase, wrapping)
        file = envelope.reencrypt(self._file, data_key, fresh, wrapping, key)
        self._write_file(file)
        self._data_key = fresh
        self._opened = {stored.name: (stored, self._opened[stored.name][1]) for stored in file.secrets}
        if by is Protection.KEYFILE:
            self._key_file.adopt()
        else:
            self._key_file.remove()

    def seal(self, name: str, data: bytes) -> None:
        """Keep something of the gateway's own, which no list shows. Raises OperatorError."""
        fresh = envelope.seal(self._require(), name, data)
        others = tuple(sealed for sealed in self._file.sealed if sealed.name != name)
        self._write_file(msgspec.structs.replace(self._file, sealed=(*others, fresh)))

    def unseal(self, name: str) -> bytes | None:
        """Return what was sealed under a name, None when nothing was. Raises VaultLocked, OperatorError for damage."""
        data_key = self._require()
        return next((envelope.unseal(data_key, sealed) for sealed in self._file.sealed if sealed.name == name), None)

    def find(self, name: str) -> tuple[StoredSecret, Secret] | None:
        """Return a secret with its value, None when there is none, and for every name while it is locked."""
        return self._opened.get(name)

    def holds(self, name: str) -> bool:
        """Whether there is a secret of that name; also known while it is locked."""
        return any(stored.name == name for stored in self._file.secrets)

    def list_stored(self) -> list[StoredSecret]:
        """Return what may be shown of every secret, by name; also while it is locked."""
        return sorted(self._file.secrets, key=lambda stored: stored.name)

    def values(self) -> tuple[bytes, ...]:
        """Return all that is redacted, also values of before: the same tuple until something changes."""
        return self._values

    def note_passing(self, name: str, tokens: Sequence[str]) -> None:
        """Redact these access tokens from now on, in place of earlier ones of this secret."""
        self._passing[name] = tuple(token.encode("ascii") for token in tokens)
        self._values = self._gather(self._opened)

    def _begin(self) -> None:
        """Make the keys and an empty vault; a key file that a cut-off start left is used."""
        key = self._key_file.find() or self._key_file.write(os.urandom(KEY_BYTES))
        fresh = os.urandom(KEY_BYTES)
        self._write_file(VaultFile(VERSION, envelope.wrap(key, fresh, Wrapping())))
        self._data_key = fresh

    def _unwrap_by_file(self) -> bytes:
        """Return the data key; after a change of keys that was cut off, by the key file beside the old one."""
        following = self._key_file.find_next()
        if following is not None and (data_key := envelope.unwrap(following, self._file)) is not None:
            self._key_file.adopt()
            return data_key
        if (data_key := envelope.unwrap(self._key_file.read(), self._file)) is None:
            raise envelope.damaged("data key")
        self._key_file.discard_next()
        return data_key

    def _open(self, data_key: bytes) -> None:
        """Decrypt every secret; a file of version 1 becomes one of this version, written at the next change."""
        file = self._file
        opened = {s.name: (s, envelope.decrypt(data_key, s, file.version)) for s in file.secrets}
        if file.version != VERSION:
            self._file = envelope.reencrypt(file, data_key, data_key, Wrapping(), self._key_file.read())
        self._data_key = data_key
        self._values = self._gather(opened)
        self._opened = opened

    def _require(self) -> bytes:
        """Return the data key. Raises VaultLocked."""
        if self.locked:
            raise VaultLocked
        return self._data_key

    def _get(self, name: str) -> StoredSecret:
        self._require()
        if (found := next((stored for stored in self._file.secrets if stored.name == name), None)) is None:
            raise OperatorError("There is no secret of that name. `nanoclaw vault list` shows the names.")
        return found

    def _without(self, name: str) -> tuple[StoredSecret, ...]:
        return tuple(stored for stored in self._file.secrets if stored.name != name)

    def _keep(self, draft: StoredSecret, value: str) -> StoredSecret:
        stored = envelope.encrypt(self._require(), draft, value)
        self._write((*self._without(stored.name), stored), {**self._opened, stored.name: (stored, Secret(value))})
        return stored

    def _write(self, secrets: tuple[StoredSecret, ...], opened: dict[str, tuple[StoredSecret, Secret]]) -> None:
        """Write the file, then believe it: what is used is redacted first, a secret and its hosts change together."""
        self._write_file(msgspec.structs.replace(self._file, secrets=secrets))
        for name, before in self._opened.items():
            if opened.get(name) is not before:
                self._retired.update(dict.fromkeys(wire_forms(*before)))
        self._values = self._gather(opened)
        self._opened = opened

    def _write_file(self, file: VaultFile) -> None:
        write_whole(self._path, write_file(file))
        self._file = file

    def _gather(self, opened: dict[str, tuple[StoredSecret, Secret]]) -> tuple[bytes, ...]:
        forms = [form for pair in opened.values() for form in wire_forms(*pair)]
        passing = [token for tokens in self._passing.values() for token in tokens]
        return tuple(dict.fromkeys((*forms, *passing, *self._retired)))
