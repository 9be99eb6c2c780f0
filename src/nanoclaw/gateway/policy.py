"""May this call leave the box? Pure rules: what a request asks for, what the caller may do, a verdict.

In: the request line and Host header as the agent sent them, the rules. Out: `Allow` or `Deny`, never a bool.
Never: reads a file, a clock or a socket. Everything that no rule allows is denied, and so is everything unclear.

The path is refused, not repaired, unless it is written canonically: rules match the bytes that go upstream, so
there must be one way to write a path (security.md section 4: `/repos/*` matched `/repos/../admin/keys`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

MODEL_HOST = "api.anthropic.com"
MODEL_PREFIX = "/anthropic"
MODEL_SECRET = "anthropic"
OWN_NAME = "gateway"  # the host of a call that is on no route
SHOWN_CHARACTERS = 255

_OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.ASCII)
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_HINT = "`nanoclaw audit` lists what was refused."
_REFUSED_ENCODINGS = ("%2f", "%5c", "%25", "%00", "%2e")


class Form(StrEnum):
    """How a request names its target (RFC 9112 section 3.2)."""

    ORIGIN = "origin"
    ABSOLUTE = "absolute"
    CONNECT = "connect"
    TLS = "tls"  # not HTTP at all: a TLS handshake sent straight to a listener


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a listener belongs to; the transport says it, nothing in the request does."""

    session: str
    fence: int
    group: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a request asks for, in the agent's own bytes: only `shown` text of it goes to a log or a person."""

    form: Form
    method: str
    host: str
    path: str
    query: str = ""
    fault: str | None = None  # why it is refused before any rule is asked


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests with this prefix, method and path go to `host` with this secret put on."""

    name: str
    prefix: str
    host: str
    methods: frozenset[str]
    paths: frozenset[str]
    secret: str


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may go to `rule.host` under `path` (query included)."""

    rule: Rule
    path: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The call may not go; `reason` is a plain sentence for the agent and its person, `rule` what decided.

    `host` is the host that a route led to, "" where the target itself says which.
    """

    rule: str
    reason: str
    host: str = ""


Verdict = Allow | Deny

DEFAULT_RULES = (
    Rule(
        name="model",
        prefix=MODEL_PREFIX,
        host=MODEL_HOST,
        methods=frozenset({"POST"}),
        paths=frozenset({"/v1/messages", "/v1/messages/count_tokens"}),
        secret=MODEL_SECRET,
    ),
)


def parse_target(method: str, target: str, host_header: str) -> Target:
    """Say what a request line and its Host header ask for; never raises, a fault is part of the answer."""
    path, _, query = target.partition("?")
    if method == "CONNECT":
        return Target(Form.CONNECT, method, split_port(target), "")
    if not target.startswith("/"):
        authority, slash, rest = path.partition("://")[2].partition("/")
        return Target(Form.ABSOLUTE, method, split_port(authority), slash + rest, query)
    if not _OWN_HOST.fullmatch(host_header):
        return Target(Form.ABSOLUTE, method, split_port(host_header), path, query)
    return Target(Form.ORIGIN, method, OWN_NAME, path, query, find_path_fault(target))


def decide(target: Target, rules: tuple[Rule, ...]) -> Verdict:
    """Return what the rules say of a call: default deny, first match; faults before rules."""
    if target.fault is not None:
        return Deny("canonical", f"The path was refused because {target.fault}. Write it plainly and try again.")
    if target.form is not Form.ORIGIN:
        return deny_host(target.host)
    for rule in rules:
        inner = target.path.removeprefix(rule.prefix)
        if inner == target.path or not inner.startswith("/"):
            continue
        if inner in rule.paths and target.method in rule.methods:
            return Allow(rule, f"{inner}?{target.query}" if target.query else inner)
        asked = f"{shown(target.method)} {shown(inner)}"
        return Deny("default", f"{asked} on {rule.host} is not among the calls that are allowed. {_HINT}", rule.host)
    return Deny("default", f"There is no route {shown(target.path)} at the gateway. {_HINT}")


def deny_host(asked: str) -> Deny:
    """Return the refusal of a host that no rule allows."""
    host = shown(asked) or "an unnamed host"
    only = "In this version of NanoClaw a box reaches the model API and nothing else."
    return Deny("default", f"No rule allows this box to reach {host}. {only} {_HINT}")


def find_path_fault(target: str) -> str | None:
    """Return why a request target (path and query) is not canonical, None when it is."""
    if not target.isascii() or _UNPRINTABLE.search(target):
        return "it has a character that is not printable ASCII"
    if "#" in target:
        return "it has a fragment (`#`)"
    if "\\" in target:
        return "it has a backslash"
    path = target.partition("?")[0]
    for encoded in _REFUSED_ENCODINGS:
        if encoded in path.lower():
            return f"it has an encoded character that hides its meaning ({encoded})"
    if "//" in path:
        return "it has an empty segment (`//`)"
    if any(segment in {".", ".."} for segment in path.split("/")):
        return "it has a dot segment"
    return None


def split_port(authority: str) -> str:
    """Return an authority's host: without its user part and its port."""
    host = authority.rpartition("@")[2]
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def shown(text: str) -> str:
    """Return text of the agent's that is safe in a log line and a terminal: printable, at most 255 characters."""
    return _UNPRINTABLE.sub("*", text[:SHOWN_CHARACTERS])
