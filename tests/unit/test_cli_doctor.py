"""doctor's single checks: each says what is wrong, and what mends it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from nanoclaw.cli import doctor
from nanoclaw.cli.finding import State
from nanoclaw.gateway.admin_words import BudgetLine
from nanoclaw.sandbox.allowlist import AllowlistFile
from nanoclaw.store.migrate import open_store


def test_an_old_python_a_full_disk_and_a_missing_agent_are_wrong() -> None:
    assert doctor.check_python((3, 10)).state is State.WRONG
    assert doctor.check_disk(1 << 20, Path("/x")).state is State.WRONG
    assert doctor.check_disk(1 << 29, Path("/x")).state is State.NOTE
    missing = doctor.check_agent(None)
    assert missing.state is State.WRONG and missing.mend


def test_a_switch_of_the_kernel_that_forbids_namespaces_is_named_with_its_mend(tmp_path: Path) -> None:
    switch = tmp_path / "max_user_namespaces"
    switches = ((str(switch), "0", "sudo sysctl -w user.max_user_namespaces=15000"),)
    switch.write_text("0\n")
    found = list(doctor.check_namespaces(switches))
    assert [finding.state for finding in found] == [State.NOTE] and "sysctl" in found[0].mend
    switch.write_text("15000\n")
    assert [finding.state for finding in doctor.check_namespaces(switches)] == [State.GOOD]


def test_a_database_is_missing_whole_newer_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "nanoclaw.db"
    assert doctor.check_database(path).state is State.NOTE
    open_store(path, 0).close()
    assert doctor.check_database(path).state is State.GOOD
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO schema_version VALUES (999, 'of the future', 0)")
    connection.commit()
    connection.close()
    newer = doctor.check_database(path)
    assert newer.state is State.WRONG and "newer NanoClaw" in newer.words
    path.write_bytes(b"garbage" * 1000)
    damaged = doctor.check_database(path)
    assert damaged.state is State.WRONG and "is damaged" in damaged.words


def test_an_allowlist_with_a_mistake_is_wrong_and_a_root_that_is_gone_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "mounts.toml"
    assert doctor.check_mounts(AllowlistFile(path)).state is State.GOOD
    path.write_text(f"[[root]]\npath = '{tmp_path}/gone'\n")
    assert doctor.check_mounts(AllowlistFile(path)).state is State.NOTE
    path.write_text("[[root]\n")
    wrong = doctor.check_mounts(AllowlistFile(path))
    assert wrong.state is State.WRONG and str(path) in wrong.words


def test_an_unknown_time_zone_is_noted() -> None:
    assert doctor.check_timezone("Europe/Berlin").state is State.GOOD
    assert doctor.check_timezone("Nowhere/Town").state is State.NOTE


def test_a_budget_that_is_spent_is_noted() -> None:
    def line(name: str, spent: int, tokens: int = 0) -> BudgetLine:
        return BudgetLine("group" if name else "all", name, "day", 5_000_000, 100, spent, tokens, 0, 0)

    assert doctor.describe_budgets([]).state is State.GOOD
    assert doctor.describe_budgets([line("main", 4_999_999, 99)]).state is State.GOOD
    spent = doctor.describe_budgets([line("main", 5_000_000), line("", 0, 100), line("other", 1)])
    assert (spent.state, spent.words) == (State.NOTE, "spent: main for the day, all agents together for the day")
    assert spent.mend == "./nanoclaw.sh cost limits"


def test_rules_that_had_to_fall_back_are_wrong_and_say_why() -> None:
    assert doctor.judge_rules(0, "").state is State.GOOD
    assert "generation 7" in doctor.judge_rules(7, "").words
    fallen = doctor.judge_rules(6, "gateway/rules/7.toml, line 3: ...")
    assert fallen.state is State.WRONG and "line 3" in fallen.words and "egress log" in fallen.mend
