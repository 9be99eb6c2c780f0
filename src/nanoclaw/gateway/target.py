"""What a request asks for: the request line and Host header of an agent, taken apart; refused, never repaired.

In: bytes of the agent's, as text. Out: a `Target`, with the fault that speaks against it. Never: raises, or guesses.

The path is refused unless it is written canonically: rules match the bytes that go upstream, so there must be one way
to write a path (security.md section 4: `/repos/*` matched `/repos/../admin/keys`). The same for a host.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

MODEL_HOST = "api.anthropic.com"
TELEMETRY_HOSTS = (
    "statsig.anthropic.com",
    "statsig.com",
    "api.statsig.com",
    "featuregates.org",
    "prodregistryv2.org",
    "sentry.io",
    "*.sentry.io",
    "*.ingest.sentry.io",
    "*.ingest.us.sentry.io",
    "*.ingest.de.sentry.io",
    "http-intake.logs.us5.datadoghq.com",
    "http-intake.logs.datadoghq.com",
)
OWN_NAME = "gateway"  # the host of a call that is on no route
HTTPS_PORT, HTTP_PORT = 443, 80
PORT_MAX = 65535
SHOWN_CHARACTERS = 255

_OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.ASCII)
_LABEL = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_HIDDEN = re.compile(
    r"%(?:(?![0-9a-f]{2})|5c|25|00|0[ad]|2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e|c[01]|e0%[89]|f0%8)", re.IGNORECASE
)
_DOTS = re.compile(r"\.\.?(;.*|%3b.*)?", re.IGNORECASE)  # with a parameter too: to Java servers `..;` is `..`


class Form(StrEnum):
    """How a request names its target (RFC 9112 section 3.2)."""

    ORIGIN = "origin"  # on a route of ours: http://127.0.0.1:3128/anthropic/...
    ABSOLUTE = "absolute"  # plain HTTP through the proxy
    CONNECT = "connect"  # asks for a tunnel
    TUNNEL = "tunnel"  # inside one: TLS that ends here
    TLS = "tls"  # not HTTP at all: a TLS handshake sent straight to a listener


@dataclass(frozen=True, slots=True)
class Authority:
    """A host and port that one connection is bound to: what a CONNECT named."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """What a request asks for, in the agent's own bytes: only `shown` text of it goes to a log or a person."""

    form: Form
    method: str
    host: str
    path: str
    query: str = ""
    port: int = HTTPS_PORT
    fault: str | None = None  # why it is refused before any rule is asked

    @property
    def tls(self) -> bool:
        """Whether the call leaves encrypted."""
        return self.form is not Form.ABSOLUTE


@dataclass(frozen=True, slots=True)
class Route:
    """A model API under a plain path of the gateway: `prefix` stands for https://host + `base`."""

    prefix: str
    host: str
    base: str = ""


ROUTES = (
    Route("/anthropic", MODEL_HOST),
    Route("/openai", "api.openai.com"),
    Route("/openrouter", "openrouter.ai", "/api"),
)


def parse_target(method: str, target: str, host_header: str, tunnel: Authority | None = None) -> Target:
    """Say what a request line and its Host header ask for; never raises, a fault is part of the answer.

    `tunnel` is what the connection is bound to when the request came through CONNECT or straight to port 443.
    """
    path, _, query = target.partition("?")
    if tunnel is not None:
        fault = find_tunnel_fault(method, target, host_header, tunnel) or find_path_fault(target)
        return Target(Form.TUNNEL, method, tunnel.host, path, query, tunnel.port, fault)
    if method == "CONNECT":
        host, port, fault = split_authority(target, HTTPS_PORT)
        return Target(Form.CONNECT, method, host, "", "", port, fault)
    if not target.startswith("/"):
        scheme, _, rest = path.partition("://")
        authority, slash, inner = rest.partition("/")
        host, port, fault = split_authority(authority, HTTP_PORT)
        if scheme.lower() != "http":
            fault = fault or "its scheme is not http: https goes through CONNECT"
        elif host_header and split_authority(host_header, HTTP_PORT)[:2] != (host, port):
            fault = fault or "its Host header names another host than its target"
        return Target(Form.ABSOLUTE, method, host, slash + inner, query, port, fault or find_path_fault(slash + inner))
    if not _OWN_HOST.fullmatch(host_header):
        host, port, fault = split_authority(host_header, HTTP_PORT)
        return Target(Form.ABSOLUTE, method, host, path, query, port, fault or find_path_fault(target))
    for route in ROUTES:
        inner = path.removeprefix(route.prefix)
        if inner != path and inner.startswith("/"):
            return Target(Form.ORIGIN, method, route.host, route.base + inner, query, fault=find_path_fault(target))
    return Target(Form.ORIGIN, method, OWN_NAME, path, query, fault=find_path_fault(target))


def is_name(host: str) -> bool:
    """Whether a host is a DNS name in small letters: the last label begins with a letter, so no address is one."""
    return _NAME.fullmatch(host) is not None


def describe(target: Target) -> str:
    """Return a call in words that are safe to show: method, host, path without its query."""
    port = "" if target.port == (HTTPS_PORT if target.tls else HTTP_PORT) else f":{target.port}"
    return f"{shown(target.method)} {shown(target.host)}{port}{shown(target.path)}"


def typed(target: Target) -> str:
    """Return a call's host as a person types it after `nanoclaw egress allow`."""
    port = "" if target.port == (HTTPS_PORT if target.tls else HTTP_PORT) else f" --port {target.port}"
    return f"{target.host}{'' if target.tls else ' --http'}{port}"


def find_tunnel_fault(method: str, target: str, host_header: str, tunnel: Authority) -> str | None:
    """Return why a request inside a tunnel is refused before its path is looked at, None when it is in order."""
    if method == "CONNECT":
        return "a tunnel inside a tunnel is not opened"
    if not target.startswith("/"):
        return "a request inside a tunnel names its path alone"
    host, port, fault = split_authority(host_header, HTTPS_PORT)
    if fault is not None or (host, port) != (tunnel.host, tunnel.port):
        return "its Host header names another host than the tunnel"
    return None


def find_path_fault(target: str) -> str | None:
    """Return why a request target (path and query) is not canonical, None when it is. `%2F` is the rules' to judge.

    Refused in a path: a `%` that encodes nothing, encoded backslash, percent sign, NUL, line break, and every encoded
    character that needs no encoding (RFC 3986 section 2.3): `/%61dmin` is /admin to a server, but not to a rule. So is
    UTF-8 longer than it need be (`%c0%ae` is a dot to some).
    """
    if not target.isascii() or _UNPRINTABLE.search(target):
        return "it has a character that is not printable ASCII"
    if "#" in target:
        return "it has a fragment (`#`)"
    if "\\" in target:
        return "it has a backslash"
    path = target.partition("?")[0]
    if not path.startswith("/"):
        return "it has no path"
    if hidden := _HIDDEN.search(path):
        return f"it has an encoded character that hides its meaning ({hidden[0]})"
    if "//" in path:
        return "it has an empty segment (`//`)"
    if any(_DOTS.fullmatch(segment) for segment in path.split("/")):
        return "it has a dot segment"
    return None


def split_authority(authority: str, default_port: int) -> tuple[str, int, str | None]:
    """Return an authority's host (as it is written), port and fault; a host with none is a name or a plain address."""
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, str(default_port)
    if "@" in authority:
        return host.rpartition("@")[2], default_port, "it names a user before the host"
    if not _PORT.fullmatch(port) or int(port) > PORT_MAX:
        return host, default_port, "its port is not a number from 1 to 65535"
    fault = None if is_name(host) or _is_address(host) else "its host is not written plainly, in small letters"
    return host, int(port), fault


def _is_address(host: str) -> bool:
    """Whether a host is an address in its one usual form: 10.0.0.1, [fd00::1]; not 0x0a.1, 167772161 or [::0:1]."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host.strip("[]"))
        return host == (f"[{address}]" if address.version == 6 else str(address))
    return False


def shown(text: str) -> str:
    """Return text of the agent's that is safe in a log line and a terminal: printable, at most 255 characters."""
    return _UNPRINTABLE.sub("*", text[:SHOWN_CHARACTERS])
