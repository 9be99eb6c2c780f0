"""A group's own image: built by a real engine, through the real gateway, from servers made by the test."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import nanoclaw
from nanoclaw.clock import SystemClock
from nanoclaw.config import Config, Paths, Settings
from nanoclaw.domain.group import GroupConfig, Packages
from nanoclaw.errors import SandboxError
from nanoclaw.log import open_log
from nanoclaw.sandbox.image import is_ours, list_images, put_tag, remove_image
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.packages import BuildFailed, BuiltSet, Wanted
from nanoclaw.sandbox.packages_box import BuildParts
from nanoclaw.sandbox.packages_image import ImageBuilder
from nanoclaw.sandbox.runtimes.docker import DockerRuntime
from nanoclaw.sandbox.runtimes.engine import Engine as Api
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.sandbox.watchdog import DiskWatchdog
from tests.engine import Engine
from tests.flow.gateway_stand import Gateway, StandIn, running
from tests.wall.registries import Registries, open_registries

pytestmark = pytest.mark.ci  # an engine of its own, and a Debian root file system

GROUP = "01TESTGROUP"
WORKING = "#!/bin/sh\nset -e\necho made by the script > /usr/share/needy/made\n"


@dataclass
class Site:
    builder: ImageBuilder
    gateway: Gateway
    served: Registries
    engine: Engine
    config: Config

    async def build(self, runtime: str = "docker", **packages: tuple[str, ...]) -> BuiltSet:
        wanted = Wanted(f"B{secrets.token_hex(4)}", GROUP, Packages(**packages), GroupConfig(runtime=runtime))
        return await self.builder.build(wanted)

    async def says(self, image: str, script: str) -> str:
        command = ("run", "--rm", "--network", "none", "--user", "1000:1000", "--entrypoint", "/bin/sh", image, "-c")
        return (await asyncio.to_thread(self.engine.docker, *command, script)).stdout.strip()

    async def containers(self) -> str:
        return (await asyncio.to_thread(self.engine.docker, "ps", "-aq")).stdout

    def groups_images(self) -> set[str]:
        found = {tag for line in list_images(Api(self.engine.socket)) for tag in line.repo_tags or ()}
        return {tag for tag in found if tag.startswith("nanoclaw-group-")}


@pytest.fixture
async def site(engine: Engine, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(engine, tmp_path) as made:
        yield made


@asynccontextmanager
async def open_site(engine: Engine, home: Path) -> AsyncIterator[Site]:
    api = Api(engine.socket)
    put_tag(api, engine.image, "nanoclaw-base", "latest")
    with open_registries(home / "served") as served:
        settings = Settings(apt_mirror=f"deb [trusted=yes] {served.url} apt/", engine_socket=str(engine.socket))
        config = Config(Paths(home, home / "run"), settings, secrets.token_hex(4), "UTC", "op", os.geteuid())
        async with running(home / "gateway", StandIn(), config.mirrors) as gateway:
            interpreter = find_interpreter()
            runtimes = Runtimes(
                {"docker": lambda oci: DockerRuntime(oci, home / "boxes", interpreter, str(engine.socket))}
            )
            watchdog = DiskWatchdog(SystemClock(), open_log("error"))
            source = Path(nanoclaw.__path__[0])
            builder = ImageBuilder(BuildParts(config, runtimes, gateway.client, interpreter, source, watchdog))
            yield Site(builder, gateway, served, engine, config)
            await runtimes.close()
    for line in list_images(api):
        for tag in filter(is_ours, line.repo_tags or ()):
            remove_image(api, tag)


@pytest.mark.parametrize("runtime", ["docker", "docker:runsc"])
async def test_a_package_that_needs_its_scripts_is_in_the_groups_image(site: Site, runtime: str) -> None:
    site.served.deb(
        "needy", {"usr/bin/needy": "#!/bin/sh\ncat /usr/share/needy/made\n", "usr/share/needy/x": ""}, postinst=WORKING
    )
    built = await site.build(runtime, apt=("needy",))
    assert built.name.startswith("nanoclaw-group-01testgroup:b")
    assert (await site.says(built.name, "needy")) == "made by the script"
    assert {row.agent_group for row in await site.gateway.audit()} == {GROUP}
    assert await site.containers() == "", "a container was left"
    assert not list((site.config.paths.data / "boxes" / "images").glob("*"))


async def test_a_build_that_fails_leaves_nothing_and_says_why(site: Site) -> None:
    site.served.deb("bad", {"usr/bin/bad": ""}, postinst="#!/bin/sh\necho no luck today >&2\nexit 7\n")
    for name, why in (("bad", "no luck today"), ("no-such-thing", "there is no apt package no-such-thing")):
        with pytest.raises(BuildFailed, match=why):
            await site.build(apt=(name,))
    assert site.groups_images() == set()
    assert await site.containers() == ""


async def test_a_script_of_a_package_reaches_nothing_but_the_registries(site: Site) -> None:
    tries = (
        "curl -s -m 3 http://example.org/ -o /tmp/x -w '%{http_code}' > /usr/share/nosy/web || true\n"
        "cd /usr/share/nosy; curl --noproxy '*' -s -m 3 http://93.184.216.34/ > raw 2>&1 || echo none > raw\n"
        "ls /sys/class/net > /usr/share/nosy/net\n"
    )
    site.served.deb("nosy", {"usr/share/nosy/x": ""}, postinst=f"#!/bin/sh\n{tries}")
    built = await site.build(apt=("nosy",))
    assert (await site.says(built.name, "cat /usr/share/nosy/web")) == "403"
    assert (await site.says(built.name, "cat /usr/share/nosy/raw /usr/share/nosy/net")).split() == ["none", "lo"]


async def test_old_images_go_and_without_a_base_there_is_a_plain_word(site: Site) -> None:
    site.served.deb("one", {"usr/bin/one": ""})
    first, second = await site.build(apt=("one",)), await site.build(apt=("one",))
    await site.builder.remove_unused(GROUP, frozenset({second.name}))
    assert site.groups_images() == {second.name} != {first.name}
    remove_image(Api(site.engine.socket), "nanoclaw-base:latest")
    with pytest.raises(SandboxError, match="no image yet"):
        await site.build(apt=("one",))
