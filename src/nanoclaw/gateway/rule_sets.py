"""Ready-made rule sets, as data: `sets/<name>.toml`, each in the form of a rule file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nanoclaw.gateway.policy import Rule
from nanoclaw.gateway.rule_file import parse_file

SETS = ("web-read", "packages", "github")


@cache
def load_set(name: str) -> tuple[Rule, ...]:
    """Return the rules of a ready-made set, one of `SETS`; they are for every group."""
    path = Path(__file__).with_name("sets") / f"{name}.toml"
    return parse_file(path.read_text(encoding="utf-8"), ()).rules
