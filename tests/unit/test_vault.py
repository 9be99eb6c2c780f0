"""Secrets at rest: what is written, what is refused, what a damaged or foreign file leads to."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.vault import Kind, Secret, Vault

KEY = "sk-ant-api03-REAL-0123456789"


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    vault = Vault(tmp_path)
    vault.load()
    vault.put("anthropic", KEY, (), 5)
    vault.put("github", "ghp_0123456789", ["api.github.com", "uploads.github.com"], 6)
    return tmp_path


def opened(directory: Path) -> Vault:
    vault = Vault(directory)
    vault.load()
    return vault


def test_a_directory_without_a_vault_is_an_empty_vault(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    assert vault.list_stored() == []
    assert vault.find("anthropic") is None
    assert vault.values() == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault.json", "vault.key"]


def test_secrets_come_back_after_a_restart_with_kind_and_hosts(filled: Path) -> None:
    vault = opened(filled)
    assert [(s.name, s.kind, s.hosts, s.set_at) for s in vault.list_stored()] == [
        ("anthropic", Kind.ANTHROPIC_KEY, ("api.anthropic.com",), 5),
        ("github", Kind.BEARER, ("api.github.com", "uploads.github.com"), 6),
    ]
    found = vault.find("anthropic")
    assert found is not None
    assert found[1].reveal() == KEY
    assert set(vault.values()) == {KEY.encode(), b"ghp_0123456789"}


def test_no_file_holds_a_value_in_plain_text_and_only_the_owner_reads_them(filled: Path) -> None:
    for name in ("vault.json", "vault.key"):
        file = filled / name
        assert KEY.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in filled.iterdir()) == ["vault.json", "vault.key"]


def test_a_secret_never_prints_its_value() -> None:
    secret = Secret(KEY)
    assert f"{secret} {secret!r} {[secret]}" == "*** *** [***]"
    with pytest.raises(TypeError, match=r"not serialised"):
        pickle.dumps(secret)


def test_an_oauth_token_is_recognised_by_its_beginning(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    assert vault.put("anthropic", " sk-ant-oat01-abcdef\n", ("api.anthropic.com",), 1).kind is Kind.ANTHROPIC_OAUTH
    found = vault.find("anthropic")
    assert found is not None
    assert found[1].reveal() == "sk-ant-oat01-abcdef"


def test_a_removed_secret_is_gone_now_and_after_a_restart(filled: Path) -> None:
    vault = opened(filled)
    vault.remove("anthropic")
    assert vault.find("anthropic") is None
    assert [s.name for s in opened(filled).list_stored()] == ["github"]
    with pytest.raises(OperatorError, match=r"There is no secret of that name"):
        vault.remove("anthropic")


@pytest.mark.parametrize(
    ("name", "value", "hosts", "said"),
    [
        ("Anthropic", KEY, [], "no name for a secret"),
        ("../x", KEY, ["a.test"], "no name for a secret"),
        ("", KEY, ["a.test"], "no name for a secret"),
        ("x" * 65, KEY, ["a.test"], "no name for a secret"),
        ("short", "1234567", ["a.test"], "not usable"),
        ("long", "x" * 8193, ["a.test"], "not usable"),
        ("line", "abcdefgh\r\nx: y", ["a.test"], "not usable"),
        ("umlaut", "schlüssel", ["a.test"], "not usable"),
        ("anthropic", "ghp_0123456789", [], "begin with sk-ant-"),
        ("anthropic", KEY, ["evil.test"], "bound to api.anthropic.com"),
        ("forge", "ghp_0123456789", [], "--host HOST"),
        ("forge", "ghp_0123456789", ["https://api.github.com"], "is no host name"),
        ("forge", "ghp_0123456789", ["localhost"], "is no host name"),
        ("forge", "ghp_0123456789", ["*.github.com"], "is no host name"),
        ("forge", "ghp_0123456789", ["A.test"], "is no host name"),
        ("forge", "ghp_0123456789", ["10.0.0.1"], "is no host name"),
        ("forge", "ghp_0123456789", ["a.test:443"], "is no host name"),
        ("github", "ghp_0123456789", ["evil.test"], "bound to api.github.com"),
        ("openai", "ghp_0123456789", [], "looks like one of: GitHub"),
        ("openai", KEY, [], "looks like one of: Anthropic"),
        ("telegram", "123/../secret", [], "sent in the path"),
        ("google", '{"client_id":"a","refresh_token":', [], "must be a JSON object"),
    ],
)
def test_bad_input_is_refused_in_plain_words_without_the_value(
    tmp_path: Path, name: str, value: str, hosts: list[str], said: str
) -> None:
    with pytest.raises(OperatorError, match=said) as refused:
        opened(tmp_path).put(name, value, hosts, 1)
    assert value not in str(refused.value)
    assert opened(tmp_path).list_stored() == []


@pytest.mark.parametrize("content", ["", "{", '{"version":1}', "null", '{"version":1,"data_key":{}}'])
def test_a_vault_cut_short_is_named_with_what_mends_it(filled: Path, content: str) -> None:
    (filled / "vault.json").write_text(content)
    with pytest.raises(OperatorError, match=r"damaged or cut short.*vault set"):
        opened(filled)


def test_every_cut_of_a_vault_is_refused(filled: Path) -> None:
    whole = (filled / "vault.json").read_bytes()
    for length in range(len(whole) - 2):
        (filled / "vault.json").write_bytes(whole[:length])
        with pytest.raises(OperatorError):
            opened(filled)


def test_a_vault_of_a_newer_version_is_refused(filled: Path) -> None:
    (filled / "vault.json").write_text('{"version":3,"shape":"other"}')
    with pytest.raises(OperatorError, match=r"newer NanoClaw"):
        opened(filled)


def test_a_secret_cannot_be_given_other_hosts_by_editing_the_file(filled: Path) -> None:
    path = filled / "vault.json"
    file = json.loads(path.read_text())
    next(s for s in file["secrets"] if s["name"] == "github")["hosts"] = ["evil.test"]
    path.write_text(json.dumps(file))
    with pytest.raises(OperatorError, match=r"cannot be decrypted"):
        opened(filled)


def test_a_nonce_of_the_wrong_length_is_damage_not_a_crash(filled: Path) -> None:
    path = filled / "vault.json"
    file = json.loads(path.read_text())
    file["data_key"]["nonce"] = ""
    path.write_text(json.dumps(file))
    with pytest.raises(OperatorError, match=r"cannot be decrypted"):
        opened(filled)


def test_a_key_file_that_others_can_read_is_refused(filled: Path) -> None:
    (filled / "vault.key").chmod(0o640)
    with pytest.raises(OperatorError, match=r"Others can read.*chmod 600"):
        opened(filled)


@pytest.mark.parametrize("content", ["", "zz", "00" * 31, "ü"])
def test_a_damaged_key_file_is_named(filled: Path, content: str) -> None:
    (filled / "vault.key").write_text(content)
    with pytest.raises(OperatorError, match=r"vault.key is damaged"):
        opened(filled)


def test_a_missing_key_file_is_named(filled: Path) -> None:
    (filled / "vault.key").unlink()
    with pytest.raises(OperatorError, match=r"vault.key is missing"):
        opened(filled)


def test_a_foreign_key_file_opens_nothing(filled: Path) -> None:
    (filled / "vault.key").write_text(os.urandom(32).hex())
    with pytest.raises(OperatorError, match=r"cannot be decrypted"):
        opened(filled)


def test_a_key_file_left_from_an_emptied_vault_is_used_again(filled: Path) -> None:
    (filled / "vault.json").unlink()
    before = (filled / "vault.key").read_bytes()
    opened(filled).put("anthropic", KEY, (), 1)
    assert (filled / "vault.key").read_bytes() == before
    assert len(opened(filled).list_stored()) == 1


def test_a_vault_that_cannot_be_written_keeps_what_it_had(filled: Path) -> None:
    vault = opened(filled)
    (filled / "vault.json.new").mkdir()
    with pytest.raises(OperatorError, match=r"cannot be written.*Nothing was changed"):
        vault.put("anthropic", KEY + "-new", (), 7)
    found = vault.find("anthropic")
    assert found is not None
    assert found[1].reveal() == KEY
    assert len(opened(filled).list_stored()) == 2


def test_a_vault_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "vault.json").mkdir()
    with pytest.raises(OperatorError, match=r"vault.json cannot be read"):
        opened(tmp_path)


def test_what_a_crash_left_half_written_is_replaced(filled: Path) -> None:
    (filled / "vault.json.new").write_text("half")
    opened(filled).put("anthropic", KEY, (), 9)
    assert opened(filled).list_stored()[0].set_at == 9
