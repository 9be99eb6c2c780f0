"""What an agent may propose to reach, how a call of its looks on a card, and how long a yes to one lasts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nanoclaw.domain.approval import HOUR_MS, LIFE_MS, Option

GRANT_MS = 600_000  # a late yes lets the very same call go once, this long
DENIED_MS = 600_000  # a no is not asked about again this long
CALL_LIFE_MS = LIFE_MS  # a task of the night may wait for the morning
MOST_METHODS = 7
MOST_PATHS = 10
MOST_PATH = 200
MOST_REASON = 500
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

ALLOW_ONCE = Option("approve", "Allow once")
ALLOW_ALWAYS = Option("always", "Always allow")
THIS_AGENT = Option("approve", "Allow this agent")
EVERY_AGENT = Option("every_agent", "Allow every agent")

_LABEL = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?", re.ASCII)
_ADDRESS = re.compile(r"[0-9a-fx.]*[0-9][0-9a-fx.]*|\[.*\]|.*:.*:.*", re.ASCII)
_PATH = re.compile(r"/[\x21\x24-\x3e\x40-\x5b\x5d-\x7e]*", re.ASCII)  # printable, no " # ? or backslash
_HIDING = ("%2e", "%2f", "%5c", "%25", "%00", "//")
_PRIVATE = (
    "localhost", "local", "localdomain", "internal", "intranet", "private", "lan", "home", "corp", "arpa", "onion",
    "invalid",
)  # fmt: skip
_BY_HAND = "an admin can allow it by hand with `nanoclaw egress allow`"


@dataclass(frozen=True, slots=True)
class Access:
    """Calls that a rule could allow: methods of a host, below paths (`*` one segment, a last `**` any number)."""

    host: str
    methods: tuple[str, ...]
    paths: tuple[str, ...]


def find_host_fault(host: str) -> str:
    """Return why nobody is asked about a host, in a sentence; '' when nothing speaks against it."""
    if "*" in host:
        return f"Ask for one host by its name: wildcards cannot be asked for, {_BY_HAND}."
    if "/" in host or "@" in host or (host.count(":") == 1 and host.rpartition(":")[2].isdecimal()):
        return "The host is a name alone, such as api.example.org: no scheme, port, user or path. Calls go to port 443."
    if _ADDRESS.fullmatch(host):
        return f"Ask for a name, not an address: {_BY_HAND}."
    if "." not in host or host.rstrip(".").rpartition(".")[2] in _PRIVATE:
        return f"That is a host of a private network. It cannot be asked for; {_BY_HAND}."
    if not _NAME.fullmatch(host):
        return "The host is not written plainly: small letters, digits and hyphens with dots between them."
    return ""


def find_path_fault(path: str) -> str:
    """Return why a path pattern cannot be asked for, in a sentence; '' when it can."""
    segments = path.split("/")[1:]
    if len(path) > MOST_PATH or not _PATH.fullmatch(path):
        return f"A path begins with / and has at most {MOST_PATH} printable characters, without a query or fragment."
    if any(hiding in path.lower() for hiding in _HIDING) or any(segment in {".", ".."} for segment in segments):
        return "A path is written plainly: no empty or dot segments and no encoded slashes, dots or percent signs."
    if any("*" in segment and segment not in {"*", "**"} for segment in segments) or "**" in segments[:-1]:
        return "In a path `*` stands for one whole segment, and `**` at its end for everything below."
    return ""


def find_access_fault(access: Access) -> str:
    """Return why a proposal cannot be put to a person, in a sentence; '' when it can."""
    if fault := find_host_fault(access.host):
        return fault
    if not access.methods or len(access.methods) > MOST_METHODS or set(access.methods) - set(METHODS):
        return f"Say which methods: some of {', '.join(METHODS)}."
    if not 1 <= len(access.paths) <= MOST_PATHS:
        return f"Say which paths, 1 to {MOST_PATHS}, such as /v1/items or /v1/**."
    return next((fault for path in access.paths if (fault := find_path_fault(path))), "")


def describe_access(access: Access) -> str:
    """Return what a rule would allow, on one line."""
    paths = " and ".join(f"{access.host}{path}" for path in access.paths)
    return f"{', '.join(access.methods)} {paths}"


def explain_patterns(paths: Sequence[str]) -> str:
    """Return what the stars in paths mean, '' when there are none."""
    if any("**" in path for path in paths):
        return "** stands for everything below." if any(path != "/**" for path in paths) else "That is all of the host."
    return "* stands for any one segment." if any("*" in path for path in paths) else ""


def minutes(milliseconds: int) -> int:
    """Return whole minutes."""
    return milliseconds * 60 // HOUR_MS
