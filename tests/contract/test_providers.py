"""The contract of providers, over the echo agents and over the real Claude CLI with a stand-in for the model API."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from nanoclaw.contract.message import RunSettings
from nanoclaw.runner.loop import Loop, Ports, Signal
from nanoclaw.runner.mailbox import Inbound, Outbound
from nanoclaw.runner.providers.base import Began, Provider, ToolOpened
from nanoclaw.runner.providers.claude import ClaudeProvider
from nanoclaw.runner.providers.echo import EchoProvider
from nanoclaw.runner.start import spawn_agent
from nanoclaw.testing.contracts.proof import eventually
from nanoclaw.testing.contracts.providers import BEHAVIOURS, Behaviour, Watch
from nanoclaw.testing.scripted_provider import OneAtATimeProvider
from tests.e2e.fake_model import FakeModel
from tests.e2e.test_claude_provider import CLI
from tests.runner_process import Mailbox, settings


class EchoBench:
    def __init__(self, make: Callable[[str | None], Provider]) -> None:
        self._make = make

    async def open(self, continuation: str | None) -> Provider:
        provider = self._make(continuation)
        await provider.start()
        return provider

    def says(self, text: str) -> str:
        return f"<message from='ann'>{text}</message>"

    def hangs(self) -> str:
        return self.says("hang")

    async def hanging(self, watch: Watch) -> None:
        await watch.told(Began)

    def crash(self, watch: Watch) -> None:
        watch.push(self.says("exit"))

    def is_gone(self, provider: Provider) -> bool:
        return True  # it has no process


class ClaudeBench:
    def __init__(self, directory: Path, model: FakeModel) -> None:
        self.model = model
        self._directory = directory
        self._agents: dict[int, subprocess.Popen[bytes]] = {}
        for name in ("ws", "home"):
            (directory / name).mkdir()

    async def open(self, continuation: str | None) -> Provider:
        agent = self._spawn(continuation)
        provider = ClaudeProvider(agent, continuation is not None, partial(self._spawn, None))
        self._agents[id(provider)] = agent
        await provider.start()
        return provider

    def says(self, text: str) -> str:
        return text  # the stand-in repeats what it heard

    def hangs(self) -> str:
        return '[[tool Bash {"command":"sleep 60"}]]'

    async def hanging(self, watch: Watch) -> None:
        await watch.told(ToolOpened)

    def crash(self, watch: Watch) -> None:
        os.kill(self._agents[id(watch.provider)].pid, signal.SIGKILL)

    def is_gone(self, provider: Provider) -> bool:
        return self._agents[id(provider)].poll() is not None

    def clear_away(self) -> None:
        for agent in self._agents.values():
            agent.kill()
            agent.wait()
            for pipe in (agent.stdin, agent.stdout):
                if pipe is not None:
                    pipe.close()

    def _spawn(self, continuation: str | None) -> subprocess.Popen[bytes]:
        places = {"workspace": str(self._directory / "ws"), "home": str(self._directory / "home")}
        fields: RunSettings = settings(provider="claude", agent_binary=str(CLI), model_url=self.model.url, **places)
        return spawn_agent(fields, (("PATH", os.environ["PATH"]),), 1, continuation)


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[ClaudeBench]:
    if not CLI.exists():
        pytest.skip("no Claude CLI; run: ./nanoclaw.sh (installs requirements/agent.txt)")
    model = FakeModel()
    bench = ClaudeBench(tmp_path, model)
    yield bench
    bench.clear_away()
    model.close()


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("make", [EchoProvider, OneAtATimeProvider])
async def test_an_echo_agent_keeps_the_contract(behaviour: Behaviour, make: Callable[[str | None], Provider]) -> None:
    await behaviour(EchoBench(make))


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_the_claude_cli_keeps_the_contract(behaviour: Behaviour, claude: ClaudeBench) -> None:
    await behaviour(claude)


async def test_a_provider_that_covers_nothing_gets_no_push_during_a_turn(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path, settings())
    for text in ("sleep: 0.05", "two", "three"):
        mailbox.put(text)
    provider = OneAtATimeProvider()
    inbound = Inbound(str(mailbox.inside))
    outbound = Outbound(str(mailbox.outside / "outbound.db"), 1, lambda: None)
    ports = Ports(inbound, outbound, provider, lambda: None, lambda line: None, time.monotonic)
    loop = Loop(inbound.read_run(), ports)
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.pump(provider.events()))
        run = group.create_task(loop.run())
        await eventually(lambda: provider.pushes, "nothing was pushed")
        mailbox.put("four")
        loop.signal(Signal.LOOK)
        await eventually(lambda: len(mailbox.acks("finished")) == 4, "not every message was finished")
        loop.signal(Signal.STOP)
        assert await run == 0
        await provider.close(1)
    outbound.close()
    assert len(provider.pushes) == 4 and provider.breaches == []
    assert mailbox.texts() == ["sleep: 0.05", "two", "three", "four"]
