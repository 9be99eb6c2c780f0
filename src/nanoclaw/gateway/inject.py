"""What is taken off an agent's headers and what is put on: the real key, only for the host it is bound to.

In: the agent's headers, an `Allow`, the secret. Out: the headers that go upstream. Never: lets a credential of the
agent's pass, or puts a secret on for a host that it is not pinned to (checked here again, not only when it was set).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from nanoclaw.errors import Refused
from nanoclaw.gateway.vault import Kind, Secret, StoredSecret

Headers = list[tuple[bytes, bytes]]

OAUTH_BETA = b"oauth-2025-04-20"  # what api.anthropic.com asks of a subscription token (security.md section 5)

# RFC 9110 section 7.6.1; `te` and `trailer` with them, since trailers are not passed on.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"cookie", b"cookie2", b"x-goog-api-key", b"api-key"})
REWRITTEN = frozenset({b"host", b"accept-encoding", b"expect", b"content-length"})
NOT_FOR_THE_BOX = frozenset(
    {b"set-cookie", b"set-cookie2", b"alt-svc", b"www-authenticate", b"strict-transport-security"}
)


def strip_request(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return an agent's headers (names lower-case) without credentials, hop-by-hop ones and what the gateway writes."""
    listed = list(headers)
    named = connection_options(listed)
    return [
        (name, value)
        for name, value in listed
        if name not in HOP_BY_HOP | CREDENTIALS | REWRITTEN | named and not name.startswith((b"proxy-", b"x-forwarded"))
    ]


def strip_response(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return an upstream's headers without hop-by-hop ones, cookies and what only concerns the connection outside."""
    listed = list(headers)
    dropped = HOP_BY_HOP | NOT_FOR_THE_BOX | connection_options(listed)
    if any(name == b"transfer-encoding" for name, _ in listed):
        dropped |= {b"content-length"}  # RFC 9112 section 6.3: chunks win, a length beside them is a trick or a fault
    return [(name, value) for name, value in listed if name not in dropped and not name.startswith(b"proxy-")]


def connection_options(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Return the header names that Connection declares hop-by-hop; framing is never one of them."""
    options = {
        option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")
    }
    return options - {b"content-length", b"content-type"}


def upstream_headers(stripped: Headers, authority: str, length: int | None) -> Headers:
    """Return the headers of the upstream request before any secret: host, framing as declared, no compression."""
    framing = (b"content-length", b"%d" % length) if length is not None else (b"transfer-encoding", b"chunked")
    return [(b"host", authority.encode("ascii")), *stripped, (b"accept-encoding", b"identity"), framing]


def inject(headers: Headers, stored: StoredSecret, secret: Secret, host: str) -> Headers:
    """Return `headers` with the secret put on; raises Refused for a host that it is not pinned to."""
    if host not in stored.hosts:
        raise Refused(f"The secret {stored.name} may not be sent to {host}; it is bound to {', '.join(stored.hosts)}.")
    value = secret.reveal().encode("ascii")
    match stored.kind:
        case Kind.ANTHROPIC_KEY:
            return [*headers, (b"x-api-key", value)]
        case Kind.ANTHROPIC_OAUTH:
            return [*_with_beta(headers), (b"authorization", b"Bearer " + value)]
        case Kind.GENERIC:
            raise Refused(f"No rule says how the secret {stored.name} is sent.")
        case _:
            assert_never(stored.kind)


def _with_beta(headers: Headers) -> Headers:
    """Return headers with one anthropic-beta that lists the agent's own values and the one OAuth needs."""
    betas = [value for name, value in headers if name == b"anthropic-beta"]
    listed = [beta.strip() for value in betas for beta in value.split(b",") if beta.strip()]
    if OAUTH_BETA not in listed:
        listed.append(OAUTH_BETA)
    others = [(name, value) for name, value in headers if name != b"anthropic-beta"]
    return [*others, (b"anthropic-beta", b",".join(listed))]
