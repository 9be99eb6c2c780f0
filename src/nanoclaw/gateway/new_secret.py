"""What the operator wants kept, checked before it is: kind, hosts, settings and the value itself.

In: a name, a value, hosts and wishes. Out: a `StoredSecret` without its ciphertext, and the value as it is kept.
Never: repeats a value, or a name that might be one, in what it says. Fails: OperatorError in plain words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.oauth_grant import parse_grant
from nanoclaw.gateway.presets import PRESETS, Preset, find_owner, find_preset
from nanoclaw.gateway.vault_file import Kind, StoredSecret

SECRET_MIN = 8  # shorter ones would blot out ordinary words when answers are redacted
SECRET_MAX = 8192
TOKEN_LENGTH = 16  # a name this long that begins as a service's secrets do is one, pasted in the wrong place
WANTED_KINDS = (Kind.BEARER, Kind.HEADER, Kind.BASIC, Kind.QUERY, Kind.PATH, Kind.OAUTH2, Kind.CHANNEL)

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.[a-z]([a-z0-9-]*[a-z0-9])?"
)
_PLAIN = re.compile(r"[\x21-\x7e]+")
_BASIC = re.compile(r"[\x21-\x39\x3b-\x7e]+:[\x20-\x7e]+")  # RFC 7617: no colon in the user name
_IN_PATH = re.compile(r"[A-Za-z0-9._~:-]+")
_FIELD = {
    Kind.HEADER: (re.compile(r"[a-z0-9][a-z0-9-]{0,63}"), "--header NAME"),
    Kind.QUERY: (re.compile(r"[A-Za-z0-9_.-]{1,64}"), "--param NAME"),
    Kind.PATH: (re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}"), "--param WORD, such as bot for /botTOKEN/"),
}
_WRITTEN_BY_US = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect", "content-type"}
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a secret is to be sent, as far as the operator said so."""

    kind: str = ""
    field: str = ""
    preset: str = ""  # "": the one of the secret's own name
    for_host: bool = False


def check_new(name: str, value: str, hosts: Sequence[str], wishes: Wishes, now_ms: int) -> tuple[StoredSecret, str]:
    """Return what is kept of a secret, and its value. Raises OperatorError naming what is wrong."""
    if not _NAME.fullmatch(name) or (len(name) >= TOKEN_LENGTH and find_owner(name)):
        raise OperatorError(
            "That is no name for a secret: use small letters, digits, - and _, a letter first, at most 64. The name is "
            "yours to choose; the value is asked for."
        )
    preset = find_preset(wishes.preset or name)
    if wishes.preset and preset is None:
        raise OperatorError(f"There is no preset of that name. `nanoclaw vault presets` lists {len(PRESETS)}.")
    stored = _from_preset(name, preset, hosts, wishes) if preset else _from_wishes(name, hosts, wishes)
    return check_value(msgspec.structs.replace(stored, set_at=now_ms), value)


def check_value(stored: StoredSecret, value: str) -> tuple[StoredSecret, str]:
    """Return a secret and its value as they are kept. Raises OperatorError when the value cannot be this one's."""
    value, preset = value.strip(), find_preset(stored.preset)
    if stored.kind is Kind.OAUTH2:
        return stored, parse_grant(value, preset.token_url if preset else "").encode()
    shape, said = _PLAIN, "printable ASCII characters without spaces or line breaks"
    if stored.kind is Kind.BASIC and not stored.field:
        shape, said = _BASIC, "printable ASCII characters, written user:password"
    elif stored.kind is Kind.PATH:
        shape, said = _IN_PATH, "letters, digits and . _ ~ : -, since it is sent in the path"
    if not SECRET_MIN <= len(value) <= SECRET_MAX or not shape.fullmatch(value):
        raise OperatorError(
            f"The value for {stored.name!r} is not usable: it must be {SECRET_MIN} to {SECRET_MAX} {said}."
        )
    if preset is not None and preset.begins:
        owner = find_owner(value)
        if owner is not preset:
            other = f"It looks like one of: {owner.title}." if owner else "Nothing was changed."
            article = f"This does not look like what {preset.name!r} wants ({preset.title}): "
            raise OperatorError(f"{article}those begin with {' or '.join(preset.begins)}. {other}")
    if preset is not None and preset.kind is Kind.ANTHROPIC_KEY:
        oauth = value.startswith("sk-ant-oat")
        stored = msgspec.structs.replace(stored, kind=Kind.ANTHROPIC_OAUTH if oauth else Kind.ANTHROPIC_KEY)
    return stored, value


def _from_preset(name: str, preset: Preset, hosts: Sequence[str], wishes: Wishes) -> StoredSecret:
    """Return a service's secret; hosts may be left out of a preset, none added."""
    if wishes.kind not in ("", preset.kind) or wishes.field not in ("", preset.field):
        raise OperatorError(
            f"The preset {preset.name!r} says how its secret is sent; leave --kind, --header and --param out, or "
            "choose another name."
        )
    if not set(hosts) <= set(preset.hosts):
        raise OperatorError(
            f"The secret {name!r} is bound to {', '.join(preset.hosts) or 'the host alone'}; leave --host out, or "
            "choose another name for another host."
        )
    kept = tuple(hosts) or preset.hosts
    ways = tuple(way for way in preset.ways if way.host in kept)
    for_host = preset.for_host or wishes.for_host
    return StoredSecret(name, preset.kind, kept, 0, b"", b"", preset.field, ways, for_host, preset.name)


def _from_wishes(name: str, hosts: Sequence[str], wishes: Wishes) -> StoredSecret:
    kind = next((kind for kind in WANTED_KINDS if kind == (wishes.kind or Kind.BEARER)), None)
    if kind is None:
        raise OperatorError(f"There is no such kind of secret. Kinds: {', '.join(WANTED_KINDS)}.")
    field = wishes.field.lower() if kind is Kind.HEADER else wishes.field
    shape, option = _FIELD.get(kind, (None, ""))
    if shape is None and field:
        raise OperatorError(f"A secret of kind {kind} has no --header and no --param.")
    if shape is not None and (not shape.fullmatch(field) or field in _WRITTEN_BY_US):
        raise OperatorError(f"Say how the secret {name!r} is sent: {option}. It must be a plain name.")
    if kind is Kind.CHANNEL:
        if hosts:
            raise OperatorError("A secret of kind channel is for NanoClaw's own channels; leave --host out.")
        return StoredSecret(name, kind, (), 0, b"", b"", for_host=True)
    if not hosts:
        raise OperatorError(f"Say where the secret {name!r} may be sent: --host HOST, at least one.")
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise OperatorError(
                f"{host[:64]!r} is no host name: write it in small letters, without scheme, port or wildcard."
            )
    return StoredSecret(name, kind, tuple(dict.fromkeys(hosts)), 0, b"", b"", field, (), wishes.for_host)
