"""What an operator asks of the gateway's rules, and what comes back; part of the words of the admin socket."""

from __future__ import annotations

import msgspec


class RuleWords(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule as a person writes it: the keys of a `[[rule]]` table (docs/guides/egress.md). `group` is a folder."""

    host: str
    name: str = ""
    group: str = ""
    action: str = "allow"
    scheme: str = "https"
    port: int | None = None
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    inject: str = ""
    rate: str = ""
    hours: str = ""
    days: str = ""
    answer_limit: str = ""
    upgrade: bool = False
    encoded_slash: bool = False
    allow_private: bool = False
    model: str = ""


class EgressList(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.list"):
    """The rules of an agent group in the order in which they are tried; None: all there are. Answered by `RuleList`."""

    folder: str | None = None


class EgressAdd(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.add"):
    """Put a rule in force, before those as wide as it. Answered by `RulesChange`."""

    rule: RuleWords


class EgressUse(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.use"):
    """Put a ready-made set in force, for one agent group or ("") every one. Answered by `RulesChange`."""

    set: str
    folder: str = ""


class EgressDeny(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.deny"):
    """Deny a host, or what the rule of that name allowed. Answered by `RulesChange`."""

    what: str
    folder: str = ""


class EgressRemove(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.rm"):
    """Take a rule or a used set back, by name; `folder` None: wherever it is. Answered by `RulesChange`."""

    name: str
    folder: str | None = None


class EgressRevert(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.revert"):
    """Put an earlier generation in force, None: the one before this. Answered by `RulesChange`."""

    generation: int | None = None


class EgressApply(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.apply"):
    """Put a whole rule file in force. Answered by `RulesChange`."""

    text: str


class EgressShow(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.show"):
    """The rule file in force. Answered by its text."""


class EgressLog(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.log"):
    """Every kept generation, oldest first. Answered by a list of `GenerationLine`."""


class EgressTest(msgspec.Struct, frozen=True, tag_field="verb", tag="egress.test"):
    """What would be said of a call now. Answered by `CallJudged`."""

    url: str
    folder: str
    method: str = "GET"


class AuditFollow(msgspec.Struct, frozen=True, tag_field="verb", tag="audit.follow"):
    """The audit rows after a number, when there are some or the time is over. Answered by a list of `AuditLine`."""

    after: int
    wait_seconds: float


EgressRequest = (
    EgressList
    | EgressAdd
    | EgressUse
    | EgressDeny
    | EgressRemove
    | EgressRevert
    | EgressApply
    | EgressShow
    | EgressLog
    | EgressTest
    | AuditFollow
)


class RuleLine(msgspec.Struct, frozen=True):
    """A rule in force. `source` is `own`, `built-in` or `set NAME`; `note` what a person should know of it."""

    rule: RuleWords
    source: str
    note: str = ""


class RuleList(msgspec.Struct, frozen=True):
    """Rules in order. `fault` says why not the newest generation is in force, "" when it is."""

    generation: int
    rules: tuple[RuleLine, ...]
    fault: str = ""


class RulesChange(msgspec.Struct, frozen=True):
    """The generation in force after a change, and what a person should know of it."""

    generation: int
    notes: tuple[str, ...] = ()


class GenerationLine(msgspec.Struct, frozen=True):
    """One kept generation. `at` in epoch milliseconds; `fault` says why it cannot be put in force."""

    generation: int
    at: int
    by: str
    what: str
    in_force: bool
    fault: str = ""


class CallJudged(msgspec.Struct, frozen=True):
    """What the rules say of a call: `verdict` is allow, ask or deny, `rule` what decided, `inject` what is put on."""

    verdict: str
    rule: str
    source: str
    reason: str
    inject: str = ""
