"""`nanoclaw cost` and `nanoclaw audit` with no host running: names from the store, sums and chains from the ledger."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest

from nanoclaw.cli.audit_chain import Head, parse_head
from nanoclaw.cli.since import parse_since
from nanoclaw.clock import SystemClock
from nanoclaw.gateway.audit_row import Entry, Event
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.policy import Caller, Rule
from nanoclaw.gateway.spending import Planned, Reservation, Spent
from nanoclaw.gateway.usage import Usage
from tests.unit.office import Office

MODEL = Rule("model", "api.anthropic.com", model="anthropic")
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "audit.md"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TZ", "UTC")
    return tmp_path / "home"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-m", "nanoclaw.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def rows(*arguments: str) -> list[dict[str, Any]]:
    said = run(*arguments, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


async def spend(ledger: Ledger, caller: Caller, charge: str, micros: int, *, estimated: bool = False) -> None:
    entry = Entry(Event.ALLOWED, caller, charge, "POST", "api.anthropic.com", "/v1/messages", "model")
    number = await ledger.record(entry)
    spent = Spent(Reservation(Planned(caller, charge, MODEL, b"", 0)), Usage("claude-x", 10, 5), micros, estimated)
    ended = replace(entry, event=Event.FINISHED, call=number, status=200)
    await asyncio.wrap_future(ledger.submit(ended, spent))


@pytest.mark.ci  # eight commands, each with a gateway of its own: 5 s
def test_costs_carry_the_names_of_agents_and_people_and_say_what_is_estimated(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('timezone = "Asia/Kathmandu"\n')
    assert run("cost").stdout == "(nothing)\n"  # makes the ledger, as the gateway's own user
    office = Office(home)
    group, person = office.row("groups list")["id"], office.row("users list")["id"]
    office.close()
    ledger = Ledger(home / "gateway" / "ledger.db", SystemClock())
    ledger.open()
    gone = Caller("s2", 1, "G9", "old")

    async def fill() -> None:
        await spend(ledger, Caller("s1", 1, group, "main"), person, 1_500_000)
        await spend(ledger, Caller("s1", 2, group, "main"), "task:T1", 250_000, estimated=True)
        await spend(ledger, gone, "telegram:7", 1_000)

    asyncio.run(fill())
    ledger.close()

    table = run("cost").stdout.splitlines()
    assert [re.split(r"  +", line) for line in table] == [
        ["group", "calls", "input", "output", "cache read", "cache write", "cost"],
        ["Andy", "2", "20", "10", "0", "0", "~$1.75"],
        ["old", "1", "10", "5", "0", "0", "$0.001"],
        ["all together", "3", "30", "15", "0", "0", "~$1.75"],
    ]
    people = {row["person"]: row["cost_micros"] for row in rows("cost", "--by", "person")}
    assert people == {"Ada": 1_500_000, "telegram:7": 1_000}
    assert [row["task"] for row in rows("cost", "--by", "task")] == ["task:T1"]
    assert run("cost", "limit", "--group", "andy", "--day", "2.5").stdout == "Limited: Andy (main)\n"
    assert run("cost", "limit", "--person", "terminal:uid:0", "--month", "9").stdout == "Limited: Ada\n"
    limits = rows("cost", "limits")
    assert (limits[0]["opens_at"] + 20_700_000) % 86_400_000 == 0  # midnight in Nepal is at 18:15 UTC
    found = {row["whose"]: (row["spent"], row["limit"], row["period"]) for row in limits}
    assert found == {"main": ("$1.75", "$2.50", "day"), "Ada": ("$1.50", "$9.00", "month")}
    assert [row["verdict"] for row in rows("audit", "--group", "main", "--session", "s1")] == ["allow", "", "allow", ""]


def test_wrong_words_about_money_are_exit_2_and_a_stranger_has_no_limit(home: Path) -> None:
    assert "say whose" in run("cost", "limit", "--day", "5").stderr
    assert "say how much" in run("cost", "limit", "--all").stderr
    assert run("cost", "limit", "--all", "--group", "main", "--day", "5").returncode == 2
    assert run("cost", "limit", "--all", "--day", "-5").returncode == 2
    Office(home).close()
    said = run("cost", "limit", "--person", "nobody", "--day", "5")
    assert said.returncode == 1 and "nobody" in said.stderr


@pytest.mark.ci  # a dozen commands, each with a gateway of its own: 10 s
def test_both_chains_are_exported_with_what_checks_them_and_an_edit_or_a_cut_off_end_shows(home: Path) -> None:
    run("cost", "limit", "--all", "--day", "5")
    office = Office(home)
    office.ncl("groups create Bee")
    office.close()
    run("cost", "limit", "--all", "--day", "6")
    heads = {row["chain"]: row["head"] for row in rows("audit", "head")}
    assert run("audit", "verify", "--head", heads["host"], "--head", heads["gateway"]).returncode == 0
    exported = run("audit", "export", "--jsonl").stdout
    lines = [json.loads(line) for line in exported.splitlines()]
    assert [line["end"] for line in lines if "end" in line] == [heads["host"], heads["gateway"]]
    script = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert script is not None

    def check(text: str) -> str:
        return subprocess.run([sys.executable, "-c", script[1]], input=text, capture_output=True, text=True).stdout

    assert check(exported) == f"{heads['host']} fits\n{heads['gateway']} fits\n"
    assert "does not fit" in check(exported.replace("$5.00 a day", "$9.00 a day"))
    assert "does not fit" in check("\n".join(line for line in exported.splitlines() if '"n":1,' not in line))
    cut = f"gateway:{'a' * 64}@2"
    said = run("audit", "verify", "--head", cut, "--head", f"host:{heads['host'][5:69]}@99")
    assert said.returncode == 1 and said.stderr.count("cut off or changed") == 2
    assert run("audit", "--verify").returncode == 0
    assert run("audit", "verify", "--head", "x").returncode == 2


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("all", "1970-01-01T00:00:00+00:00"),
        ("12h", "2026-03-29T00:00:00+00:00"),
        ("1d", "2026-03-28T12:00:00+00:00"),
        ("1w", "2026-03-22T12:00:00+00:00"),
        ("today", "2026-03-28T23:00:00+00:00"),
        ("month", "2026-02-28T23:00:00+00:00"),
        ("2026-03-30", "2026-03-29T22:00:00+00:00"),
    ],
)
def test_how_far_back_is_said_in_days_of_the_operators_time_zone(text: str, since: str) -> None:
    now = round(datetime.fromisoformat("2026-03-29T12:00:00+00:00").timestamp() * 1000)
    assert parse_since(text, now, "Europe/Berlin") == datetime.fromisoformat(since).timestamp() * 1000


@pytest.mark.parametrize("text", ["", "7", "7y", "yesterday", "99999d", "2026-13-01"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="say 12h"):
        parse_since(text, 0, "UTC")


def test_a_head_without_its_chain_is_the_gateways() -> None:
    assert parse_head("a" * 64 + "@7") == Head("gateway", "a" * 64, 7)
    assert str(parse_head("host:" + "b" * 64 + "@1")) == "host:" + "b" * 64 + "@1"
