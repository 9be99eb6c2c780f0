"""`nanoclaw egress`: what it asks for, what it prints, what it says to wrong words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from nanoclaw.admin.table import Table, format_table
from nanoclaw.cli import audit, egress, egress_watch
from nanoclaw.cli.names import Names
from nanoclaw.config import load_config
from nanoclaw.errors import OperatorError
from nanoclaw.gateway.admin_words import AuditLine
from nanoclaw.gateway.egress_words import RuleLine, RuleList, RuleWords

WEATHER = RuleWords(
    "api.example.org",
    name="weather",
    group="andy",
    action="ask",
    port=8443,
    methods=("GET", "POST"),
    paths=("/v1/**", "/v2"),
    inject="weather-key",
    rate="60/minute",
    days="mon,tue",
    hours="08:00-18:00",
    answer_limit="10MB",
    upgrade=True,
    model="openai",
)


def row(seq: int, event: str, **more: str) -> AuditLine:
    values = {"reason": "", "rule": "r", "host": "a.org", "path": "/x", "agent_group": "g1", "charge": "u1"} | more
    numbers = {"fence": 1, "call": 0, "status": 0, "sent_bytes": 0, "received_bytes": 0, "took_ms": 0}
    return AuditLine(seq=seq, at=0, event=event, session="s", method="GET", hash="", **values, **numbers)  # type: ignore[arg-type]


def test_a_rule_is_one_row_that_says_all_of_it() -> None:
    found = RuleList(1, (RuleLine(WEATHER, "own", "the secret weather-key is not set"),))
    assert egress.list_table(found, whole=True).rows == (
        (
            "weather",
            "andy",
            "ask",
            "GET,POST",
            "https://api.example.org:8443 /v1/** /v2",
            "weather-key",
            "60/minute, mon,tue, 08:00-18:00, at most 10MB, openai costs, upgrade",
            "own",
            "the secret weather-key is not set",
        ),
    )


def test_for_people_a_rule_is_short_and_the_usual_goes_without_saying() -> None:
    plain = RuleWords("a.org", name="a", action="allow", port=443)
    found = RuleList(1, (RuleLine(WEATHER, "own"), RuleLine(plain, "own")))
    weather, usual = egress.list_table(found, whole=False).rows
    assert weather[3] == "GET,POST api.example.org:8443 /v1/** /v2"
    assert weather[4] is not None and str(weather[4]).startswith("puts on weather-key, 60/minute")
    assert usual == ("a", "all", "allow", "any a.org", "", "own", "")


def test_a_group_of_a_rule_file_that_is_no_agents_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "home"))
    rules = '[[rule]]\nhost = "a.org"\ngroup = "{}"\n[[use]]\nset = "github"\n'
    assert list(egress.find_strangers(load_config(), rules.format("main"))) == []
    (note,) = egress.find_strangers(load_config(), rules.format("mian"))
    assert note.startswith("group = 'mian' has no effect: There is no agent 'mian'")


def test_the_many_rules_against_telemetry_are_one_row_for_people_and_whole_in_json() -> None:
    hosts = ("statsig.com", "sentry.io", "datadoghq.com")
    found = RuleList(0, tuple(RuleLine(RuleWords(host, name="telemetry", action="deny"), "built-in") for host in hosts))
    table = egress.list_table(found, whole=False)
    assert len(table.rows) == 1
    assert table.note.startswith("2 more rules refuse the telemetry")
    assert "all" in format_table(table, "UTC").split()
    assert len(egress.list_table(found, whole=True).rows) == 3


def test_lists_are_given_with_commas_or_by_several_options() -> None:
    assert egress.split_list(("GET,POST", " PUT ", "")) == ("GET", "POST", "PUT")
    assert egress.split_list(()) == ()


def test_a_rule_file_is_read_from_a_file_or_refused_in_words(tmp_path: Path) -> None:
    good, binary, long = tmp_path / "good", tmp_path / "binary", tmp_path / "long"
    good.write_text("[[rule]]\n")
    binary.write_bytes(b"\xff")
    long.write_bytes(b"#" * (egress.FILE_BYTES + 1))
    assert egress.read_rules(good) == "[[rule]]\n"
    for path, said in ((binary, "no text file"), (long, "longer than"), (tmp_path / "none", "cannot read")):
        with pytest.raises(OperatorError, match=said):
            egress.read_rules(path)


def test_a_decision_is_one_line_that_a_terminal_shows_as_it_is() -> None:
    refused = row(1, "refused", reason="No rule\x1b[2J allows it.\nReally.")
    line = egress_watch.describe(refused, "UTC", Names({"u1": "Ada"}, {"g1": "Andy"}))
    assert line.startswith("deny Andy GET a.org/x (Ada) [r] No rule")
    assert "g1 GET a.org/x (u1)" in egress_watch.describe(refused, "UTC", Names())
    assert line.isprintable()


def test_the_audit_shows_people_and_agents_by_name_where_they_are_known() -> None:
    line = row(1, "refused", reason="no", charge="u1")
    known = audit.gateway_row(line, Names({"u1": "Ada"}, {"g1": "Andy"}))
    assert dict(zip(audit.COLUMNS, known, strict=True)) == {
        "at": 0, "by": "gateway", "agent": "Andy", "event": "refused", "who": "Ada", "what": "GET a.org/x",
        "verdict": "deny", "reason": "no",
    }  # fmt: skip
    assert audit.gateway_row(line, Names())[2:5] == ("g1", "refused", "u1")


def test_a_chain_that_fits_says_so_and_one_that_does_not_says_where() -> None:
    verified = Table(audit.VERIFIED, (("host", 9, None), ("gateway", 44, 12)))
    assert audit.told(verified).rows == (("host", 9, "whole"), ("gateway", 44, "broken at row 12"))


def test_watching_shows_what_is_decided_for_one_agent_and_every_change(capsys: pytest.CaptureFixture[str]) -> None:
    batches = [
        [row(5, "allowed"), row(6, "finished"), row(7, "refused", agent_group="g2")],
        [],
        [row(8, "changed", agent_group="", reason="allow a.org")],
    ]
    asked: list[int] = []

    def rows(after: int) -> list[AuditLine]:
        asked.append(after)
        if not batches:
            raise KeyboardInterrupt
        return batches.pop(0)

    with pytest.raises(KeyboardInterrupt):
        egress_watch.follow(rows, 4, "g1", None)
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [5, 8]
    assert asked == [4, 7, 7, 8]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["allow"], "say which HOST, or which --set"),
        (["allow", "a.org", "--set", "github"], "a set is taken as it is"),
        (["allow", "--set", "github", "--ask"], "a set is taken as it is"),
        (["rm", "x", "--all", "--group", "main"], "exclude each other"),
        (["revert", "-1"], "-1"),
    ],
)
def test_words_that_do_not_fit_are_told(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "home"))
    with pytest.raises(click.UsageError, match=said):
        egress.command.main(words, standalone_mode=False)


def test_an_agent_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "home"))
    config = load_config()
    assert egress.find_folder(config, None) is None
    assert egress.find_folder(config, "main") == "main"
    with pytest.raises(OperatorError, match="no agent 'andy' yet"):
        egress.find_folder(config, "andy")


@pytest.mark.ci  # a gateway is started for each command: half a second each
def test_a_person_without_a_host_allows_tries_out_changes_and_takes_back(tmp_path: Path) -> None:
    def nanoclaw(*words: str, given: str = "") -> tuple[int, str]:
        command = [sys.executable, "-m", "nanoclaw.cli.main", "egress", *words]
        environment = {"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(tmp_path / "home")}
        ended = subprocess.run(
            command, env=environment, input=given, capture_output=True, text=True, timeout=60, check=False
        )
        return ended.returncode, ended.stdout + ended.stderr

    assert nanoclaw("test", "https://a.org/")[0] == 1
    code, said = nanoclaw("allow", "a.org", "--methods", "GET,POST", "--path", "/v1/**", "--rate", "5/minute")
    assert (code, said) == (0, "Allowed: a.org (generation 1).\n")
    code, said = nanoclaw("test", "https://a.org/v1/x")
    assert (code, "allow" in said, "The rule 'a.org' allows GET a.org/v1/x." in said) == (0, True, True)
    code, said = nanoclaw("allow", "HTTPS://a.org/x")
    assert (code, "write the host alone" in said) == (2, True)
    code, said = nanoclaw("apply", "-", given="[[rule]]\nhost = 'b.org'\nmetods = []\n")
    assert (code, "line 3: 'metods' is no key of a rule" in said) == (2, True)
    assert nanoclaw("show")[1].startswith('[[rule]]\nhost = "a.org"\n')
    assert json.loads(nanoclaw("list", "--json")[1])[0]["rule"] == "a.org"
    assert nanoclaw("deny", "a.org")[1].startswith("Denied: a.org (generation 2).\n")
    assert nanoclaw("test", "a.org/v1/x")[0] == 1
    assert nanoclaw("revert") == (0, "Reverted (generation 1).\n")
    assert nanoclaw("rm", "a.org") == (0, "Removed: a.org (generation 3).\n")
    assert [line["what"] for line in json.loads(nanoclaw("log", "--json")[1])][-1] == "remove a.org"
    code, said = nanoclaw("watch")
    assert (code, "no host runs" in said) == (2, True)
