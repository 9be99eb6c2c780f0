"""May this call leave the box? Pure rules: what a request asks for, what the caller may do, a verdict.

In: a `Target` (target.py), the rules of the caller's group. Out: `Allow`, `Ask` or `Deny`, never a bool.
Never: reads a file, a clock or a socket. Everything that no rule allows is denied, and so is everything unclear: a rule
that allows matches what is written as it says, one that denies or asks also matches what only could mean it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import unquote

from nanoclaw.gateway.target import (
    HTTPS_PORT,
    MODEL_HOST,
    OWN_NAME,
    ROUTES,
    TELEMETRY_HOSTS,
    Target,
    describe,
    is_name,
    shown,
    typed,
)  # fmt: skip

MODEL_SECRET = "anthropic"
ANY_HOST = "*"  # a rule for every name
MANY = "**"  # of a path: any number of segments, the last of a pattern
ONE = "*"  # of a path or a host: one segment, one label
_SLASH = "%2f"


class Action(StrEnum):
    """What a rule says of the calls that match it."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a listener belongs to; the transport says it, nothing in the request does. Rules know a group by `folder`."""

    session: str
    fence: int
    group: str
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` in any `seconds`."""

    calls: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Hours:
    """A daily window of minutes after midnight, `start` in, `end` out, over midnight when `end` is smaller.

    `days` are the weekdays on which it begins, Monday 0.
    """

    start: int
    end: int
    days: frozenset[int] = frozenset(range(7))


@dataclass(frozen=True, slots=True)
class Moment:
    """When a call is judged, in the operator's time zone."""

    weekday: int
    minute: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What is said of calls to one host. The first rule of a group's that matches decides."""

    name: str
    host: str  # a name, `*.example.org` (one label) or `*` (every public name)
    action: Action = Action.ALLOW
    group: str = ""  # an agent group's folder; "" is every group
    port: int = HTTPS_PORT
    tls: bool = True
    methods: frozenset[str] = frozenset()  # empty: every method
    paths: tuple[str, ...] = ("/**",)
    inject: str = ""  # the secret that is put on
    rate: Rate | None = None
    hours: Hours | None = None
    answer_bytes: int | None = None  # the most that comes back
    upgrade: bool = False  # WebSocket
    encoded_slash: bool = False  # `%2F` in a path (GitLab's group%2Fproject, npm's @scope%2Fname)
    allow_private: bool = False  # addresses that are not public
    model: str = ""  # the shape of a model API, "anthropic" or "openai": its calls cost money


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may go to `rule.host` under `path` (query included)."""

    rule: Rule
    path: str


@dataclass(frozen=True, slots=True)
class Ask:
    """The call may go when a person says so."""

    rule: Rule
    path: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The call may not go; `reason` is a plain sentence for the agent and its person, `rule` what decided."""

    rule: str
    reason: str


Verdict = Allow | Ask | Deny


TELEMETRY = "telemetry"  # what the agent's own program reports to its makers: refused at once, a pace of its own

# Built in, tried after what an operator says. A model's rule is in force only while the secret of its name is set, but
# the first: without a key the rehearsal model answers it.
DEFAULT_RULES = (
    Rule(
        name="model",
        host=MODEL_HOST,
        methods=frozenset({"POST"}),
        paths=("/v1/messages", "/v1/messages/count_tokens"),
        inject=MODEL_SECRET,
        model="anthropic",
    ),
    Rule(
        name="openai",
        host="api.openai.com",
        methods=frozenset({"POST"}),
        paths=("/v1/chat/completions", "/v1/responses", "/v1/embeddings"),
        inject="openai",
        model="openai",
    ),
    Rule(
        name="openrouter",
        host="openrouter.ai",
        methods=frozenset({"POST"}),
        paths=("/api/v1/chat/completions", "/api/v1/responses"),
        inject="openrouter",
        model="openai",
    ),
    Rule(TELEMETRY, MODEL_HOST, Action.DENY, paths=("/api/**",)),
    *(Rule(TELEMETRY, host, Action.DENY) for host in TELEMETRY_HOSTS),
)


def decide(target: Target, rules: tuple[Rule, ...], now: Moment | None = None) -> Verdict:
    """Return what a group's rules say of a call: default deny, first match; faults before rules."""
    if target.fault is not None:
        return Deny("canonical", f"The call was refused because {target.fault}. Write it plainly and try again.")
    if target.host == OWN_NAME:
        return deny_default(target, rules)  # no rule is about the gateway itself, not even one for every host
    for rule in rules:
        if not matches(rule, target, now):
            continue
        path = f"{target.path}?{target.query}" if target.query else target.path
        match rule.action:
            case Action.ALLOW:
                return Allow(rule, path)
            case Action.ASK if rule.encoded_slash or _SLASH not in target.path.lower():
                return Ask(rule, path)
            case Action.ASK:
                return Deny(rule.name, f"The rule {rule.name!r} takes no path with an encoded slash (%2F).")
            case Action.DENY:
                return Deny(rule.name, f"The rule {rule.name!r} denies {describe(target)}.")
    return deny_default(target, rules)


def decide_tunnel(target: Target, rules: tuple[Rule, ...]) -> Deny | None:
    """Return why no tunnel is opened: a fault, a rule that denies all of the host, or none that could allow a call in
    it. Each call in the tunnel is judged again."""
    if target.fault is not None:
        return Deny("canonical", f"The tunnel was refused because {target.fault}.")
    for rule in rules:
        if not (rule.tls and rule.port == target.port and covers_host(rule.host, target.host)):
            continue
        if rule.action is not Action.DENY:
            return None
        if not rule.methods and f"/{MANY}" in rule.paths and rule.hours is None:
            return Deny(rule.name, f"The rule {rule.name!r} denies {describe(target)}.")
    return deny_default(target, rules)


def matches(rule: Rule, target: Target, now: Moment | None) -> bool:
    """Whether a rule is about this call. Outside of its hours, or with no time known, one that allows says nothing."""
    allows = rule.action is Action.ALLOW
    return (
        rule.tls == target.tls
        and rule.port == target.port
        and covers_host(rule.host, target.host)
        and (not rule.methods or (target.method if allows else target.method.upper()) in rule.methods)
        and (not allows or rule.encoded_slash or _SLASH not in target.path.lower())
        and any(
            covers_path(pattern, target.path) or (not allows and covers_path(loosen(pattern), loosen(target.path)))
            for pattern in rule.paths
        )
        and (rule.hours is None or (is_within(rule.hours, now) if now else not allows))
    )


def covers_host(pattern: str, host: str) -> bool:
    """Whether a host pattern covers a name: itself, `*.` one label more, `*` every name of two labels or more.

    Addresses and single labels (`localhost`) only as they are written.
    """
    if pattern == host:
        return True
    label, dot, rest = host.partition(".")
    if not (label and dot and is_name(host)):
        return False
    return pattern == ANY_HOST or (pattern.startswith("*.") and rest == pattern[2:])


def covers_path(pattern: str, path: str) -> bool:
    """Whether a path pattern covers a path, segment by segment: `*` is any one, a last `**` any number, even none."""
    wanted, given = pattern.split("/")[1:], path.split("/")[1:]
    if wanted and wanted[-1] == MANY:
        wanted = wanted[:-1]
        given = given[: len(wanted)] if len(given) >= len(wanted) else given
    return len(wanted) == len(given) and all(
        want == have or (want == ONE and have != "") for want, have in zip(wanted, given, strict=True)
    )


def loosen(path: str) -> str:
    """Return a path as a lenient server takes it: decoded, capitals alike, without `;parameters` and a slash at its
    end. Rules that deny or ask go by it too."""
    plain = "/".join(segment.partition(";")[0] for segment in unquote(path).lower().split("/"))
    return plain.rstrip("/") or "/"


def is_within(hours: Hours, now: Moment) -> bool:
    """Whether a moment lies in a window; one over midnight belongs to the day on which it began."""
    if hours.start < hours.end:
        return now.weekday in hours.days and hours.start <= now.minute < hours.end
    began_today = now.weekday in hours.days and now.minute >= hours.start
    began_yesterday = (now.weekday - 1) % 7 in hours.days and now.minute < hours.end
    return began_today or began_yesterday


def deny_default(target: Target, rules: tuple[Rule, ...]) -> Deny:
    """Return the refusal of a call that no rule allows, with the command that would allow it."""
    if target.host == OWN_NAME:
        routes = ", ".join(route.prefix for route in ROUTES)
        known = f"There is no route {shown(target.path)} at the gateway, only {routes}."
        return Deny("default", f"{known} `nanoclaw audit` lists what was refused.")
    host = shown(target.host) or "an unnamed host"
    if not any(covers_host(rule.host, target.host) for rule in rules):
        known = f"No rule allows this agent to reach {host}."
    elif any(rule.hours and matches(replace(rule, hours=None), target, None) for rule in rules):
        known = f"{describe(target)} is not allowed at this hour."
    else:
        known = f"{describe(target)} is not among the calls that are allowed."
    return Deny("default", f"{known} {hint(target)}")


def hint(target: Target) -> str:
    """Return what would allow a call, for the agent and its person."""
    if not is_name(target.host):
        return "`nanoclaw audit` lists what was refused."
    return f"Ask for it with the tool request_access; an admin allows it with `nanoclaw egress allow {typed(target)}`."
