"""The command line: its quick answers, its exit codes, its words on stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from nanoclaw.cli import setup
from nanoclaw.cli.main import VERSION
from nanoclaw.cli.talk import render_markdown
from nanoclaw.config import load_config
from nanoclaw.errors import OperatorError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", "-m", "nanoclaw.cli.main", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60)


def test_the_version_is_the_one_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert run("--version").stdout == f"nanoclaw {VERSION}\n".encode()


def test_the_version_is_said_within_60_ms() -> None:
    def took() -> float:
        began = time.perf_counter()
        run("--version")
        return time.perf_counter() - began

    assert min(took() for _ in range(10)) <= 0.060


def test_the_version_imports_neither_click_nor_asyncio() -> None:
    command = "import sys; sys.argv = ['nanoclaw', '--version']; from nanoclaw.cli.main import main; main()"
    check = "; print([name for name in ('click', 'asyncio', 'rich', 'msgspec') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-I", "-c", command + check], capture_output=True, timeout=60)
    assert said.stdout.decode().splitlines()[-1] == "[]"


def test_asking_once_needs_no_asyncio_and_no_rich() -> None:
    command = "import sys, nanoclaw.cli.verbs, nanoclaw.cli.chat; "
    check = "print([name for name in ('asyncio', 'rich', 'prompt_toolkit', 'sqlite3') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-I", "-c", command + check], capture_output=True, timeout=60)
    assert said.stdout.decode().strip() == "[]"


def test_help_names_every_verb() -> None:
    words = run("--help").stdout.decode()
    for verb in ("chat", "setup", "up", "stop", "status", "doctor", "logs", "trace", "audit", "vault"):
        assert f"\n  {verb} " in words


@pytest.mark.parametrize("arguments", [("dance",), ("chat", "--dance"), ("chat", "--chat", "a\nb", "hi"), ("trace",)])
def test_wrong_usage_is_exit_2_with_words_on_stderr(home: Path, arguments: tuple[str, ...]) -> None:
    said = run(*arguments)
    assert (said.returncode, said.stdout) == (2, b"") and said.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b" \n", b"empty"), (b"x" * (1 << 20), b"too long"), (b"a\0b", b"NUL"), (b"\xff\xfe", b"not valid UTF-8")],
)
def test_a_message_that_cannot_be_sent_is_refused_before_a_host_is_started(
    home: Path, text: bytes, reason: bytes
) -> None:
    said = run("chat", "-", stdin=text)
    assert (said.returncode, said.stdout) == (1, b"") and reason in said.stderr
    assert not (home / "run" / "lock").exists()


def test_a_home_that_cannot_be_made_is_exit_2_and_says_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "file" / "home"))
    said = run("chat", "hi")
    assert said.returncode == 2
    assert b"cannot write in" in said.stderr and b"NANOCLAW_HOME" in said.stderr


def test_a_host_that_the_operator_must_mend_is_exit_2_with_its_own_words(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "nanoclaw.db").write_bytes(b"no database" * 1000)
    said = run("chat", "hi")
    assert (said.returncode, said.stdout) == (2, b"")
    assert b"is damaged" in said.stderr and b"mv " in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_without_a_host_status_trace_and_stop_say_so(home: Path) -> None:
    status = run("status", "--json")
    assert status.returncode == 1 and json.loads(status.stdout)[0]["host"] == "down"
    assert run("stop").stdout == b"No host runs.\n"
    assert run("trace", "01ABCDEF").returncode == 2
    assert run("logs").returncode == 1


def test_a_host_that_is_not_ready_yet_can_be_stopped(home: Path) -> None:
    lock = load_config().paths.lock
    script = "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR); fcntl.flock(f, 2); "
    script += "os.write(f, str(os.getpid()).encode()); print('locked', flush=True); time.sleep(60)"
    host = subprocess.Popen([sys.executable, "-I", "-c", script, str(lock)], stdout=subprocess.PIPE)
    assert host.stdout is not None and host.stdout.readline() == b"locked\n"
    assert run("stop").stdout == b"The host has stopped.\n"
    host.communicate()


def test_names_and_time_zones_are_checked(home: Path) -> None:
    config = load_config()
    wishes = setup.Wishes("Ada", "Europe/Berlin", None, False, True)
    assert setup.choose_settings(config, wishes, asking=False) == {"owner": "Ada", "timezone": "Europe/Berlin"}
    silent = setup.Wishes(None, None, None, False, True)
    assert setup.choose_settings(config, silent, asking=False) == {}
    for bad in ("", "x" * 81, "a\x1b[31m"):
        with pytest.raises(OperatorError):
            setup.parse_name(bad)
    for bad in ("", "Nowhere/Town", "../../etc/passwd", "/etc/localtime"):
        with pytest.raises(OperatorError):
            setup.parse_timezone(bad)


def test_a_reader_that_has_gone_is_no_traceback(home: Path) -> None:
    ends = os.pipe()
    os.close(ends[0])
    with os.fdopen(ends[1], "wb") as pipe:
        command = [sys.executable, "-I", "-m", "nanoclaw.cli.main", "doctor", "--json"]
        said = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, timeout=60)
    assert b"Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["chta"], "Did you mean 'chat'?"),
        (["hello", "there"], "./nanoclaw.sh chat 'hello there'"),
        (["chat", "hello", "there"], "Put the message in quotes: ./nanoclaw.sh chat 'hello there'"),
    ],
)
def test_whoever_mistypes_is_told_what_to_type(typed: list[str], hint: str, home: Path) -> None:
    done = run(*typed)
    assert (done.returncode, done.stdout) == (2, b"")
    assert hint in done.stderr.decode()


def test_a_line_break_of_an_answer_is_shown_as_one() -> None:
    lines = [line.strip() for line in render_markdown("line 1\nline 2\n\n- a\n- b", 80).splitlines() if line.strip()]
    assert lines[:2] == ["line 1", "line 2"]


def test_an_output_that_cannot_be_written_is_told_in_words(home: Path) -> None:
    command = [sys.executable, "-I", "-m", "nanoclaw.cli.main", "status"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"nanoclaw: No space left on device\n")


def test_a_closed_stdin_stdout_and_stderr_harm_nothing(home: Path) -> None:
    command = f"{sys.executable} -I -m nanoclaw.cli.main status --json <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60).returncode == 1  # as ever: no host runs
    assert not list(home.glob("**/*.json"))
