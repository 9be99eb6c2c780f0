"""What the vault's data key lies under: version 1, a key file, a passphrase; changes that are cut off anywhere."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw.errors import OperatorError
from nanoclaw.gateway.vault import Kind, Secret, Vault, VaultLocked, WrongPassphrase
from nanoclaw.gateway.vault_file import Protection, parse_file

KEY = "sk-ant-api03-REAL-0123456789"
TOKEN = "a-token-of-another-service"
WORDS = "correct horse battery"
CHEAP = 1024  # of scrypt, so that these tests take no minutes
VERSION_1 = Path(__file__).parents[1] / "fixtures" / "vault_v1"  # written by the code of version 1
FILE_EVENTS = ("open", "os.rename", "os.remove")


def opened(directory: Path, passphrase: str = "") -> Vault:
    vault = Vault(directory, CHEAP)
    vault.load()
    if vault.locked and passphrase:
        vault.unlock(passphrase)
    return vault


def values_of(vault: Vault) -> dict[str, str]:
    found = (vault.find(stored.name) for stored in vault.list_stored())
    return {pair[0].name: pair[1].reveal() for pair in found if pair is not None}


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    directory = tmp_path / "gateway"
    directory.mkdir()
    vault = opened(directory)
    vault.put("anthropic", KEY, (), 5)
    vault.put("other", TOKEN, ["a.test"], 6)
    vault.seal("ca", b"\x00key of the authority\xff")
    return directory


@pytest.fixture
def locked(filled: Path) -> Path:
    opened(filled).rekey(Protection.PASSPHRASE, WORDS)
    return filled


def copy_of_version_1(tmp_path: Path) -> Path:
    directory = tmp_path / "old"
    shutil.copytree(VERSION_1, directory)
    (directory / "vault.key").chmod(0o600)
    return directory


def test_a_vault_of_version_1_opens_and_is_rewritten_at_the_next_change_alone(tmp_path: Path) -> None:
    directory = copy_of_version_1(tmp_path)
    before = (directory / "vault.json").read_bytes()
    vault = opened(directory)
    assert values_of(vault) == {"anthropic": "sk-ant-api03-FIXTURE-0123456789", "github": "ghp_FIXTURE0123456789"}
    assert (directory / "vault.json").read_bytes() == before
    vault.seal("ca", b"x")
    assert parse_file((directory / "vault.json").read_bytes()).version == 2
    again = opened(directory)
    assert values_of(again) == values_of(vault)
    assert [s.kind for s in again.list_stored()] == [Kind.ANTHROPIC_KEY, Kind.GENERIC]
    assert again.rotate("anthropic", "sk-ant-oat01-new-0123", 9).kind is Kind.ANTHROPIC_OAUTH


@pytest.mark.parametrize("added", [{"for_host": True}, {"field": "x"}, {"ways": []}])
def test_a_file_of_version_1_cannot_be_given_settings_that_it_is_not_bound_to(
    tmp_path: Path, added: dict[str, object]
) -> None:
    directory = copy_of_version_1(tmp_path)
    file = json.loads((directory / "vault.json").read_text())
    file["secrets"][0].update(added)
    (directory / "vault.json").write_text(json.dumps(file))
    with pytest.raises(OperatorError, match="damaged"):
        opened(directory)


@pytest.mark.parametrize(
    "change",
    [{"for_host": True}, {"kind": "basic"}, {"field": "x"}, {"hosts": ["b.test"]}, {"name": "b"}, {"set_at": 9}],
)
def test_no_setting_of_a_secret_can_be_changed_in_the_file(filled: Path, change: dict[str, object]) -> None:
    file = json.loads((filled / "vault.json").read_text())
    next(s for s in file["secrets"] if s["name"] == "other").update(change)
    (filled / "vault.json").write_text(json.dumps(file))
    with pytest.raises(OperatorError, match="cannot be decrypted"):
        opened(filled)


def test_a_secret_and_a_sealed_entry_cannot_take_each_others_place(filled: Path) -> None:
    file = json.loads((filled / "vault.json").read_text())
    secret = next(s for s in file["secrets"] if s["name"] == "other")
    file["sealed"] = [{"name": "other", "nonce": secret["nonce"], "data": secret["data"]}]
    (filled / "vault.json").write_text(json.dumps(file))
    with pytest.raises(OperatorError, match="cannot be decrypted"):
        opened(filled).unseal("other")


def test_what_is_sealed_comes_back_and_no_list_shows_it(filled: Path) -> None:
    vault = opened(filled)
    assert vault.unseal("ca") == b"\x00key of the authority\xff"
    assert vault.unseal("none") is None
    assert vault.find("ca") is None
    assert [stored.name for stored in vault.list_stored()] == ["anthropic", "other"]
    vault.seal("ca", b"new")
    assert opened(filled).unseal("ca") == b"new"
    assert b"authority" not in (filled / "vault.json").read_bytes()


def test_under_a_passphrase_the_vault_shows_names_and_serves_nothing(locked: Path) -> None:
    assert not (locked / "vault.key").exists()
    vault = opened(locked)
    assert vault.locked
    assert vault.protection is Protection.PASSPHRASE
    assert [stored.name for stored in vault.list_stored()] == ["anthropic", "other"]
    assert vault.holds("anthropic")
    assert vault.find("anthropic") is None
    assert vault.values() == ()
    for change in (
        lambda: vault.put("third", TOKEN, ["a.test"], 1),
        lambda: vault.rotate("other", TOKEN, 1),
        lambda: vault.remove("other"),
        lambda: vault.seal("ca", b"x"),
        lambda: vault.unseal("ca"),
        lambda: vault.rekey(Protection.KEYFILE),
    ):
        with pytest.raises(VaultLocked, match="nanoclaw vault unlock"):
            change()
    assert values_of(opened(locked, WORDS)) == {"anthropic": KEY, "other": TOKEN}
    assert opened(locked, WORDS).unseal("ca") is not None


def test_a_wrong_passphrase_opens_nothing_and_the_right_one_does_after_it(locked: Path) -> None:
    vault = opened(locked)
    for wrong in ("", "Correct horse battery", WORDS + " ", "x" * 1000, "ü\N{SNOWMAN}"):
        with pytest.raises(WrongPassphrase, match="not the vault's passphrase") as refused:
            vault.unlock(wrong)
        assert vault.locked
        assert WORDS not in str(refused.value)
    vault.unlock(WORDS)
    vault.unlock(WORDS)
    assert values_of(vault) == {"anthropic": KEY, "other": TOKEN}


def test_a_passphrase_is_the_same_however_its_letters_were_typed(filled: Path) -> None:
    opened(filled).rekey(Protection.PASSPHRASE, "schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel")
    assert values_of(opened(filled, "schlu\N{COMBINING DIAERESIS}ssel"))


@pytest.mark.parametrize("words", ["", "short", "x" * 1025])
def test_a_passphrase_that_cannot_be_changes_nothing(filled: Path, words: str) -> None:
    before = (filled / "vault.json").read_bytes()
    with pytest.raises(OperatorError, match="8 to 1024 characters"):
        opened(filled).rekey(Protection.PASSPHRASE, words)
    assert (filled / "vault.json").read_bytes() == before


@pytest.mark.parametrize("change", [{"n": 2**30}, {"n": 1000}, {"n": 0}, {"r": 0}, {"p": 99}, {"salt": ""}])
def test_a_file_cannot_make_us_spend_what_it_likes(locked: Path, change: dict[str, object]) -> None:
    file = json.loads((locked / "vault.json").read_text())
    file["wrapping"].update(change)
    (locked / "vault.json").write_text(json.dumps(file))
    with pytest.raises(OperatorError, match="parameters of its passphrase"):
        opened(locked, WORDS)


def test_a_passphrase_that_was_made_cheaper_in_the_file_opens_nothing(locked: Path) -> None:
    file = json.loads((locked / "vault.json").read_text())
    file["wrapping"]["n"] = 2
    (locked / "vault.json").write_text(json.dumps(file))
    with pytest.raises(WrongPassphrase):
        opened(locked, WORDS)


def test_every_change_of_keys_makes_every_old_key_and_ciphertext_useless(filled: Path, tmp_path: Path) -> None:
    old_key, old_file = (filled / "vault.key").read_bytes(), (filled / "vault.json").read_bytes()
    vault = opened(filled)
    vault.rekey(Protection.KEYFILE)
    assert values_of(vault) == values_of(opened(filled)) == {"anthropic": KEY, "other": TOKEN}
    assert sorted(path.name for path in filled.iterdir()) == ["vault.json", "vault.key"]
    new = parse_file((filled / "vault.json").read_bytes())
    old = parse_file(old_file)
    assert not {s.data for s in old.secrets} & {s.data for s in new.secrets}
    (filled / "vault.key").write_bytes(old_key)
    with pytest.raises(OperatorError, match="cannot be decrypted"):
        opened(filled)


def test_after_each_change_of_protection_the_vault_opens_and_can_be_changed(filled: Path) -> None:
    vault = opened(filled)
    steps = ((Protection.PASSPHRASE, WORDS), (Protection.KEYRING, "by chance 0123"), (Protection.KEYFILE, ""))
    for by, words in (*steps, *steps):
        vault.rekey(by, words)
        vault.put("third", f"value-under-{by}", ["a.test"], 1)
        vault = opened(filled, words)
        assert vault.protection is by
        assert values_of(vault)["third"] == f"value-under-{by}"
        assert (filled / "vault.key").exists() == (by is Protection.KEYFILE)


CHANGES = {
    "new keys": (Protection.KEYFILE, "", Protection.KEYFILE, ""),
    "to a passphrase": (Protection.KEYFILE, "", Protection.PASSPHRASE, WORDS),
    "to a key file": (Protection.PASSPHRASE, WORDS, Protection.KEYFILE, ""),
    "another passphrase": (Protection.PASSPHRASE, "first words", Protection.PASSPHRASE, WORDS),
}


def killed_after(step: int, work: Callable[[], object]) -> bool:
    """Do `work` in a process that is ended before its file operation number `step`; return whether it was."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def hook(event: str, _: object) -> None:
            nonlocal seen
            seen += event in FILE_EVENTS
            if seen > step:
                os._exit(9)

        sys.addaudithook(hook)
        work()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
    return status != 0


@pytest.mark.parametrize("change", CHANGES)
def test_keys_can_be_changed_with_a_kill_at_any_step(filled: Path, change: str) -> None:
    before, old_words, after, new_words = CHANGES[change]
    if before is not Protection.KEYFILE:
        opened(filled).rekey(before, old_words)
    step = 0
    while killed_after(step, lambda: opened_and_rekeyed(filled, old_words, after, new_words)):
        step += 1
        vault = opened(filled)
        for words in (old_words, new_words):
            if vault.locked and words:
                with_words = opened(filled)
                try:
                    with_words.unlock(words)
                except WrongPassphrase:
                    continue
                vault = with_words
        assert values_of(vault) == {"anthropic": KEY, "other": TOKEN}, f"killed before file operation {step}"
        assert vault.unseal("ca") is not None
        assert not (filled / "vault.key.next").exists()
        vault.rekey(before, old_words)
    assert step >= 5
    assert opened(filled, new_words).protection is after


def opened_and_rekeyed(directory: Path, words: str, by: Protection, new_words: str) -> None:
    opened(directory, words).rekey(by, new_words)


def test_a_first_start_that_was_killed_at_any_step_is_gone_on_with(tmp_path: Path) -> None:
    step = 0
    while True:
        directory = tmp_path / str(step)
        directory.mkdir()
        killed = killed_after(step, lambda directory=directory: opened(directory))
        opened(directory).put("anthropic", KEY, (), 1)
        assert values_of(opened(directory)) == {"anthropic": KEY}
        if not killed:
            break
        step += 1
    assert step >= 4


def test_the_next_key_file_is_held_to_the_same_rules(filled: Path) -> None:
    shutil.copy(filled / "vault.key", filled / "vault.key.next")
    (filled / "vault.key.next").chmod(0o644)
    with pytest.raises(OperatorError, match="Others can read"):
        opened(filled)


def test_a_rotated_value_is_sent_from_now_on_and_the_old_one_stays_redacted(filled: Path) -> None:
    vault = opened(filled)
    stored = vault.rotate("other", "a-new-value", 77)
    assert (stored.hosts, stored.kind, stored.set_at) == (("a.test",), Kind.BEARER, 77)
    assert {b"a-new-value", TOKEN.encode()} <= set(vault.values())
    vault.remove("other")
    assert {b"a-new-value", TOKEN.encode()} <= set(vault.values())
    assert TOKEN.encode() not in opened(filled).values()
    with pytest.raises(OperatorError, match="no secret of that name"):
        vault.rotate("other", TOKEN, 1)


def test_a_service_renews_its_secret_unless_the_operator_changed_it_meanwhile(filled: Path) -> None:
    vault = opened(filled)
    found = vault.find("other")
    assert found is not None
    vault.renew("other", found[1], "renewed-value")
    assert values_of(opened(filled))["other"] == "renewed-value"
    vault.renew("other", found[1], "late-value")
    vault.renew("none", found[1], "late-value")
    assert values_of(opened(filled))["other"] == "renewed-value"


def test_what_is_redacted_is_the_same_tuple_until_something_changes(filled: Path) -> None:
    vault = opened(filled)
    assert vault.values() is vault.values()
    vault.note_passing("other", ["access-token-1"])
    assert b"access-token-1" in vault.values()
    vault.note_passing("other", ["access-token-2"])
    assert b"access-token-1" not in vault.values()


@settings(max_examples=15, deadline=None)
@given(
    value=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=8192),
    sealed=st.binary(max_size=4096),
)
def test_any_value_comes_back_as_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, value: str, sealed: bytes
) -> None:
    directory = tmp_path_factory.mktemp("vault")
    vault = opened(directory)
    vault.put("any", value, ["a.test"], 1)
    vault.seal("any", sealed)
    vault.rekey(Protection.KEYFILE)
    again = opened(directory)
    assert values_of(again) == {"any": value}
    assert again.unseal("any") == sealed
    assert repr(again.find("any")).count("***") == 1
    assert value not in repr(Secret(value))
