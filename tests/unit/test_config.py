"""The one place that reads the environment: homes, settings, run folders, uids."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nanoclaw.config import (
    UID_FLOOR,
    UIDS_PER_INSTALL,
    Config,
    Paths,
    Settings,
    load_config,
    read_settings,
    write_settings,
)
from nanoclaw.errors import OperatorError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("NANOCLAW_HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    monkeypatch.setenv("TZ", "Europe/Vienna")
    (tmp_path / "xdg").mkdir()
    return home


def settle(home: Path, text: str) -> Path:
    path = home / "config.toml"
    home.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_new_home_gets_its_folders_with_their_modes_and_an_identity(home: Path) -> None:
    config = load_config()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert modes == {
        "data": 0o700, "logs": 0o700, "config": 0o700, "run": 0o700, "groups": 0o700, "compose": 0o700,
        "sessions": 0o700,
    }  # fmt: skip
    assert len(config.install) == 8 and load_config().install == config.install
    assert config.paths.home == home and config.timezone == "Europe/Vienna" and config.uid == os.geteuid()


def test_two_homes_are_two_installs_with_uids_of_their_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_config()
    monkeypatch.setenv("NANOCLAW_HOME", str(home.with_name("other")))
    second = load_config()
    assert first.install != second.install and first.uid_base != second.uid_base


def test_the_home_is_below_the_users_when_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANOCLAW_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_config().paths.home == tmp_path / ".nanoclaw"


def test_a_home_that_cannot_be_written_is_named_with_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", "/proc/nanoclaw")  # read-only for root too
    with pytest.raises(OperatorError, match=r"cannot write in /proc/nanoclaw.*export NANOCLAW_HOME="):
        load_config()


def test_a_home_that_is_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "file"))
    with pytest.raises(OperatorError, match="cannot write in"):
        load_config()


def test_a_damaged_identity_is_refused(home: Path) -> None:
    load_config()
    (home / "data" / "install").write_text("../../etc\n")
    with pytest.raises(OperatorError, match="damaged"):
        load_config()


# -- where sockets go ---------------------------------------------------------------------------------------------


def test_sockets_lie_in_the_home_while_their_path_is_short(home: Path) -> None:
    paths = load_config().paths
    assert paths.run == home / "run" or len(os.fsencode(home / "run" / "terminal.sock")) > 100


def test_a_long_path_moves_the_sockets_to_a_folder_of_the_users_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    monkeypatch.setenv("NANOCLAW_HOME", str(long))
    paths = load_config().paths
    assert paths.run.parent == tmp_path / "xdg" and stat.S_IMODE(paths.run.stat().st_mode) == 0o700
    assert load_config().paths.run == paths.run
    assert paths.lock == long / "run" / "lock"


@pytest.mark.parametrize("how", ["open to others", "a link", "another user's"])
def test_a_run_folder_that_is_not_the_users_own_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / ("x" * 100)))
    run = load_config().paths.run
    if how == "open to others":
        run.chmod(0o755)
    elif how == "a link":
        run.rename(run.with_name("elsewhere"))
        run.symlink_to(run.with_name("elsewhere"))
    elif os.geteuid() == 0:
        os.chown(run, 12345, 12345)
    else:
        pytest.skip("only root can give a folder away: sudo ./nanoclaw.sh test")
    with pytest.raises(OperatorError, match="belongs to somebody else"):
        load_config()


# -- config.toml --------------------------------------------------------------------------------------------------


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "config.toml") == Settings()


def test_settings_are_read_with_their_types(tmp_path: Path) -> None:
    path = settle(tmp_path, 'owner = "Gina"\nidle_seconds = 30\nturn_seconds = 1.5\nmemory_floor_mb = 64\n')
    assert read_settings(path) == Settings(owner="Gina", idle_seconds=30.0, turn_seconds=1.5, memory_floor_mb=64)
    assert isinstance(read_settings(path).idle_seconds, float)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('ownr = "Gina"\n', r"unknown key 'ownr'.*Known keys: .*owner"),
        ("owner = 7\n", r"owner must be a str, not 7"),
        ('memory_floor_mb = "much"\n', r"memory_floor_mb must be a int"),
        ("memory_floor_mb = 1.5\n", r"memory_floor_mb must be a int"),
        ("[owner]\nname = 'x'\n", r"owner must be a str"),
        ("owner = \n", r"not valid TOML.*line 1"),
        ('owner = "a"\nowner = "b"\n', r"not valid TOML"),
    ],
)
def test_a_bad_setting_is_named_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    path = settle(tmp_path, text)
    with pytest.raises(OperatorError, match=words) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'owner = "\xff"\n')
    with pytest.raises(OperatorError, match="not valid TOML"):
        read_settings(path)


def test_what_is_written_is_read_again_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    path = settle(tmp_path, '# mine\nowner = "Old"\nidle_seconds = 30\n')
    odd = 'Gina "the \\ owner"'
    write_settings(path, {"owner": odd, "timezone": "UTC"})
    assert read_settings(path) == Settings(owner=odd, timezone="UTC", idle_seconds=30.0)
    assert "# mine" in path.read_text()
    assert [item.name for item in tmp_path.iterdir()] == ["config.toml"]


# -- uids ---------------------------------------------------------------------------------------------------------


def test_on_a_root_host_nobody_shares_a_uid() -> None:
    paths = Paths(Path("/h"), Path("/h/run"))
    installs = [
        Config(paths, Settings(), install, "UTC", "root", 0) for install in ("00000000", "00000001", "fffffffe")
    ]
    for config in installs:
        uids = [config.gateway_uid, config.rehearsal_uid, *(config.box_uid(number) for number in range(100))]
        assert len(set(uids)) == len(uids)
        assert all(UID_FLOOR <= uid < 2**31 for uid in uids)
        assert all(config.uid_base <= uid < config.uid_base + UIDS_PER_INSTALL for uid in uids)
    assert len({config.uid_base for config in installs}) == len(installs)


def test_a_normal_users_host_is_that_user_everywhere() -> None:
    config = Config(Paths(Path("/h"), Path("/h/run")), Settings(), "0badcafe", "UTC", "gina", 1000)
    assert {config.gateway_uid, config.rehearsal_uid, config.box_uid(0), config.box_uid(7)} == {1000}


def test_a_name_with_a_line_break_is_written_on_one_line(tmp_path: Path) -> None:
    path = settle(tmp_path, "")
    write_settings(path, {"owner": 'Gina\nmodel_upstream = "http://evil"'})
    assert read_settings(path) == Settings(owner='Gina model_upstream = "http://evil"')
