"""One rule between the words a person writes and what the gateway judges by; whatever could be misread is an error.

In: `RuleWords`. Out: a `Rule`, or a `RuleFault` that names the key and says what to write instead.
Never: mends what is written, or takes a pattern that means something else than it seems to.
"""

from __future__ import annotations

import ipaddress
import re

from nanoclaw.errors import NanoClawError
from nanoclaw.gateway.egress_words import RuleWords
from nanoclaw.gateway.policy import ANY_HOST, MANY, ONE, Action, Hours, Rate, Rule, covers_host
from nanoclaw.gateway.target import HTTP_PORT, HTTPS_PORT, OWN_NAME, PORT_MAX, find_path_fault, is_name, shown

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MOST_CALLS = 10_000  # of a rate: each is remembered for as long as it counts
MOST_PATHS = 100
MODELS = ("anthropic", "openai")
RESERVED = frozenset(
    {
        "default",
        "canonical",
        "turn",
        "key",
        "size",
        "vault",
        "http",
        "model",
        "telemetry",
        "tunnel",
        "rate",
        "ask",
        "address",
        "leak",
        "budget",
        "budget-held",
        "body",
        "upgrade",
        "tls",
        "hold",
    }
)
FOLDER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # as domain/names.py has it, which the gateway does not see

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_METHOD = re.compile(r"[A-Z]{1,20}(-[A-Z]{1,20})*")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_SIZE = re.compile(r"([1-9][0-9]{0,8}) ?(B|KB|MB|GB|KiB|MiB|GiB)")
_RATE = re.compile(r"([1-9][0-9]{0,6})/(second|minute|hour|day)")


class RuleFault(NanoClawError):
    """A rule that is not taken: what is wrong with which key, and what to write instead."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


def parse_rule(words: RuleWords) -> Rule:
    """Return the rule that the words say. Raises RuleFault."""
    if words.scheme not in {"https", "http"}:
        raise RuleFault("scheme", f"it is https or http, not {say(words.scheme)}")
    try:
        action = Action(words.action)
    except ValueError:
        raise RuleFault("action", f"it is allow, deny or ask, not {say(words.action)}") from None
    tls = words.scheme == "https"
    port = (HTTPS_PORT if tls else HTTP_PORT) if words.port is None else words.port
    if not 1 <= port <= PORT_MAX:
        raise RuleFault("port", f"it is a number from 1 to {PORT_MAX}, not {port}")
    rule = Rule(
        name=words.name or name_for(words.host),
        host=words.host,
        action=action,
        group=words.group,
        port=port,
        tls=tls,
        methods=_parse_methods(words.methods),
        paths=words.paths or ("/" + MANY,),
        inject=words.inject,
        rate=_parse_rate(words.rate),
        hours=_parse_window(words.hours, words.days),
        answer_bytes=_parse_size(words.answer_limit),
        upgrade=words.upgrade,
        encoded_slash=words.encoded_slash,
        allow_private=words.allow_private,
        model=words.model,
    )
    _check_host(rule)
    _check_names(rule)
    _check_paths(rule)
    _check_injection(rule)
    _check_sense(rule)
    return rule


def write_words(rule: Rule) -> RuleWords:
    """Return the words that say a rule, each in its one usual form; `parse_rule` makes the same rule of them."""
    usual = HTTPS_PORT if rule.tls else HTTP_PORT
    hours, days = _write_window(rule.hours)
    return RuleWords(
        host=rule.host,
        name=rule.name,
        group=rule.group,
        action=rule.action.value,
        scheme="https" if rule.tls else "http",
        port=None if rule.port == usual else rule.port,
        methods=tuple(sorted(rule.methods)),
        paths=() if rule.paths == ("/" + MANY,) else rule.paths,
        inject=rule.inject,
        rate=_write_rate(rule.rate),
        hours=hours,
        days=days,
        answer_limit=_write_size(rule.answer_bytes),
        upgrade=rule.upgrade,
        encoded_slash=rule.encoded_slash,
        allow_private=rule.allow_private,
        model=rule.model,
    )


def name_for(host: str) -> str:
    """Return the name of a rule that was given none."""
    if host == ANY_HOST:
        return "every-host"
    plain = re.sub(r"[^a-z0-9._-]", "-", host.replace("*", "any").lower()).lstrip("._-")
    return plain[:60] or "rule"


def covers_rule(first: Rule, second: Rule) -> bool:
    """Whether every call that `second` matches is matched by `first`, as far as their words show it."""
    return (
        (first.tls, first.port) == (second.tls, second.port)
        and _covers_host(first.host, second.host)
        and (not first.methods or (bool(second.methods) and second.methods <= first.methods))
        and all(any(_covers_path(first, wide, second, narrow) for wide in first.paths) for narrow in second.paths)
        and (_takes_slash(first) or not _takes_slash(second))
        and (first.hours is None or (first.hours == second.hours and second.action is not Action.DENY))
    )


def _takes_slash(rule: Rule) -> bool:
    return rule.encoded_slash or rule.action is not Action.ALLOW


def _covers_path(first: Rule, wide: str, second: Rule, narrow: str) -> bool:
    """Whether a path of one rule covers one of another; rules that deny or ask also match decoded paths (policy.py)."""
    if wide == "/" + MANY:
        return True
    if second.action is not Action.ALLOW and (first.action is Action.ALLOW or "%" in wide + narrow):
        return False
    return _covers_segments(wide, narrow)


def breadth(host: str) -> int:
    """Return how much a host pattern covers: 0 one host, 1 the names one label below, 2 every name."""
    return 2 if host == ANY_HOST else int(host.startswith("*."))


def find_host_fault(host: str) -> str | None:
    """Return why a host is not taken as a pattern, with what to write instead; None when it is in order."""
    bare = host.removeprefix("*.")
    if host == ANY_HOST or (is_name(bare) and "*" not in bare):
        return f"{say(host)} is the gateway itself" if host == OWN_NAME else None
    if _is_address(host):
        return None
    if host != host.strip() or not host:
        return "it is empty, or has blanks around it"
    return _find_spelling_fault(host)


def _find_spelling_fault(host: str) -> str:
    instead = host.partition("://")[2] or host
    if "://" in host or "/" in host:
        bare = instead.partition("/")[0].lower()
        return (
            f"write the host alone, {say(bare)}, not an address with scheme or path; a path goes into `paths` (--path)"
        )
    if host.endswith("."):
        return f"write it without the dot at its end: {say(host.rstrip('.'))}"
    if host != host.lower() and host.isascii():
        return f"write it in small letters: {say(host.lower())}"
    if not host.isascii():
        return _say_ascii(host)
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit() and "]" not in port and ":" not in name:
        return f"write the host alone, {say(name)}; the port goes into `port` (--port): {port}"
    if "*" in host:
        return f"{say(host)}: a `*` stands for exactly one whole label at the beginning (`*.example.org`), or alone"
    return f"{say(host)} is neither a host name nor an address in its usual form"


def _say_ascii(host: str) -> str:
    try:
        return f"write it as DNS knows it: {say(host.encode('idna').decode('ascii').lower())}"
    except UnicodeError:
        return f"{say(host)} is no host name"


def say(text: str) -> str:
    """Return a person's own text for a message: quoted, printable, short."""
    return repr(shown(text[:80]))


def _is_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return host == (f"[{address}]" if address.version == 6 else str(address))


def _check_host(rule: Rule) -> None:
    if fault := find_host_fault(rule.host):
        raise RuleFault("host", fault)
    if _is_address(rule.host) and rule.action is not Action.DENY and not rule.allow_private:
        address = ipaddress.ip_address(rule.host.strip("[]"))
        if not address.is_global:
            raise RuleFault(
                "host", f"{rule.host} is no public address: add allow_private = true (--private) if you mean it"
            )
    if rule.host == ANY_HOST and rule.allow_private:
        raise RuleFault("allow_private", "with host `*` it would open your whole network: name the host")


def _check_names(rule: Rule) -> None:
    if not _NAME.fullmatch(rule.name):
        raise RuleFault("name", f"{say(rule.name)}: use small letters, digits, `.`, `-` and `_`, at most 64")
    if rule.name in RESERVED:
        raise RuleFault("name", f"{say(rule.name)} is what the gateway calls something of its own; take another")
    if rule.group and not FOLDER.fullmatch(rule.group):
        raise RuleFault("group", f"{say(rule.group)} is no folder of an agent; `ncl groups list` shows them")
    if rule.model and rule.model not in MODELS:
        raise RuleFault("model", f"it is {' or '.join(MODELS)}, not {say(rule.model)}")
    if rule.model and rule.upgrade:
        raise RuleFault("upgrade", "what passes a WebSocket to a model is not counted, so no budget would hold")


def _check_paths(rule: Rule) -> None:
    if len(rule.paths) > MOST_PATHS:
        raise RuleFault("paths", f"at most {MOST_PATHS} a rule")
    for path in rule.paths:
        if fault := _find_pattern_fault(path, encoded_slash=rule.encoded_slash):
            raise RuleFault("paths", f"{say(path)}: {fault}")


def _find_pattern_fault(path: str, *, encoded_slash: bool) -> str | None:
    if not path.startswith("/"):
        return "a path begins with `/`"
    if "?" in path:
        return "leave the query (`?...`) out: rules look at the path alone"
    if fault := find_path_fault(path):
        return f"no call ever matches it, because {fault}"
    segments = path.split("/")[1:]
    if MANY in segments[:-1]:
        return "`**` is the last segment or none"
    if any("*" in segment and segment not in {ONE, MANY} for segment in segments):
        return "a `*` is a whole segment (`/v1/*/items`), a last `**` any number of them"
    if "%2f" in path.lower() and not encoded_slash:
        return "an encoded slash (%2F) is only looked at with encoded_slash = true"
    return None


def _check_injection(rule: Rule) -> None:
    if not rule.inject:
        return
    if not _NAME.fullmatch(rule.inject):
        raise RuleFault("inject", f"{say(rule.inject)} is no name of a secret; `nanoclaw vault list` shows them")
    if rule.action is Action.DENY:
        raise RuleFault("inject", "a rule that denies puts no secret on")
    if breadth(rule.host):
        raise RuleFault("inject", f"a secret goes to one host, not to {say(rule.host)}: name it in `host`")
    if not rule.tls:
        raise RuleFault("inject", 'a secret never goes out unencrypted: use scheme = "https"')
    if not rule.methods:
        raise RuleFault("methods", 'list them when a secret is put on: methods = ["GET"] (--methods GET)')


def _check_sense(rule: Rule) -> None:
    limits = {"rate": rule.rate, "answer_limit": rule.answer_bytes, "upgrade": rule.upgrade, "model": rule.model}
    if rule.action is Action.DENY:
        for key, value in limits.items():
            if value:
                raise RuleFault(key, "it has no meaning in a rule that denies")


def _parse_methods(methods: tuple[str, ...]) -> frozenset[str]:
    for method in methods:
        if not _METHOD.fullmatch(method):
            raise RuleFault("methods", f"{say(method)} is no method: write GET, POST and the like in capitals")
        if method == "CONNECT":
            raise RuleFault("methods", "CONNECT only opens a tunnel; list what may be called in it")
    return frozenset(methods)


def _parse_rate(text: str) -> Rate | None:
    if not text:
        return None
    found = _RATE.fullmatch(text)
    if not found:
        raise RuleFault("rate", f"{say(text)}: write it like 60/minute (second, minute, hour or day)")
    calls = int(found[1])
    if calls > MOST_CALLS:
        raise RuleFault("rate", f"at most {MOST_CALLS} calls are counted; leave `rate` out for no limit")
    return Rate(calls, UNITS[found[2]])


def _write_rate(rate: Rate | None) -> str:
    names = {seconds: name for name, seconds in UNITS.items()}
    return f"{rate.calls}/{names[rate.seconds]}" if rate else ""


def _parse_window(hours: str, days: str) -> Hours | None:
    if not hours and not days:
        return None
    start, end = _parse_hours(hours) if hours else (0, DAY_MINUTES)
    return Hours(start, end, _parse_days(days) if days else frozenset(range(7)))


def _parse_hours(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    start, end = _TIME.fullmatch(first), _TIME.fullmatch(last)
    if not dash or not start or not (end or last == "24:00"):
        raise RuleFault("hours", f"{say(text)}: write them like 08:00-18:00")
    begin = int(start[1]) * 60 + int(start[2])
    finish = int(end[1]) * 60 + int(end[2]) if end else DAY_MINUTES
    if begin == finish:
        raise RuleFault("hours", f"{say(text)} begins when it ends; leave `hours` out for the whole day")
    return begin, finish


def _parse_days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise RuleFault("days", f"{say(text)}: write them like mon-fri or mon,wed,sat")
        start, end = DAYS.index(first), DAYS.index(last if dash else first)
        days |= {day % 7 for day in range(start, end + 1 if end >= start else end + 8)}
    return frozenset(days)


def _write_window(hours: Hours | None) -> tuple[str, str]:
    if hours is None:
        return "", ""
    whole = (hours.start, hours.end) == (0, DAY_MINUTES)
    times = "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in (hours.start, hours.end))
    every = hours.days == frozenset(range(7)) and not whole
    return ("" if whole else times), ("" if every else ",".join(DAYS[day] for day in sorted(hours.days)))


def _parse_size(text: str) -> int | None:
    if not text:
        return None
    found = _SIZE.fullmatch(text)
    if not found:
        raise RuleFault("answer_limit", f"{say(text)}: write it like 10MB or 512KiB")
    return int(found[1]) * SIZES[found[2]]


def _write_size(size: int | None) -> str:
    if size is None:
        return ""
    unit, most = max(((name, count) for name, count in SIZES.items() if size % count == 0), key=lambda item: item[1])
    return f"{size // most}{unit}"


def _covers_host(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return True
    if breadth(narrow) == 0:
        return covers_host(wide, narrow)
    return wide == ANY_HOST


def _covers_segments(wide: str, narrow: str) -> bool:
    """Whether a path pattern covers all that another one covers."""
    wanted, given = wide.split("/")[1:], narrow.split("/")[1:]
    if wanted[-1] == MANY:
        wanted = wanted[:-1]
        given = given[:-1] if given[-1] == MANY and len(given) - 1 == len(wanted) else given
        given = given[: len(wanted)] if len(given) >= len(wanted) else given
    return len(wanted) == len(given) and all(
        want == have or (want == ONE and have not in {"", MANY}) for want, have in zip(wanted, given, strict=True)
    )
