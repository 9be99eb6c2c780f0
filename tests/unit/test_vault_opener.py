"""The host keeps the vault open: a passphrase file, what the keyring holds, and words when neither opens it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanoclaw.config import load_config
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import control
from nanoclaw.gateway.client import Secret, VaultLink
from nanoclaw.log import open_log
from nanoclaw.unlock import VaultOpener

SECRET_TOOL = """#!/bin/sh
case "$*" in *current*) printf 'older words';; *next*) printf 'newer words';; esac
"""


class Host:
    """The part of a host that the opener uses, with the messages that go to the gateway."""

    def __init__(self, passphrase_file: Path | None = None) -> None:
        self.sent: list[control.VaultMessage] = []
        self.work: list[Coroutine[Any, Any, None]] = []
        self.link = VaultLink(self.sent.append)
        config = replace(load_config(), passphrase_file=passphrase_file)
        self.opener = VaultOpener(self.link, config, open_log(), lambda work, _: self.work.append(work))
        self.opener.start()

    def hears(self, *, locked: bool, by: str = "keyring", error: str = "") -> None:
        self.link.received(control.VaultState(locked, by, error))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCLAW_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_passphrase_file_opens_the_vault_of_every_gateway(home: Path) -> None:
    (home / "words").write_text("some words\n")
    host = Host(home / "words")
    host.link.started()
    host.hears(locked=True, by="passphrase")
    assert host.sent == [control.Unlock("some words")] * 2
    assert host.work == []


def test_a_passphrase_file_that_is_not_there_is_told(home: Path) -> None:
    with pytest.raises(OperatorError, match="cannot read"):
        Host(home / "none")


async def test_of_what_the_keyring_holds_one_after_the_other_is_tried(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = home / "secret-tool"
    tool.write_text(SECRET_TOOL)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    host = Host()
    host.hears(locked=True)
    await host.work.pop()
    host.hears(locked=True, error="wrong")
    await host.work.pop()
    assert host.sent == [control.Unlock("older words"), control.Unlock("newer words")]
    host.hears(locked=False)
    assert host.work == []
    assert host.link.knows_passphrase


async def test_where_there_is_no_keyring_the_vault_stays_locked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    host = Host()
    host.hears(locked=True)
    await host.work.pop()
    assert host.sent == []


async def test_a_token_that_nobody_hands_out_is_an_error_and_not_waited_for_again() -> None:
    host = Host()
    asking = asyncio.get_running_loop().create_task(host.link.token("slack"))
    await asyncio.sleep(0)
    host.link.started()
    assert host.sent == [control.TokenWanted("slack")] * 2
    host.link.received(control.Token("slack", "xoxb-1234567890"))
    token = await asking
    assert isinstance(token, Secret)
    assert token.reveal() == "xoxb-1234567890"
    host.link.started()
    assert len(host.sent) == 2
