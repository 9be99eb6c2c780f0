"""`nanoclaw vault` as a person types it, on a home of its own where no host runs; no output ever holds a value."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from nanoclaw.cli.vault_import import parse_env
from nanoclaw.keyring import CURRENT, NEXT, clear_passphrase, find_passphrases, keep_passphrase
from tests.live import LiveHost

KEY = "sk-ant-api03-THE-REAL-KEY-0123456789"
GITHUB = "ghp_0123456789abcdefghij"
WORDS = "correct horse battery"
NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})

pytestmark = pytest.mark.ci  # each command starts a gateway process, half a second; 40 commands


def vault(
    home: Path, *words: str, value: str = "", code: int = 0, environment: Mapping[str, str] = NO_ENVIRONMENT
) -> str:
    """Run `nanoclaw vault ...`; return all that it said, which holds no value."""
    command = [sys.executable, "-I", "-m", "nanoclaw.cli.main", "vault", *words]
    settings = {"PATH": os.environ["PATH"], "HOME": str(home), "NANOCLAW_HOME": str(home), **environment}
    done = subprocess.run(command, env=settings, input=value, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert not [secret for secret in (KEY, GITHUB, WORDS) if secret in said]
    return said


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def listed(home: Path) -> dict[str, tuple[str, str]]:
    return {row["name"]: (row["kind"], row["hosts"]) for row in json.loads(vault(home, "list", "--json"))}


def test_secrets_are_set_listed_rotated_and_forgotten(home: Path) -> None:
    assert "Kept: github, for api.github.com" in vault(home, "set", "github", value=GITHUB + "\n")
    vault(home, "set", "search", "--host", "api.search.test", "--header", "X-Key", value="search-key-1")
    vault(home, "set", "maps", "--host", "maps.test", "--param", "key", value="maps-key-123")
    vault(home, "set", "mail", "--host", "mail.test", "--kind", "basic", value="me:secret word")
    vault(home, "set", "matrix", "--kind", "channel", value="matrix-token")
    assert listed(home) == {
        "github": ("bearer", "api.github.com uploads.github.com github.com"),
        "mail": ("basic", "mail.test"),
        "maps": ("query key", "maps.test"),
        "matrix": ("channel", ""),
        "search": ("header x-key", "api.search.test"),
    }
    assert "Rotated: github" in vault(home, "rotate", "github", value="ghp_new-0123456789")
    vault(home, "rm", "maps")
    vault(home, "rotate", "--keys")
    assert sorted(listed(home)) == ["github", "mail", "matrix", "search"]
    assert {"anthropic", "google", "telegram"} <= {row["name"] for row in json.loads(vault(home, "presets", "--json"))}


@pytest.mark.parametrize(
    "words", [("set", "anthropic", KEY), ("set", f"anthropic={KEY}"), ("set", KEY), ("rotate", "anthropic", KEY)]
)
def test_a_value_in_an_argument_is_refused_with_why(home: Path, words: tuple[str, ...]) -> None:
    said = vault(home, *words, value=KEY, code=2)
    assert "never given as an argument" in said
    assert "history" in said
    assert not (home / "gateway" / "vault.json").exists()


@pytest.mark.parametrize(
    ("words", "value", "said"),
    [
        (("set", "openai"), GITHUB, "looks like one of: GitHub"),
        (("set", "mine"), "value-0123456", "--host HOST"),
        (("set", "githb"), "", "Did you mean github?"),
        (("set", "mine", "--host", "*.test.org"), "value-0123456", "is no host name"),
        (("set", "mine", "--host", "a.test", "--kind", "magic"), "value-0123456", "no such kind"),
        (("set", "mine", "--host", "a.test", "--kind", "header"), "value-0123456", "--header NAME"),
        (("set", "mine", "--host", "a.test", "--header", "host"), "value-0123456", "--header NAME"),
        (("set", "mine", "--host", "a.test", "--header", "a", "--param", "b"), "value-0123456", "not both"),
        (("set", "github", "--kind", "basic"), GITHUB, "says how its secret is sent"),
        (("set", "x", "--preset", "none"), "value-0123456", "no preset of that name"),
        (("rotate", "none"), "value-0123456", "no secret of that name"),
        (("rotate",), "", "Say which secret"),
        (("rotate", "none"), "", "no secret of that name"),
        (("rm", "none"), "", "no secret of that name"),
        (("unlock",), "", "no host runs"),
        (("protect", "passphrase"), "", "typed on a terminal, or read with --file"),
    ],
)
def test_bad_input_is_told_in_plain_words(home: Path, words: tuple[str, ...], value: str, said: str) -> None:
    assert said in vault(home, *words, value=value, code=2)


def test_under_a_passphrase_commands_ask_or_read_a_file_and_a_wrong_one_is_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "words").write_text(WORDS + "\n")
    vault(home, "set", "anthropic", value=KEY)
    vault(home, "protect", "passphrase", "--file", str(tmp_path / "words"))
    assert not (home / "gateway" / "vault.key").exists()
    assert "anthropic" in listed(home)
    assert "vault is locked" in vault(home, "set", "github", value=GITHUB, code=2)
    (tmp_path / "nanoclaw-vault").write_text("some other words")
    there = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert "not the vault's passphrase" in vault(home, "set", "github", value=GITHUB, code=2, environment=there)
    (tmp_path / "nanoclaw-vault").write_text(WORDS + "\n")
    vault(home, "set", "github", value=GITHUB, environment=there)
    vault(home, "rotate", "--keys", environment=there)
    vault(home, "protect", "keyfile", environment=there)
    assert sorted(listed(home)) == ["anthropic", "github"]
    vault(home, "rm", "github")


def test_a_host_starts_locked_says_so_and_is_unlocked(host: LiveHost, tmp_path: Path) -> None:
    home = host.home
    (tmp_path / "words").write_text(WORDS)
    (tmp_path / "wrong").write_text("some other words")
    vault(home, "set", "anthropic", value=KEY)
    vault(home, "protect", "passphrase", "--file", str(tmp_path / "words"))
    host.start()
    assert "vault is locked" in vault(home, "set", "github", value=GITHUB, code=2)
    status = subprocess.run(
        [sys.executable, "-I", "-m", "nanoclaw.cli.main", "status", "--json"],
        env={"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert '"locked"' in status.stdout
    assert "not the vault's passphrase" in vault(home, "unlock", "--file", str(tmp_path / "wrong"), code=2)
    assert "try again in" in vault(home, "unlock", "--file", str(tmp_path / "words"), code=2)
    until_open(home, tmp_path / "words")
    vault(home, "set", "github", value=GITHUB)


def until_open(home: Path, path: Path) -> None:
    """Unlock, waiting out the pause after a wrong passphrase."""
    command = [sys.executable, "-I", "-m", "nanoclaw.cli.main", "vault", "unlock", "--file", str(path)]
    for _ in range(20):
        done = subprocess.run(
            command, env={"PATH": os.environ["PATH"], "NANOCLAW_HOME": str(home)}, capture_output=True, text=True
        )
        if done.returncode == 0:
            return
    raise AssertionError(done.stderr)


ENV = f"""# keys
export ANTHROPIC_API_KEY="{KEY}"
GITHUB_TOKEN={GITHUB} # mine
GH_TOKEN={GITHUB}
OPENAI_API_KEY={GITHUB}
LINEAR_API_KEY=
DATABASE_URL=postgres://localhost/x
no assignment
"""


def test_keys_of_an_env_file_are_taken_and_taken_out(home: Path, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(ENV)
    path.chmod(0o640)
    said = vault(home, "import", "--env", str(path), "--json")
    rows = {row["variable"]: (row["secret"], row["what"]) for row in json.loads(said[: said.rindex("]") + 1])}
    assert {name: secret for name, (secret, _) in rows.items()} == {
        "ANTHROPIC_API_KEY": "anthropic",
        "GITHUB_TOKEN": "github",
        "GH_TOKEN": None,
        "OPENAI_API_KEY": None,
        "LINEAR_API_KEY": None,
        "DATABASE_URL": None,
    }
    assert "looks like one of: GitHub" in rows["OPENAI_API_KEY"][1]
    assert "still holds these keys" in said
    assert path.read_text() == ENV
    assert "has github already" in vault(home, "import", "--env", str(path))
    vault(home, "import", "--env", str(path), "--replace", "--strip")
    assert path.read_text() == "".join(ENV.splitlines(keepends=True)[i] for i in (0, 3, 4, 5, 6, 7))
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(listed(home)) == ["anthropic", "github"]


def test_what_is_read_of_an_env_file() -> None:
    text = "A=1\n export B = 'two words' \nC=\"3\" \n#D=4\nE=a#b # c\nF\n1G=x\n"
    assert [(v.number, v.name, v.value) for v in parse_env(text)] == [
        (0, "A", "1"),
        (1, "B", "two words"),
        (2, "C", "3"),
        (4, "E", "a#b"),
    ]
    assert "two words" not in repr(parse_env(text))


KEYRING = shutil.which("secret-tool") and shutil.which("gnome-keyring-daemon") and shutil.which("dbus-run-session")
UNDER_KEYRING = """
eval "$(printf 'password' | gnome-keyring-daemon --unlock --components=secrets)" && exec "$0" "$@"
"""


@pytest.mark.skipif(not KEYRING, reason="apt install dbus gnome-keyring libsecret-tools")
def test_the_systems_keyring_opens_the_vault(home: Path, tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from tests.e2e.test_vault_commands import under_keyring; "
        f"under_keyring(Path({str(home)!r}))"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", UNDER_KEYRING, sys.executable, "-c", script],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def under_keyring(home: Path) -> None:
    """Run inside a session with a keyring of its own."""
    session = {name: os.environ[name] for name in ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")}
    vault(home, "set", "anthropic", value=KEY, environment=session)
    vault(home, "protect", "keyring", environment=session)
    assert not (home / "gateway" / "vault.key").exists()
    vault(home, "set", "github", value=GITHUB, environment=session)
    vault(home, "rotate", "--keys", environment=session)
    install = (home / "data" / "install").read_text().strip()
    (kept,) = find_passphrases(install)
    keep_passphrase(install, NEXT, kept)  # a change that was cut off after the vault was written
    keep_passphrase(install, CURRENT, "an older passphrase")
    assert find_passphrases(install) == ["an older passphrase", kept]
    keep_passphrase(install, CURRENT, kept)
    vault(home, "protect", "keyfile", environment=session)
    assert find_passphrases(install) == []
    clear_passphrase(install)
    assert sorted(listed(home)) == ["anthropic", "github"]
