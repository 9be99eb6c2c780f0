"""May this call leave the box? Pure rules: what a request asks for, what the caller may do, a verdict.

In: a `Target` (target.py), the rules of the caller's group. Out: `Allow`, `Ask` or `Deny`, never a bool.
Never: reads a file, a clock or a socket. Everything that no rule allows is denied, and so is everything unclear.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nanoclaw.gateway.target import HTTPS_PORT, MODEL_HOST, OWN_NAME, ROUTES, Target, describe, is_name, shown

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


DEFAULT_RULES = (
    Rule(
        name="model",
        host=MODEL_HOST,
        methods=frozenset({"POST"}),
        paths=("/v1/messages", "/v1/messages/count_tokens"),
        inject=MODEL_SECRET,
        model="anthropic",
    ),
)


def decide(target: Target, rules: tuple[Rule, ...], now: Moment | None = None) -> Verdict:
    """Return what a group's rules say of a call: default deny, first match; faults before rules."""
    if target.fault is not None:
        return Deny("canonical", f"The call was refused because {target.fault}. Write it plainly and try again.")
    for rule in rules:
        if not matches(rule, target, now):
            continue
        path = f"{target.path}?{target.query}" if target.query else target.path
        match rule.action:
            case Action.ALLOW:
                return Allow(rule, path)
            case Action.ASK:
                return Ask(rule, path)
            case Action.DENY:
                return Deny(rule.name, f"The rule {rule.name!r} denies {describe(target)}.")
    return deny_default(target, rules)


def decide_tunnel(target: Target, rules: tuple[Rule, ...]) -> Deny | None:
    """Return why no tunnel is opened: a fault, or no rule that could allow a call in it. Each call is judged again."""
    if target.fault is not None:
        return Deny("canonical", f"The tunnel was refused because {target.fault}.")
    if any(r.tls and r.port == target.port and covers_host(r.host, target.host) for r in rules if r.action != "deny"):
        return None
    return deny_default(target, rules)


def matches(rule: Rule, target: Target, now: Moment | None) -> bool:
    """Whether a rule is about this call. A rule with hours says nothing outside of them or when no time is known."""
    return (
        rule.tls == target.tls
        and rule.port == target.port
        and covers_host(rule.host, target.host)
        and (not rule.methods or target.method in rule.methods)
        and any(covers_path(pattern, target.path) for pattern in rule.paths)
        and (rule.encoded_slash or _SLASH not in target.path.lower())
        and (rule.hours is None or (now is not None and is_within(rule.hours, now)))
    )


def covers_host(pattern: str, host: str) -> bool:
    """Whether a host pattern covers a name: itself, `*.` one label more, `*` every name. Addresses only as written."""
    if pattern == host:
        return True
    if not is_name(host):
        return False
    label, _, rest = host.partition(".")
    return pattern == ANY_HOST or (pattern.startswith("*.") and bool(label) and rest == pattern[2:])


def covers_path(pattern: str, path: str) -> bool:
    """Whether a path pattern covers a path, segment by segment: `*` is any one, a last `**` any number, even none."""
    wanted, given = pattern.split("/")[1:], path.split("/")[1:]
    if wanted and wanted[-1] == MANY:
        wanted = wanted[:-1]
        given = given[: len(wanted)] if len(given) >= len(wanted) else given
    return len(wanted) == len(given) and all(
        want == have or (want == ONE and have != "") for want, have in zip(wanted, given, strict=True)
    )


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
    else:
        known = f"{describe(target)} is not among the calls that are allowed."
    return Deny("default", f"{known} {hint(target)}")


def hint(target: Target) -> str:
    """Return what would allow a call, for the agent and its person."""
    if not is_name(target.host):
        return "`nanoclaw audit` lists what was refused."
    return f"Ask for it with the tool request_access; an admin allows it with `nanoclaw egress allow {target.host}`."
