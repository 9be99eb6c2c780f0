"""The vault of a real gateway process: locked, unlocked, killed, handed out by name; no answer ever holds a value."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words, control
from nanoclaw.gateway.client import Secret
from tests.flow.gateway_stand import KEY, Gateway, StandIn, running, until

pytestmark = pytest.mark.ci  # a gateway process and scrypt for each: ten seconds; the vault itself is in tests/unit

WORDS = "correct horse battery"
TELEGRAM = "1234567890:AAtelegram-bot-token_0123456789"
GRANT = '{"client_id":"c","client_secret":"google-client-secret","refresh_token":"google-refresh-token"}'


@contextlib.asynccontextmanager
async def serving(directory: Path, passphrase: str = "") -> AsyncIterator[Gateway]:
    async with running(directory, StandIn()) as gateway:
        gateway.client.open_turn("s1", 1, "owner")
        if passphrase:
            gateway.client.vault.unlock(Secret(passphrase))
        yield gateway


@pytest.fixture
async def locked(tmp_path: Path) -> Path:
    directory = tmp_path / "gateway"
    async with serving(directory) as gateway:
        await gateway.set_key()
        await gateway.ask(admin_words.VaultRekey("passphrase", WORDS), bool)
    return directory


async def status_of(gateway: Gateway) -> admin_words.GatewayStatus:
    status = await gateway.ask(admin_words.Status(), admin_words.GatewayStatus)
    assert isinstance(status, admin_words.GatewayStatus)
    return status


async def test_a_locked_gateway_starts_serves_no_secret_and_says_so(locked: Path) -> None:
    async with serving(locked) as gateway:
        reply = await gateway.call()
        assert (reply.status, reply.message) == (503, "The vault is locked: `nanoclaw vault unlock`")
        assert gateway.upstream.seen == []
        assert gateway.keys == [True]  # there is a key, so no rehearsal model takes its place
        await until(lambda: gateway.client.vault.state.locked)
        status = await status_of(gateway)
        assert (status.vault_locked, status.vault_by, status.model_key) == (True, "passphrase", True)
        with pytest.raises(OperatorError, match="vault is locked"):
            await gateway.set_key()
        with pytest.raises(OperatorError, match="vault is locked"):
            await gateway.client.vault.token("telegram")
        rows = await gateway.audit()
        assert [row.rule for row in rows if row.event == "refused"] == ["vault"]


async def test_a_wrong_passphrase_is_told_slowed_down_and_written_down(locked: Path) -> None:
    async with serving(locked) as gateway:
        with pytest.raises(OperatorError, match="not the vault's passphrase"):
            await gateway.ask(admin_words.VaultUnlock("wrong words"), bool)
        with pytest.raises(OperatorError, match=r"try again in 1 s"):
            await gateway.ask(admin_words.VaultUnlock(WORDS), bool)
        assert (await gateway.call()).status == 503
        rows = [row for row in await gateway.audit() if row.rule == "vault.unlock"]
        assert [row.reason for row in rows] == [f"a wrong passphrase, by uid {os.getuid()}"]


async def test_an_unlocked_gateway_that_is_killed_opens_the_vault_again_by_itself(locked: Path) -> None:
    async with serving(locked) as gateway:
        await gateway.ask(admin_words.VaultUnlock(WORDS), bool)
        assert (await gateway.call()).status == 200
        assert gateway.upstream.seen[-1].headers["x-api-key"] == KEY
        for _ in range(2):
            await until(lambda: gateway.client.vault.knows_passphrase)
            pid = gateway.client.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            began = time.monotonic()
            assert (await gateway.call()).status == 200
            assert time.monotonic() - began < 3.0  # a start and one scrypt; alone on a machine 0.7 s
            await until(gateway.client.ready.is_set)
        assert WORDS not in repr(gateway.events) + repr(vars(gateway.client.vault)) + "".join(gateway.log)


async def test_the_host_opens_the_vault_with_what_it_was_given_and_forgets_what_is_wrong(locked: Path) -> None:
    async with serving(locked, WORDS) as gateway:
        await until(lambda: not gateway.client.vault.state.locked and gateway.client.vault.knows_passphrase)
        assert (await gateway.call()).status == 200
    async with serving(locked, "wrong words") as gateway:
        await until(lambda: gateway.client.vault.state.error)
        assert "not the vault's passphrase" in gateway.client.vault.state.error
        assert not gateway.client.vault.knows_passphrase
        assert (await gateway.call()).status == 503


async def test_a_change_of_protection_reaches_the_host_and_needs_the_passphrase_in_force(locked: Path) -> None:
    async with serving(locked, WORDS) as gateway:
        await until(lambda: not gateway.client.vault.state.locked)
        with pytest.raises(OperatorError, match="not the vault's passphrase"):
            await gateway.ask(admin_words.VaultRekey("passphrase", "new words 1", current="typo"), bool)
        with pytest.raises(OperatorError, match="keyfile, passphrase, keyring"):
            await gateway.ask(admin_words.VaultRekey("magic"), bool)
        await gateway.ask(admin_words.VaultRekey("passphrase", "new words 1", current=WORDS), bool)
        pid = gateway.client.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert (await gateway.call()).status == 200
        await gateway.ask(admin_words.VaultRekey("keyfile"), bool)
        await until(lambda: not gateway.client.vault.knows_passphrase)
    async with serving(locked) as gateway:
        assert (await gateway.call()).status == 200


async def test_a_channel_is_handed_its_token_by_name_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path / "gateway") as gateway:
        await gateway.set_key()
        await gateway.ask(admin_words.VaultSet("telegram", TELEGRAM), admin_words.SecretLine)
        await gateway.ask(admin_words.VaultSet("matrix", "matrix-token-1", kind="channel"), admin_words.SecretLine)
        link = gateway.client.vault
        tokens = await asyncio.gather(*(link.token(name) for name in ("telegram", "matrix", "anthropic", "none")))
        assert [token and token.reveal() for token in tokens] == [TELEGRAM, "matrix-token-1", None, None]
        assert repr(tokens[0]) == "***"
        assert TELEGRAM not in repr(gateway.events) + repr(control.Token("telegram", TELEGRAM))
        rows = [row for row in await gateway.audit() if row.rule == "vault.token"]
        assert sorted(row.reason for row in rows) == ["matrix, by the host", "telegram, by the host"]
        pid = gateway.client.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        token = await link.token("telegram")  # asked of a gateway that is gone, answered by the next one
        assert token is not None


async def test_two_gateways_on_one_vault_are_refused(locked: Path) -> None:
    async with serving(locked):
        with pytest.raises(BaseExceptionGroup) as raised:
            async with serving(locked):
                pass
    assert "Another gateway already uses" in repr(raised.value.exceptions)


async def test_no_answer_and_no_file_holds_a_value(tmp_path: Path) -> None:
    directory = tmp_path / "gateway"
    values = {"anthropic": KEY, "telegram": TELEGRAM, "google": GRANT, "github": "ghp_0123456789abcdef"}
    new = "ghp_fedcba9876543210"
    requests: list[admin_words.AdminRequest] = [
        *(admin_words.VaultSet(name, value) for name, value in values.items()),
        *(admin_words.VaultSet("openai", value) for value in values.values()),
        *(admin_words.VaultSet(value, value) for value in values.values()),
        *(admin_words.VaultRemove(value) for value in values.values()),
        *(admin_words.VaultRotate(value, value) for value in values.values()),
        admin_words.VaultRotate("github", new),
        admin_words.VaultRotate("github", KEY),
        admin_words.VaultUnlock(new),
        admin_words.VaultRekey("keyfile", current=KEY),
        admin_words.VaultRekey("keyfile"),
        admin_words.VaultList(),
        admin_words.VaultPresets(),
        admin_words.Status(),
        admin_words.AuditList(500),
        admin_words.AuditVerify(),
    ]
    hidden = [KEY, TELEGRAM, "google-client-secret", "google-refresh-token", values["github"], new]
    async with serving(directory) as gateway:
        reader, writer = await asyncio.open_unix_connection(str(gateway.admin_path), limit=2**24)
        for request in requests:
            writer.write(msgspec.json.encode(request) + b"\n")
            answer = await reader.readline()
            assert answer
            for value in hidden:
                assert value.encode() not in answer, type(request)
        writer.close()
        assert KEY not in repr(admin_words.VaultSet("openai", KEY)) + repr(admin_words.VaultRotate("github", KEY))
        log = "".join(gateway.log) + repr(gateway.events)
        assert not [value for value in hidden if value in log]
    for path in directory.iterdir():
        assert not [value for value in hidden if value.encode() in path.read_bytes()], path
