"""What an OAuth2 secret is made of: one JSON object with what a new access token costs.

In: JSON that a person pasted, also as `gcloud` writes it. Out: an `OAuthGrant`.
Fails: OperatorError, never with a value in it.
"""

from __future__ import annotations

import re

import msgspec

from nanoclaw.errors import OperatorError

GRANT_BYTES = 16 * 1024
GRANT_WORDS = "client_id, client_secret, refresh_token and token_url"

_URL = re.compile(r"https://[a-z0-9.-]+(:[0-9]{1,5})?/[\x21-\x7e]*|http://127\.0\.0\.1:[0-9]{1,5}/[\x21-\x7e]*")
_PRINTABLE = re.compile(r"[\x21-\x7e]*")


class OAuthGrant(msgspec.Struct, frozen=True):
    """The refresh token and who may use it; `client_secret` is "" for a public client (RFC 6749 section 2.1)."""

    client_id: str
    refresh_token: str
    token_url: str = ""
    client_secret: str = ""

    def __repr__(self) -> str:
        """Hide the values."""
        return "OAuthGrant(***)"

    def encode(self) -> str:
        """Return it as it is kept."""
        return msgspec.json.encode(self).decode("ascii")

    def values(self) -> tuple[str, ...]:
        """Return what is secret of it."""
        return tuple(value for value in (self.refresh_token, self.client_secret) if value)


def parse_grant(text: str, token_url: str = "") -> OAuthGrant:
    """Return a grant; `token_url` is used when it names none. Raises OperatorError saying what is missing."""
    if len(text) > GRANT_BYTES:
        raise OperatorError(f"The value is longer than {GRANT_BYTES} characters. Paste JSON with {GRANT_WORDS}.")
    try:
        grant = msgspec.json.decode(text, type=OAuthGrant)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise OperatorError(f"The value is not usable: it must be a JSON object with {GRANT_WORDS}.") from None
    grant = msgspec.structs.replace(grant, token_url=grant.token_url or token_url)
    texts = (grant.client_id, grant.client_secret, grant.refresh_token)
    if not _URL.fullmatch(grant.token_url):
        raise OperatorError("The token_url must be a whole address that begins with https://.")
    if not all(_PRINTABLE.fullmatch(text) for text in texts) or len(grant.refresh_token) < 8 or not grant.client_id:
        raise OperatorError("The client_id and refresh_token must be printable ASCII, the latter 8 characters or more.")
    if grant.client_secret and len(grant.client_secret) < 8:
        raise OperatorError("The client_secret must have 8 characters or more, or be left out.")
    return grant
