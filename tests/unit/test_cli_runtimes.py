"""doctor on runtimes: what it recommends from what is here, and the exact mend for AppArmor."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw.cli.finding import State
from nanoclaw.cli.runtimes import PROFILE, Here, check_apparmor, describe_limits, find_here, recommend
from nanoclaw.config import load_config
from nanoclaw.sandbox.runtimes.base import Capability, Hold


def test_apparmor_that_forbids_user_namespaces_gets_the_profile_that_lets_bubblewrap(tmp_path: Path) -> None:
    switch, profiles = tmp_path / "switch", tmp_path / "apparmor.d"
    assert list(check_apparmor(switch, profiles)) == []
    switch.write_text("0\n")
    assert list(check_apparmor(switch, profiles)) == []
    switch.write_text("1\n")
    (found,) = check_apparmor(switch, profiles)
    assert found.state is State.NOTE and "apparmor_parser -r /etc/apparmor.d/bwrap" in found.mend
    assert "userns," in found.mend and "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in found.mend
    (profiles / "abi").mkdir(parents=True)
    (profiles / "firefox").write_text("profile firefox /usr/bin/firefox flags=(unconfined) {\n  userns,\n}\n")
    (profiles / "other").write_text("profile bwrap /usr/bin/bwrap flags=(unconfined) {\n  file,\n}\n")
    (profiles / "raw").write_bytes(b"\xff\xfe")
    assert [found.state for found in check_apparmor(switch, profiles)] == [State.NOTE]
    (profiles / "bwrap").write_text(PROFILE)
    assert [found.state for found in check_apparmor(switch, profiles)] == [State.GOOD]


def test_bubblewrap_is_recommended_where_it_works_and_a_kernel_of_ones_own_named_beside_it() -> None:
    alone = recommend(Here("0.8.0", "", (), "", has_runsc=False))
    assert alone.state is State.GOOD and "bubblewrap 0.8.0" in alone.words and "install Docker" in alone.words
    half = recommend(Here("0.8.0", "", ("runc",), "", has_runsc=True))
    assert "sudo runsc install" in half.words
    both = recommend(Here("0.8.0", "", ("runc", "runsc"), "", has_runsc=True))
    assert "docker:runsc: a kernel of its own" in both.words


def test_an_engine_is_recommended_where_bubblewrap_does_not_work_and_nothing_at_all_is_wrong() -> None:
    engine = recommend(Here("", "no user namespaces", ("runc",), "", has_runsc=False))
    assert (engine.state, engine.mend) == (State.NOTE, 'write runtime = "docker" into config/config.toml')
    best = recommend(Here("", "no user namespaces", ("runc", "runsc"), "", has_runsc=True))
    assert best.words.startswith("docker:runsc, for bubblewrap does not work here (no user namespaces)")
    assert recommend(Here("", "it is not installed", (), "none", has_runsc=True)).state is State.WRONG


def test_a_limit_that_nothing_keeps_is_a_note() -> None:
    kept = Capability("memory", Hold.KERNEL, "cgroup v2")
    watched = Capability("disk", Hold.WATCHED, "counted")
    good = describe_limits("docker", [kept, watched])
    assert (good.state, good.words) == (State.GOOD, "memory: cgroup v2; disk: counted (watched)")
    assert describe_limits("x", [Capability("cpu", Hold.NONE, "no cgroup")]).state is State.NOTE


def test_what_is_here_is_found_by_trying_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.toml").write_text(f'engine_socket = "{tmp_path}/no.sock"\n')
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path))
    here = find_here(load_config())
    assert here.engine == () and here.engine_fault
    assert bool(here.bubblewrap) is not bool(here.bubblewrap_fault)
