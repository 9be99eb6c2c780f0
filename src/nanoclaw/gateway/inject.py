"""What is taken off an agent's headers and what is put on: the real key, only for the host it is bound to.

In: the agent's headers and path, the secret. Out: the headers and path that go upstream. Never: lets a credential of
the agent's pass, or puts a secret on for a host that it is not pinned to (checked again here, not only when it is set).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from nanoclaw.errors import Refused
from nanoclaw.gateway.secret import Secret
from nanoclaw.gateway.vault_file import Kind, StoredSecret
from nanoclaw.gateway.wire_form import put_parameter, put_segment, write_basic

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
CREDENTIALS = frozenset(
    {b"authorization", b"x-api-key", b"cookie", b"cookie2", b"x-goog-api-key", b"api-key", b"private-token"}
    | {
        b"job-token",
        b"deploy-token",
        b"x-auth-token",
        b"x-access-token",
        b"x-subscription-token",
        b"x-amz-security-token",
    }
)
REWRITTEN = frozenset({b"host", b"accept-encoding", b"expect", b"content-length"})
OTHER_CALL = frozenset(  # what some servers take for the method or path in place of those that were judged
    {b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url"}
)
REFUSED = HOP_BY_HOP | CREDENTIALS | REWRITTEN | OTHER_CALL
# By these an echo would give a secret in parts, or in letters in which it is not found: off where one is put on.
IN_PARTS = frozenset({b"range", b"if-range", b"request-range", b"accept-charset"})
NOT_FOR_THE_BOX = frozenset(
    {b"set-cookie", b"set-cookie2", b"alt-svc", b"www-authenticate", b"strict-transport-security"}
)


def strip_request(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return an agent's headers (names lower-case) without credentials, hop-by-hop ones and what misleads."""
    listed = list(headers)
    refused = REFUSED | connection_options(listed)
    alike = ((name.replace(b"_", b"-"), name, value) for name, value in listed)  # to many servers they are the same
    return [
        (name, value)
        for plain, name, value in alike
        if not refused & {plain, name} and not plain.startswith((b"proxy-", b"x-forwarded"))
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


def inject(headers: Headers, path: str, stored: StoredSecret, secret: Secret, host: str) -> tuple[Headers, str]:
    """Return headers and path (query included) with the secret put on, in place of what the agent put there.

    Raises Refused for a host that it is not pinned to, and where no way is known. Of kind oauth2 `secret` is the access
    token (oauth.py).
    """
    if host not in stored.hosts:
        bound = ", ".join(stored.hosts) or "no host"
        raise Refused(f"The secret {stored.name} may not be sent to {host}; it is bound to {bound}.")
    headers = [(name, value) for name, value in headers if name not in IN_PARTS]
    way = stored.find_way(host, path)
    value = secret.reveal()
    match way.kind:
        case Kind.ANTHROPIC_KEY:
            return _put(headers, b"x-api-key", value), path
        case Kind.ANTHROPIC_OAUTH:
            return _put(_with_beta(headers), b"authorization", f"Bearer {value}"), path
        case Kind.BEARER | Kind.OAUTH2:
            return _put(headers, b"authorization", f"Bearer {value}"), path
        case Kind.BASIC:
            return _put(headers, b"authorization", f"Basic {write_basic(way.field, value)}"), path
        case Kind.HEADER:
            return _put(headers, way.field.encode("ascii"), value), path
        case Kind.QUERY:
            return headers, put_parameter(path, way.field, value)
        case Kind.PATH:
            return headers, put_segment(path, way.field, value)
        case Kind.CHANNEL | Kind.GENERIC:
            raise Refused(f"Nothing says how the secret {stored.name} is sent. Set it again with a --kind.")
        case _:
            assert_never(way.kind)


def _put(headers: Headers, name: bytes, value: str) -> Headers:
    """Return headers with one of that name, and no other credential."""
    others = [(known, given) for known, given in headers if known != name and known not in CREDENTIALS]
    return [*others, (name, value.encode("ascii"))]


def _with_beta(headers: Headers) -> Headers:
    """Return headers with one anthropic-beta that lists the agent's own values and the one OAuth needs."""
    betas = [value for name, value in headers if name == b"anthropic-beta"]
    listed = [beta.strip() for value in betas for beta in value.split(b",") if beta.strip()]
    if OAUTH_BETA not in listed:
        listed.append(OAUTH_BETA)
    others = [(name, value) for name, value in headers if name != b"anthropic-beta"]
    return [*others, (b"anthropic-beta", b",".join(listed))]
