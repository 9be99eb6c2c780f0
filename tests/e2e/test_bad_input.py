"""What people, disks, models and agents do wrong: each ends with a plain line, nothing lost, the host up."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Chat, LiveHost, live_home


def run_up(home: Path, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `nanoclaw up` where it must refuse; return what it said."""
    environment = {"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(home)}
    command = [*prefix, sys.executable, "-m", "nanoclaw.cli.main", "up"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def says_and_lives(host: LiveHost, text: str, words: str, seconds: float = 60) -> None:
    """The chat is told `words`; the next message is answered by the same host."""
    chat = Chat(host)
    assert words in chat.ask(text, "bad", seconds)
    assert chat.outcome("bad") == "failed"
    assert chat.ask("say: alive", "good", 30) == "alive"
    assert host.process is not None
    assert host.process.poll() is None


def test_a_model_that_refuses_the_key_is_told_with_the_command_that_mends_it(host: LiveHost) -> None:
    says_and_lives(host.start(), "fail: 401", "nanoclaw vault set anthropic")


@pytest.mark.ci  # the CLI itself retries for half a minute and more before it gives up
@pytest.mark.parametrize(
    ("failure", "words"), [("429", "rate limit"), ("500", "500"), ("garbage", "malformed"), ("nothing", "502")]
)
def test_a_model_that_fails_is_told_in_the_end(failure: str, words: str, host: LiveHost) -> None:
    says_and_lives(host.start(), f"fail: {failure}", words, 300)


@pytest.mark.ci  # a hang, the 5 s of an interrupt and a back-off; the runner's own tests hold the rule each time
def test_an_agent_cli_that_hangs_is_ended_and_its_message_tried_again(host: LiveHost) -> None:
    host.settings = {"hang_seconds": 2.0}
    host.start()
    chat = Chat(host)
    chat.ask("say: warm", "warm")
    chat.say("sleep: 1\nsay: woken", "slow")
    chat.read_for(0.4)
    os.kill(max(host.find("/opt/agent/claude")), signal.SIGSTOP)
    assert "woken" in chat.settle("slow", 60)
    assert chat.outcome("slow") == "replied"


GARBAGE = "head -c 100000 /dev/urandom > /session/out/outbound.db"
HUGE = "truncate -s 200M /session/out/outbound.db"
ENDLESS_VIEW = (
    "python3 -c \"import sqlite3; c = sqlite3.connect('/session/out/outbound.db', isolation_level=None); "
    "c.execute('PRAGMA journal_mode=PERSIST'); c.execute('DROP TABLE acks'); c.execute('CREATE VIEW acks AS "
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n')\""
)


@pytest.mark.ci  # each waits for a back-off of 5 s; tests/unit/test_mailbox_hostile.py holds the rules each time
@pytest.mark.parametrize("attack", [HUGE, ENDLESS_VIEW], ids=["huge", "endless_view"])
def test_a_mailbox_the_agent_broke_ends_that_run_and_the_next_attempt_answers(attack: str, host: LiveHost) -> None:
    host.start()
    chat = Chat(host)
    chat.say(f"run: test -e once || {{ touch once; {attack}; sleep 3; }}; echo whole", "attack")
    assert "whole" in chat.settle("attack", 60)
    assert "why=fault" in host.events("run.ended")[0]


@pytest.mark.ci  # three attempts with 5 and 20 s between
def test_a_mailbox_the_agent_breaks_each_time_is_told_in_the_chat(host: LiveHost) -> None:
    host.start()
    chat = Chat(host)
    assert "could not be trusted" in chat.ask(f"run: {GARBAGE}; sleep 3", "attack", 90)
    assert chat.outcome("attack") == "failed"
    assert chat.ask("say: alive", "good", 40) == "alive"


@pytest.mark.ci  # waits for a back-off of 5 s; tests/unit/test_mailbox_hostile.py holds the rule each time
def test_a_journal_that_names_a_host_file_deletes_nothing(host: LiveHost, tmp_path: Path) -> None:
    host.start()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o666)
    forge = (
        "import struct; name=b'NAME'; magic=bytes.fromhex('d9d505f920a163d7'); "
        "page=b'\\0'*512; head=magic+struct.pack('>IIIII',0,0,1,512,4096); "
        "tail=struct.pack('>I',1)+name+struct.pack('>II',len(name),sum(name))+magic; "
        "open('/session/out/outbound.db-journal','r+b').write(head.ljust(512,b'\\0')+tail)"
    ).replace("NAME", str(victim))
    kill = "kill -9 $(pgrep -f ^/usr/bin/python3.*/opt/nanoclaw)"
    chat = Chat(host)
    chat.say(f'run: test -e once || {{ touch once; python3 -c "{forge}"; {kill}; }}; echo end', "attack")
    assert "end" in chat.settle("attack", 60)
    assert "why=box_died" in host.events("run.ended")[0]
    assert victim.read_text() == "precious"


LINKS = ("CLAUDE.md", ".claude", ".mcp.json", "CLAUDE.local.md")


def test_links_planted_in_the_workspace_change_nothing_outside_at_the_next_start(
    host: LiveHost, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (outside / "file").write_text("precious")
    (outside / "file").chmod(0o666)
    before = sorted(str(path) for path in outside.rglob("*"))
    host.start()
    chat = Chat(host)
    plant = "; ".join(
        f"rm -rf {name}; ln -s {outside}/{'file' if number % 2 else f'new{number}'} {name}"
        for number, name in enumerate(LINKS)
    )
    chat.ask(f"run: {plant}; rm -rf ~/.claude.json; ln -s {outside}/file ~/.claude.json", "plant")
    host.stop()
    host.start()
    assert Chat(host).ask("say: alive", "after") == "alive"
    assert (outside / "file").read_text() == "precious"
    assert sorted(str(path) for path in outside.rglob("*")) == before


def test_a_corrupt_database_is_refused_with_what_mends_it(host: LiveHost) -> None:
    host.start()
    host.stop()
    database = host.home / "data" / "nanoclaw.db"
    raw = bytearray(database.read_bytes())
    raw[0:4096] = b"not a database at all".ljust(4096, b"!")
    database.write_bytes(raw)
    said = run_up(host.home)
    assert said.returncode == 2
    assert "is damaged" in said.stderr
    assert "mv " in said.stderr
    assert database.read_bytes() == bytes(raw)


def test_a_database_of_a_newer_version_is_refused_untouched(host: LiveHost) -> None:
    host.start()
    host.stop()
    with sqlite3.connect(host.home / "data" / "nanoclaw.db") as connection:
        connection.execute("INSERT INTO schema_version VALUES (99, 'from the future', 0)")
    connection.close()
    said = run_up(host.home)
    assert said.returncode == 2
    assert "newer NanoClaw" in said.stderr
    assert "git pull" in said.stderr


def test_a_missing_bubblewrap_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to hide bwrap from one process: sudo ./nanoclaw.sh test")
    hide = 'mount --bind /dev/null "$(command -v bwrap)"; exec "$@"'
    said = run_up(tmp_path / "home", prefix=("unshare", "--mount", "sh", "-c", hide, "sh"))
    assert said.returncode == 2
    assert "bubblewrap" in said.stderr
    assert "install" in said.stderr


def test_a_home_that_is_a_file_is_refused_with_another_place_to_use(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    said = run_up(tmp_path / "home")
    assert said.returncode == 2
    assert "NANOCLAW_HOME" in said.stderr


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, for homes that are full or read-only."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs: sudo ./nanoclaw.sh test")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "nanoclaw-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_home_is_refused_with_what_mends_it(mounted: Path) -> None:
    (mounted / "home").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    said = run_up(mounted / "home")
    assert said.returncode == 2
    assert "Make it writable" in said.stderr


def test_a_full_disk_is_told_and_with_space_again_nothing_was_lost(mounted: Path) -> None:
    for host in live_home(mounted):
        host.settings = {"provider": "echo"}
        host.start()
        chat = Chat(host)
        chat.ask("before", "one")
        filler = mounted / "filler"
        with filler.open("wb") as stuff:
            stuff.write(b"x" * (shutil.disk_usage(mounted).free - 8192))
            while shutil.disk_usage(mounted).free:
                try:
                    stuff.write(b"x" * 4096)
                    stuff.flush()
                except OSError:
                    break
        chat.say("x" * 200_000, "two")
        refused = chat.wait_for("refused")
        assert "full" in refused["reason"]
        filler.unlink()
        assert chat.ask("after", "three") == "after"
        assert host.process is not None
        assert host.process.poll() is None


# A user namespace that maps every uid, so that all works in it as for root but for this one sysctl.
FORBID = """
import ctypes, os, sys
ready, go = os.pipe()
me = os.getpid()
if os.fork() == 0:
    os.read(ready, 1)
    for kind in ("uid", "gid"):
        with open(f"/proc/{me}/{kind}_map", "w") as table:
            table.write("0 0 4294967294")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(go, b"x")
os.wait()
with open("/proc/sys/user/max_user_namespaces", "w") as limit:
    limit.write("0")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_user_namespaces_forbidden_is_said_with_what_allows_them(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to forbid namespaces for one process: sudo ./nanoclaw.sh test")
    said = run_up(tmp_path / "home", prefix=(sys.executable, "-c", FORBID))
    assert said.returncode == 2
    assert "user namespaces" in said.stderr
    assert "sysctl" in said.stderr
