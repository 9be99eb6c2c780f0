"""What a gate answers: never a bool, so that a missing answer can never mean yes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allow:
    """The gate lets it through; `rule` names which rule said so."""

    rule: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The gate refuses; `reason` is the rule's name for the audit, `words` what the person is told ('' = nothing)."""

    reason: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A person decides; `kind` is the approval's kind."""

    kind: str


Verdict = Allow | Deny | Ask
