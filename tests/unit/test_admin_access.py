"""The one table of who may run what: every resource, verb and caller, cell by cell."""

from __future__ import annotations

import pytest

from nanoclaw.admin.access import decide_command
from nanoclaw.admin.catalog import NOUNS
from nanoclaw.admin.verb import Access, AskWhom, CallerKind
from nanoclaw.domain.verdict import Allow, Ask, Deny

VERBS = {f"{noun.name} {verb.name}": verb for noun in NOUNS for verb in noun.verbs}
SCOPES = ("disabled", "group", "global")

# command -> what an agent gets whose group has cli_scope group, and global. r read, o its own group's approvers are
# asked, a those of all are asked, - refused. Written by hand, apart from the table in access.py.
CELLS = {
    "groups list": "rr", "groups get": "rr", "groups create": "-a", "groups update": "oa", "groups delete": "-a",
    "groups restore": "-a", "groups restart": "oa", "groups config get": "rr", "groups config update": "aa",
    "groups config add-mount": "aa", "groups config remove-mount": "aa", "groups config add-skill": "aa",
    "groups config remove-skill": "aa", "groups config add-package": "aa", "groups config remove-package": "aa",
    "groups sandbox": "--", "groups builds": "rr", "groups config list-skills": "rr",
    "groups config list-mcp-servers": "rr",
    "groups config add-mcp-server": "--", "groups config remove-mcp-server": "--",
    "messaging-groups list": "-r", "messaging-groups get": "-r", "messaging-groups create": "-a",
    "messaging-groups update": "-a", "messaging-groups delete": "-a",
    "wirings list": "-r", "wirings get": "-r", "wirings create": "-a", "wirings update": "-a", "wirings delete": "-a",
    "users list": "-r", "users get": "-r", "users create": "--", "users update": "--", "users link": "--",
    "users unlink": "--", "users pair": "--",
    "roles list": "-r", "roles grant": "--", "roles revoke": "--",
    "members list": "rr", "members add": "oa", "members remove": "oa",
    "destinations list": "rr", "destinations add": "aa", "destinations remove": "oa",
    "sessions list": "rr", "sessions get": "rr",
    "user-dms list": "-r", "dropped-messages list": "-r",
    "approvals list": "-r", "approvals get": "-r", "approvals approve": "--", "approvals deny": "--",
    "tasks list": "rr", "tasks get": "rr",
    "messages trace": "--",
    "audit list": "-r", "audit verify": "--", "audit head": "--", "audit rows": "--",
    "host status": "--", "host stop": "--",
}  # fmt: skip


def cell(scope: str, command: str, *options: str) -> str:
    match decide_command(CallerKind.AGENT, scope, command, options):
        case Allow():
            return "r"
        case Ask(whom):
            return {AskWhom.OWN: "o", AskWhom.ALL: "a"}[AskWhom(whom)]
        case Deny():
            return "-"


def test_every_verb_has_its_cells() -> None:
    assert set(VERBS) <= set(CELLS)


@pytest.mark.parametrize("command", sorted(VERBS))
def test_each_cell_says_what_the_table_says(command: str) -> None:
    assert cell("group", command) + cell("global", command) == CELLS[command]
    assert cell("disabled", command) == "-"
    assert isinstance(decide_command(CallerKind.OPERATOR, "", command, ()), Allow)


@pytest.mark.parametrize("command", sorted(VERBS))
def test_an_agent_reads_what_changes_nothing_and_never_changes_anything_unasked(command: str) -> None:
    for scope in SCOPES:
        got = cell(scope, command)
        assert got in ("r", "-") if VERBS[command].access is Access.READ else got in ("o", "a", "-")


@pytest.mark.parametrize("scope", ["", "Group", "GLOBAL", "owner", "disabled"])
def test_an_unknown_scope_may_nothing(scope: str) -> None:
    assert {cell(scope, command) for command in VERBS} == {"-"}


@pytest.mark.parametrize("command", ["", "groups", "groups burn", "moon list", "groups  list", "GROUPS LIST"])
def test_an_unknown_command_is_denied(command: str) -> None:
    assert cell("global", command) == cell("group", command) == "-"


def test_an_agent_can_neither_widen_its_own_scope_nor_have_anything_erased() -> None:
    for scope in ("group", "global"):
        assert cell(scope, "groups config update", "model") == "a"
        assert cell(scope, "groups config update", "model", "cli-scope") == "-"
        assert cell(scope, "groups delete", "purge") == "-"
    assert isinstance(decide_command(CallerKind.OPERATOR, "", "groups config update", ["cli-scope"]), Allow)
