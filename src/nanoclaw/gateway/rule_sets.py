"""Ready-made rule sets, as data: `sets/<name>.toml`, each in the form of a rule file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from nanoclaw.gateway.policy import Rule
from nanoclaw.gateway.rule_file import parse_file

SETS = ("web-read", "packages", "github")


@cache
def load_set(name: str) -> tuple[Rule, ...]:
    """Return the rules of a ready-made set, one of `SETS`; they are for every group."""
    path = Path(__file__).with_name("sets") / f"{name}.toml"
    return parse_file(path.read_text(encoding="utf-8"), ()).rules


def build_rules(mirrors: Sequence[str]) -> tuple[Rule, ...]:
    """Return what boxes that build packages may reach: the set `packages`, and the operator's mirrors wherever they
    lie. One that is no http or https URL is left out."""
    found: list[Rule] = []
    for mirror in mirrors:
        parts = urlsplit(mirror)
        if parts.scheme in ("http", "https") and parts.hostname:
            tls = parts.scheme == "https"
            name = f"packages.mirror-{len(found) + 1}"
            found.append(
                Rule(
                    name,
                    parts.hostname,
                    port=parts.port or (443 if tls else 80),
                    tls=tls,
                    methods=frozenset({"GET", "HEAD"}),
                    encoded_slash=True,
                    allow_private=True,
                )
            )
    return (*found, *load_set("packages"))
