"""Packages from the order to the agent's shell, with a host that is killed in mid-build."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_ncl import ncl, table
from tests.live import Chat, LiveHost, wait_until
from tests.wall.registries import Registries, open_registries

pytestmark = pytest.mark.ci  # two builds, each of two boxes, and two lives of a host: about 10 s

PATIENCE_SECONDS = 60.0


@pytest.fixture
def served(tmp_path: Path, host: LiveHost) -> Iterator[Registries]:
    with open_registries(tmp_path / "served") as served:
        host.settings["pip_index"] = f"{served.url}/pypi/"
        yield served


def wait_for_build(host: LiveHost, state: str) -> None:
    wait_until(
        lambda: table(host, "groups", "builds", "main")[0]["state"] == state, f"a build {state}", PATIENCE_SECONDS
    )


def test_a_package_that_was_ordered_is_there_in_the_next_turn(host: LiveHost, served: Registries) -> None:
    served.wheel("greeter", {"greeter.py": "def main(): print('greetings from the wheel')\n"}, program="greeter:main")
    host.start()
    chat = Chat(host)
    chat.ask("run: greeter-hello || true", "before")
    assert ncl(host, "groups", "config", "add-package", "main", "--pip", "greeter").returncode == 0
    wait_for_build(host, "done")
    assert "greetings from the wheel" in chat.ask("run: greeter-hello", "after")
    assert ncl(host, "groups", "config", "add-package", "main", "--pip", "; rm -rf /").returncode == 1
    assert ncl(host, "groups", "config", "add-package", "main", "--pip", "no-such-thing").returncode == 0
    wait_for_build(host, "failed")
    assert "greetings from the wheel" in chat.ask("run: greeter-hello", "still")
    assert table(host, "groups", "config", "get", "main")[0]["packages"] == "pip: greeter"


def test_a_host_killed_in_mid_build_builds_it_again_and_leaves_one_set(host: LiveHost, served: Registries) -> None:
    served.wheel("greeter", {"greeter.py": "def main(): print('greetings from the wheel')\n"}, program="greeter:main")
    host.start()
    ncl(host, "groups", "config", "add-package", "main", "--pip", "greeter")
    wait_until(lambda: bool(served.asked), "the build at the registry", PATIENCE_SECONDS)
    host.kill()
    host.start()
    wait_for_build(host, "done")
    assert "greetings from the wheel" in Chat(host).ask("run: greeter-hello", "after")
    (group,) = (host.home / "pkgs").iterdir()
    assert len(list(group.iterdir())) == 1


def test_an_agent_asks_for_a_package_and_has_it_after_a_yes(host: LiveHost, served: Registries) -> None:
    served.wheel("greeter", {"greeter.py": "def main(): print('greetings from the wheel')\n"}, program="greeter:main")
    host.start()
    chat = Chat(host)
    asked = json.dumps({"pip": ["greeter"], "reason": "To greet."})
    assert "A person is asked" in chat.ask(f"tool: mcp__nanoclaw__install_packages {asked}", "ask")
    (question,) = table(host, "approvals", "list")
    assert "To install: pip: greeter" in question["text"] and "To greet." in question["text"]
    assert not served.asked, "nothing is fetched before the yes"
    assert ncl(host, "approvals", "approve", question["code"]).returncode == 0
    wait_for_build(host, "done")
    said = chat.ask("run: python3 -c 'import greeter; greeter.main()'; greeter-hello", "use")
    assert said.count("greetings from the wheel") == 2
