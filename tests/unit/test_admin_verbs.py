"""What each verb of `ncl` does to the store, what it answers, and what it leaves to be done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw.admin.catalog import NOUNS
from nanoclaw.admin.desk import Desk
from nanoclaw.admin.table import to_json
from nanoclaw.admin.verb import Access
from nanoclaw.domain.approval import ApprovalKind
from nanoclaw.domain.card import Option
from nanoclaw.domain.session import RunEnd
from nanoclaw.errors import Refused
from nanoclaw.store.approvals import NewApproval
from tests.unit.office import Office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.close()


def test_every_verb_of_the_table_is_carried_out_and_nothing_else(office: Office) -> None:
    verbs = {f"{noun.name} {verb.name}": verb for noun in NOUNS for verb in noun.verbs}
    assert set(office.desk.commands) == set(verbs)
    offline = set(Desk(office.tables, "/home").commands)
    assert {command for command, verb in verbs.items() if verb.access is Access.READ} <= offline
    assert not {command for command, verb in verbs.items() if verb.access is Access.WRITE} & offline


@pytest.mark.parametrize("noun", [noun.name for noun in NOUNS if any(verb.name == "list" for verb in noun.verbs)])
def test_every_list_answers_one_json_array(office: Office, noun: str) -> None:
    office.user()
    assert isinstance(json.loads(to_json(office.ncl(noun, "list"))), list)
    assert len(office.ncl(noun, "list", "--limit", "1").rows) <= 1


# -- groups ----------------------------------------------------------------------------------------------------------


def test_a_made_group_has_a_config_and_gets_its_folder(office: Office) -> None:
    group = office.row("groups create 'Zoë 🦊' --instructions 'Be brief.'")
    assert (group["name"], group["folder"], group["cli_scope"]) == ("Zoë 🦊", "zoe", "group")
    assert list(office.after.made) == [group["id"]]
    assert office.row("groups config get zoe")["instructions"] == "Be brief."
    assert office.events() == [("group.created", "operator")]
    made = office.tables.groups.get(office.connection, group["id"])
    office.groups.scaffold(made)
    assert (office.paths.workspace("zoe") / "CLAUDE.local.md").exists()


def test_a_group_is_found_by_name_folder_id_and_the_beginning_of_its_id(office: Office) -> None:
    group = office.row("groups create 'Dr. Who' --folder who")
    office.clock.advance(100_000)
    office.row("groups create Other")
    for name in ("who", "dr. who", "DR. WHO", group["id"], group["id"][:22], group["id"].lower()):
        assert office.row("groups", "get", name)["id"] == group["id"]


def test_an_ambiguous_name_lists_who_is_meant_and_an_unknown_one_says_how_to_look(office: Office) -> None:
    first, second = office.row("groups create Twin"), office.row("groups create Twin")
    with pytest.raises(Refused, match="more than one") as refused:
        office.ncl("groups get Twin")
    assert office.row("groups get twin --json")["id"] == first["id"], "a folder as it is spelt is one agent's alone"
    assert first["id"] in refused.value.reason and second["id"] in refused.value.reason
    with pytest.raises(Refused, match="`ncl groups list` shows"):
        office.ncl("groups get nobody")


def test_a_deleted_group_is_put_away_with_everything_of_it_and_comes_back(office: Office) -> None:
    group = office.row("groups create Tom")
    office.session(group["id"])
    office.ncl("groups delete tom")
    assert list(office.after.end.values()) == [RunEnd.STOPPED]
    assert "tom" not in [row["folder"] for row in office.table("groups list")]
    assert "tom" in [row["folder"] for row in office.table("groups list --archived")]
    assert office.rows("SELECT count(*) FROM sessions") == [(1,)]
    office.ncl("groups restore tom")
    assert "tom" in [row["folder"] for row in office.table("groups list")]


def test_a_group_is_renamed_and_keeps_its_folder(office: Office) -> None:
    assert office.row("groups update main --name Bea")["folder"] == "main"
    with pytest.raises(Refused, match="name"):
        office.ncl("groups", "update", "main", "--name", "...")


def test_a_change_says_whether_sandboxes_are_begun_anew_with_it_or_wait_for_a_restart(office: Office) -> None:
    assert "begun anew" in office.ncl("groups config update main --memory 1G").note
    assert "ncl groups restart main" in office.ncl("groups config update main --effort high").note


def test_a_restart_ends_the_live_runs_of_one_group_blames_nobody_and_leaves_a_note(office: Office) -> None:
    tom = office.row("groups create Tom")["id"]
    main = office.row("groups get main")["id"]
    live, other = office.session(tom, "a"), office.session(main, "b")
    assert office.table("groups restart tom --message 'new skills'") == [{"session": live, "run": 1}]
    assert office.after.end == {live: RunEnd.STOPPED} and not RunEnd.STOPPED.counts
    assert list(office.after.wake) == [live] and other not in office.after.end
    assert office.rows("SELECT session_id, trigger, kind FROM inbox") == [(live, 1, "system")]
    with pytest.raises(Refused, match="Which assistant"):
        office.ncl("groups restart")


def test_a_config_changes_only_in_what_was_named(office: Office) -> None:
    office.ncl("groups config update main --model claude-sonnet-4-5 --effort high --cli-scope global")
    assert len(office.after.groups) == 1
    config = office.row("groups config get main")
    assert (config["model"], config["effort"], config["cli_scope"]) == ("claude-sonnet-4-5", "high", "global")
    assert office.row("groups config update main --model default")["model"] is None
    for words, why in (
        ("--runtime dokcer", "no runtime"), ("--runtime 'docker:; rm'", "no runtime"), ("--require vm", "one of"),
        ("", "What is to change"), ("--model 'a b; rm'", "name of a model"),
        ("--provider tarot", "one of"), ("--cli-scope owner", "one of"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=why):
            office.ncl(f"groups config update main {words}")


def test_a_skill_or_a_server_that_there_is_not_is_refused_with_those_there_are(office: Office) -> None:
    with pytest.raises(Refused, match=r"There is: browser, .*wiki"):
        office.ncl("groups", "config", "add-skill", "main", "--skill", "../x")
    office.ncl("groups config add-skill main --skill wiki")
    with pytest.raises(Refused, match=r"no skill 'browser'\. It has: wiki"):
        office.ncl("groups config remove-skill main --skill browser")
    with pytest.raises(Refused, match=r"no MCP server 'x'\. It has: none"):
        office.ncl("groups config remove-mcp-server main --name x")
    with pytest.raises(Refused, match="NAME=VALUE"):
        office.ncl("groups config add-mcp-server main --name x --command npx --env UNITS")
    with pytest.raises(Refused, match="Keys stay in the vault"):
        office.ncl("groups config add-mcp-server main --name x --command npx --env API_KEY=abc")


# -- chats and wirings ------------------------------------------------------------------------------------------------


def make_chat(office: Office, name: str = "family", is_group: str = "yes") -> str:
    create = ("messaging-groups", "create", "--channel", "telegram", "--platform-id", f"-{name}", "--name", name)
    return office.row(*create, "--is-group", is_group)["id"]


def test_a_wiring_makes_a_destination_and_a_live_box_hears_of_it(office: Office) -> None:
    chat = make_chat(office)
    wiring = office.row("wirings create --chat family --group main")
    assert (wiring["engage_mode"], wiring["session_mode"]) == ("mention", "shared")
    assert list(office.after.groups) == [wiring["agent_group_id"]]
    assert ("family", chat) in [(row["name"], row["target_id"]) for row in office.table("destinations list")]
    office.ncl("wirings", "delete", wiring["id"])
    assert chat not in [row["target_id"] for row in office.table("destinations list")]


def test_a_direct_chat_is_wired_to_every_message_and_may_get_a_new_assistant(office: Office) -> None:
    make_chat(office, "dm", "no")
    wiring = office.row("wirings create --chat dm --new-group Helper")
    assert (wiring["engage_mode"], wiring["engage_pattern"], wiring["agent"]) == ("pattern", ".", "Helper")
    assert len(office.after.made) == 1


def test_which_assistant_is_asked_when_there_are_several(office: Office) -> None:
    make_chat(office)
    office.ncl("groups create Tom")
    with pytest.raises(Refused, match="--group, one of: main, tom"):
        office.ncl("wirings create --chat family")


def test_a_wiring_is_changed_in_what_was_named_and_a_bad_pattern_is_refused(office: Office) -> None:
    make_chat(office)
    wiring = office.row("wirings create --chat family --group main --priority 5")["id"]
    changed = office.row("wirings", "update", wiring, "--engage-pattern", "^hi", "--sender-scope", "known")
    assert (changed["engage_mode"], changed["engage_pattern"], changed["priority"]) == ("pattern", "^hi", 5)
    for words, why in (
        ("--engage-pattern ((", "not a regular expression"), ("--engage-mode mention --engage-pattern x", "goes with"),
        ("--session-mode alone", "one of"), ("", "What is to change"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=why):
            office.ncl(f"wirings update {wiring} {words}")
    with pytest.raises(Refused, match="already"):
        office.ncl("wirings create --chat family --group main")


def test_a_chat_is_opened_closed_and_forgotten(office: Office) -> None:
    chat = make_chat(office)
    office.ncl("wirings create --chat family --group main")
    changed = office.row("messaging-groups update family --unknown-sender-policy public --denied yes")
    assert changed["unknown_sender_policy"] == "public" and changed["denied_at"]
    assert office.row("messaging-groups update telegram:-family --denied no")["denied_at"] is None
    assert office.row("messaging-groups delete family") == {"id": chat, "removed": True}
    assert [row["chat"] for row in office.table("wirings list")] == ["local"]
    with pytest.raises(Refused, match="terminal"):
        office.ncl("messaging-groups delete local")


def test_a_chat_with_messages_keeps_its_bare_row(office: Office) -> None:
    chat = make_chat(office)
    group = office.row("groups get main")["id"]
    office.ncl("wirings create --chat family --group main")
    office.connection.execute(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, mode, last_active_at, created_at)"
        " VALUES ('0S', ?, ?, 'shared', 1, 1)",
        (group, chat),
    )
    answer = office.ncl("messaging-groups delete family")
    assert answer.rows == ((chat, False),) and "kept" in answer.note
    assert office.row("messaging-groups get family")["wired_to"] is None


def test_a_destination_is_added_named_and_taken_back(office: Office) -> None:
    make_chat(office)
    office.ncl("groups create Tom")
    added = office.row("destinations add --group main --to-group tom --name tommy")
    assert (added["name"], added["kind"]) == ("tommy", "agent")
    for words, why in (
        ("--to-group tom", "already, as tommy"), ("--to-chat family --name tommy", "called tommy already"),
        ("--to-chat family --name 'A B'", "a-z"), ("--to-group main", "own destination"), ("", "Where to"),
        ("--to-chat family --to-group tom", "Where to"), ("--to-chat nowhere", "no chat"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=why):
            office.ncl(f"destinations add --group main {words}")
    office.ncl("destinations remove tommy --group main")
    with pytest.raises(Refused, match="no destination"):
        office.ncl("destinations remove tommy --group main")


# -- people ----------------------------------------------------------------------------------------------------------


def test_a_global_role_is_there_once_however_often_it_is_granted(office: Office) -> None:
    bob = office.user()
    for _ in range(3):
        office.ncl("roles grant Bob --role admin")
    assert len(office.table("roles", "list", "--user", bob)) == 1
    assert office.events().count(("role.granted", "operator")) == 1


def test_an_owner_owns_everything_and_the_last_one_stays(office: Office) -> None:
    office.user()
    with pytest.raises(Refused, match="owns everything"):
        office.ncl("roles grant Bob --role owner --group main")
    with pytest.raises(Refused, match="last owner"):
        office.ncl("roles revoke Ada --role owner")
    assert [row["user"] for row in office.table("roles list --role owner")] == ["Ada"]
    office.ncl("roles grant Bob --role owner")
    office.ncl("roles revoke Ada --role owner")
    with pytest.raises(Refused, match="do not have"):
        office.ncl("roles revoke Ada --role owner")


def test_a_scoped_role_and_a_membership_are_of_one_group(office: Office) -> None:
    office.user()
    office.ncl("groups create Tom")
    office.ncl("roles grant telegram:bob --role admin --group tom")
    office.ncl("members add Bob --group main")
    assert [(row["role"], row["agent"]) for row in office.table("roles list --group tom")] == [("admin", "Tom")]
    assert [(row["user"], row["agent"]) for row in office.table("members list")] == [("Bob", "Andy")]
    assert office.table("members list --group tom") == []
    office.ncl("members remove Bob --group main")
    with pytest.raises(Refused, match="no member"):
        office.ncl("members remove Bob --group main")


def test_a_user_is_one_person_on_several_channels(office: Office) -> None:
    eve = office.row("users create Eve --channel matrix --handle @eve:example.org")
    assert eve["identities"] == "matrix:@eve:example.org"
    office.ncl("users link Eve --channel telegram --handle 77")
    assert office.row("users get telegram:77")["id"] == eve["id"]
    office.user()
    with pytest.raises(Refused, match="take it from them first"):
        office.ncl("users link Bob --channel telegram --handle 77")
    office.ncl("users unlink Eve --channel telegram --handle 77")
    with pytest.raises(Refused, match="no user"):
        office.ncl("users get telegram:77")
    with pytest.raises(Refused, match="cannot be taken away"):
        office.ncl("users unlink Ada --channel terminal --handle uid:0")
    assert office.row("users update Eve --name Eva --timezone Europe/Berlin")["timezone"] == "Europe/Berlin"
    with pytest.raises(Refused, match="no time zone"):
        office.ncl("users update Eva --timezone ../../etc/passwd")


def test_a_pairing_code_is_shown_once_and_stands_in_no_record(office: Office) -> None:
    office.user()
    code = office.row("users pair Bob")["code"]
    assert len(code) == 6 and code.isdigit()
    assert ("user.pairing_begun", "operator") in office.events()
    assert code not in str(office.rows("SELECT * FROM audit")) + str(office.rows("SELECT * FROM pairing_codes"))


def open_question(office: Office, *options: Option) -> str:
    new = NewApproval(
        kind=ApprovalKind.QUESTION,
        subject=options[0].value,
        title="Which?",
        text="Red or blue",
        options=options,
        payload="{}",
        expires_at=office.clock.now_ms() + 1_000_000,
    )
    return office.approvals.open(office.connection, new, office.clock.now_ms()).code


def test_the_operator_answers_a_question_by_its_code_once(office: Office) -> None:
    code = open_question(office, Option("red", "Red"), Option("blue", "Blue"))
    with pytest.raises(Refused, match="more than one way"):
        office.ncl("approvals", "approve", code)
    with pytest.raises(Refused, match="not one of its answers"):
        office.ncl("approvals", "approve", code, "--option", "3")
    assert office.row("approvals", "get", code)["text"] == "Red or blue"
    approval = office.row("approvals", "approve", code, "--option", "blue")["id"]
    assert office.rows("SELECT state, answer FROM approvals")[0][0] == "approved"
    with pytest.raises(Refused, match="decided before"):
        office.ncl("approvals", "approve", approval, "--option", "red")
    assert office.table("approvals list") == [] and len(office.table("approvals list --state all")) == 1


def test_the_operator_denies_and_may_deny_for_good(office: Office) -> None:
    code = open_question(office, Option("yes", "Yes"), Option("deny", "No"))
    with pytest.raises(Refused, match="not one of its answers"):
        office.ncl("approvals", "deny", code, "--for-good")
    assert office.row("approvals", "deny", code)["answer"] == "deny"


# -- what is no good input ---------------------------------------------------------------------------------------------

HOSTILE = ["", " ", "x" * 10_000, "a\0b", "a\nb", "../..", "/etc/passwd", "' OR 1=1 --", "🦊", "%", "_", "*", "\ud800"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("noun", ["groups", "messaging-groups", "wirings", "users", "sessions", "approvals", "tasks"])
def test_what_names_nothing_is_refused_in_a_short_sentence(office: Office, noun: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        office.ncl(noun, "get", text)
    assert len(refused.value.reason) < 400


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "🦊"], ids=range(len(HOSTILE) - 1))
def test_a_hostile_folder_is_refused_and_nothing_is_made(office: Office, text: str) -> None:
    with pytest.raises(Refused):
        office.ncl("groups", "create", "Tom", "--folder", text)
    assert len(office.table("groups list")) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("groups burn", "There is no `ncl groups burn`"),
        ("group list", "Did you mean `groups`"),
        ("groups list --colour red", "has no --colour"),
        ("groups list --limit 0", "number from 1"),
        ("groups list --limit 99999999999999999999", "number from 1"),
        ("groups list --limit 5 --limit 6", "more than once"),
        ("groups list extra", "takes no 'extra'"),
        ("groups get", "needs ID"),
        ("groups get a b", "takes one thing"),
        ("groups get a --id b", "given twice"),
        ("roles grant Ada", "needs --role"),
        ("groups list --archived=maybe", "takes no value"),
        ("users list --name", "needs a value"),
    ],
)
def test_wrong_words_are_refused_with_what_is_right(office: Office, words: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        office.ncl(words)


def test_the_filters_of_a_list_leave_the_rest_out(office: Office) -> None:
    make_chat(office)
    office.ncl("groups create Tom")
    office.ncl("wirings create --chat family --group tom")
    assert [row["chat"] for row in office.table("wirings list --group tom")] == ["family"]
    assert [row["name"] for row in office.table("messaging-groups list --channel telegram")] == ["family"]
    assert [row["name"] for row in office.table("users list --name AD")] == ["Ada"]
    assert office.table("messaging-groups list --denied") == []
    assert office.ncl("groups list --limit 1").note and not office.ncl("groups list").note
    assert [row["event"] for row in office.table("audit list --event group.created")] == ["group.created"]


def test_ids_with_dashes_or_none_can_be_given_with_and_without_their_name(office: Office) -> None:
    group = office.row("groups get main")
    assert office.row("groups", "get", "--id", group["id"]) == office.row(f"groups get --id={group['id']}") == group
