"""Packages for bubblewrap: fetched through the real gateway by a real build box, from servers made by the test."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import nanoclaw
from nanoclaw.clock import SystemClock
from nanoclaw.config import Config, Paths, Settings
from nanoclaw.domain.group import GroupConfig, Packages
from nanoclaw.log import open_log
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.packages import BuildFailed, BuiltSet, Wanted
from nanoclaw.sandbox.packages_box import BuildParts, FolderBuilder, package_mounts
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.sandbox.spec import build_spec
from nanoclaw.sandbox.watchdog import DiskWatchdog
from tests.flow.gateway_stand import Gateway, StandIn, running
from tests.wall.conftest import Wall, cgroups_of
from tests.wall.registries import Registries, open_registries

pytestmark = pytest.mark.ci  # each build is a box, a gateway and a package manager: 1 to 4 s

GROUP = "01TESTGROUP"


@dataclass
class Site:
    """A builder, its gateway and its servers."""

    builder: FolderBuilder
    gateway: Gateway
    served: Registries
    config: Config

    @property
    def folder(self) -> Path:
        return self.config.paths.packages(GROUP)

    async def build(self, **packages: tuple[str, ...]) -> BuiltSet:
        wanted = Wanted(f"b{secrets.token_hex(4)}", GROUP, Packages(**packages), GroupConfig())
        return await self.builder.build(wanted)

    async def fails(self, **packages: tuple[str, ...]) -> str:
        """Return why a build fails; nothing of it is left."""
        before = {path.name for path in self.folder.glob("*")}
        with pytest.raises(BuildFailed) as failed:
            await self.build(**packages)
        assert {path.name for path in self.folder.glob("*")} == before
        return str(failed.value)


@pytest.fixture
async def site(wall: Wall, tmp_path: Path) -> AsyncIterator[Site]:
    home = tmp_path / "home-of-nanoclaw"
    home.mkdir(mode=0o700)
    async with open_site(wall, home) as made:
        yield made


@asynccontextmanager
async def open_site(wall: Wall, home: Path) -> AsyncIterator[Site]:
    with open_registries(home / "served") as served:
        settings = Settings(
            pip_index=f"{served.url}/pypi/",
            npm_registry=f"{served.url}/npm/",
            apt_mirror=f"deb [trusted=yes] {served.url} apt/",
        )
        config = Config(Paths(home, home / "run"), settings, wall.install, "UTC", "op", os.geteuid())
        async with running(home / "gateway", StandIn(), config.mirrors) as gateway:
            log = open_log("error")
            parts = BuildParts(
                config,
                Runtimes({"bubblewrap": lambda _: wall.runtime}),
                gateway.client,
                find_interpreter(),
                Path(nanoclaw.__file__).parent,
                DiskWatchdog(SystemClock(), log),
            )
            yield Site(FolderBuilder(parts), gateway, served, config)
            shutil.rmtree(home / "pkgs", ignore_errors=True)


async def in_box(wall: Wall, site: Site, name: str, script: str) -> str:
    """Return what a shell script says in a box of the group that has this set."""
    inputs = replace(wall.inputs, extra=package_mounts(site.folder, name))
    spec = replace(build_spec(inputs), command=("/bin/sh", "-c", f"exec 1>&2; {script}"))
    box = await wall.runtime.start(spec, wall.label())
    box.release()
    ended = await box.wait()
    assert ended.code == 0, ended
    return ended.stderr_tail.strip()


async def test_packages_of_all_three_kinds_work_in_the_next_box(wall: Wall, site: Site) -> None:
    site.served.wheel("greeter", {"greeter.py": "def main(): print('wheel here')\n"}, program="greeter:main")
    program = "#!/usr/bin/env node\nconsole.log('cli here')"
    site.served.npm(
        "left", {"index.js": "module.exports = () => 'left here'", "cli.js": program}, bin={"left-cli": "cli.js"}
    )
    site.served.npm("@scope/right", {"index.js": "module.exports = 'right here'"})
    site.served.deb(
        "sayer", {"usr/bin/sayer": "#!/bin/sh\ncat /opt/pkgs/apt/usr/share/sayer/words\n"}, depends="sayer-data"
    )
    site.served.deb("sayer-data", {"usr/share/sayer/words": "deb here\n"})
    site.served.deb("elf", {"usr/bin/elf-true": Path("/usr/bin/true").read_bytes()})
    built = await site.build(apt=("sayer", "elf"), npm=("left", "@scope/right"), pip=("greeter==1.0",))
    script = (
        "greeter-hello; python3 -c 'import greeter; greeter.main()'; left-cli; sayer; elf-true;"
        'node -e \'console.log(require("left")(), require("@scope/right"))\'; touch /opt/pkgs/x || echo read-only'
    )
    said = await in_box(wall, site, built.name, script)
    assert said.splitlines()[:5] == ["wheel here", "wheel here", "cli here", "deb here", "left here right here"]
    assert said.endswith("read-only")
    assert built.note == ""
    if os.geteuid() == 0:
        assert {path.lstat().st_uid for path in (site.folder / built.name).rglob("*")} == {0}


async def test_the_build_box_reaches_the_registries_by_get_and_nothing_else(wall: Wall, site: Site) -> None:
    site.served.wheel("greeter", {"greeter.py": ""})
    await site.build(pip=("greeter",))
    assert site.served.asked
    rows = await site.gateway.audit()
    assert {row.session[:6] for row in rows} == {"build-"}
    assert {row.agent_group for row in rows} == {GROUP}
    assert {row.method for row in rows} <= {"GET", "HEAD", ""}
    assert all(row.charge.startswith("build:") for row in rows if row.event != "finished")


async def test_a_wheel_that_writes_outside_of_itself_is_not_installed(site: Site) -> None:
    site.served.wheel("evil", {"../../../../../../opt/pkgs/bin/ls": "#!/bin/sh\necho taken", "evil.py": ""})
    assert "pip could not install that" in await site.fails(pip=("evil",))
    site.served.wheel("absolute", {"/opt/pkgs/bin/ls": "#!/bin/sh\necho taken", "absolute.py": ""})
    assert "outside the target directory" in await site.fails(pip=("absolute",))


async def test_what_is_not_there_or_not_ready_made_is_said_in_words(site: Site) -> None:
    site.served.source_only("compiled")
    assert "pip has no compiled that is ready-made" in await site.fails(pip=("compiled",))
    assert "404" in await site.fails(npm=("no-such-thing",))
    site.served.deb("sayer", {"usr/bin/sayer": ""})
    assert "there is no apt package no-such-thing" in await site.fails(apt=("no-such-thing",))


async def test_a_package_that_installs_but_does_not_start_is_not_taken(site: Site) -> None:
    site.served.wheel("broken", {"broken.py": "import not_there_at_all"})
    assert "No module named 'not_there_at_all'" in await site.fails(pip=("broken",))
    site.served.npm("broken", {"index.js": "require('not-there-at-all')"})
    assert "does not start" in await site.fails(npm=("broken",))


async def test_npm_scripts_are_not_run_and_that_is_said(wall: Wall, site: Site) -> None:
    site.served.npm("scripted", {"index.js": ""}, scripts={"postinstall": "touch /opt/pkgs/ran"})
    built = await site.build(npm=("scripted",))
    assert "install scripts, which were not run: scripted" in built.note
    assert not (site.folder / built.name / "ran").exists()


@pytest.mark.parametrize(
    ("files", "postinst", "why"),
    [
        ({"usr/bin/x": ""}, "#!/bin/sh\nset -e\nupdate-alternatives --install /a b c 1\n", "needs its install scripts"),
        ({"usr/bin/x": ""}, "#!/usr/bin/perl\nprint 1;\n", "needs its install scripts"),
        ({"lib/systemd/system/x.service": "[Unit]"}, "", "is a service"),
        ({"etc/ld.so.conf.d/x.conf": "/opt/x"}, "", "changes where libraries are found"),
    ],
)
async def test_a_deb_that_needs_more_than_its_files_is_sent_to_docker(
    site: Site, files: dict[str, str], postinst: str, why: str
) -> None:
    site.served.deb("needy", files, postinst=postinst)
    said = await site.fails(apt=("needy",))
    assert why in said
    assert "use docker for this group" in said


async def test_a_setuid_program_and_a_device_are_not_taken_and_links_out_are_left_out(site: Site) -> None:
    site.served.deb("setuid", {"usr/bin/x": ""})
    (site.served.root / "trees" / "setuid" / "usr/bin/x").chmod(0o4755)
    site.served.build_deb("setuid")
    assert "more rights than its user" in await site.fails(apt=("setuid",))
    site.served.deb("linked", {"usr/bin/real": "#!/bin/sh\n"})
    bin_ = site.served.root / "trees" / "linked" / "usr" / "bin"
    (bin_ / "out").symlink_to("../../../../../../etc/passwd")
    (bin_ / "own").symlink_to("/usr/bin/real")
    site.served.build_deb("linked")
    built = await site.build(apt=("linked",))
    made = site.folder / built.name / "apt" / "usr" / "bin"
    assert os.readlink(made / "own") == "real"
    assert not os.path.lexists(made / "out")
    assert "1 links that led out" in built.note


async def test_a_script_that_does_nothing_keeps_no_package_away(site: Site) -> None:
    postinst = (
        '#!/bin/sh\nset -e\ncase "$1" in\n    configure)\n    ;;\n    *)\n        echo "called with \\`$1\'" >&2\n'
        "        exit 1\n    ;;\nesac\n# Automatically added by dh_python3\nif command -v py3compile >/dev/null; then\n"
        "    py3compile -p x\nfi\n# End automatically added section\nexit 0\n"
    )
    site.served.deb("quiet", {"usr/bin/quiet": "#!/bin/sh\n"}, postinst=postinst)
    assert (await site.build(apt=("quiet",))).name


async def test_old_sets_go_when_nobody_uses_them(site: Site) -> None:
    site.served.wheel("greeter", {"greeter.py": ""})
    first, second = await site.build(pip=("greeter",)), await site.build(pip=("greeter",))
    await site.builder.remove_unused(GROUP, frozenset({second.name}))
    assert [path.name for path in site.folder.iterdir()] == [second.name] != [first.name]


async def test_after_a_build_no_box_no_cgroup_and_no_listener_is_left(wall: Wall, site: Site) -> None:
    site.served.wheel("greeter", {"greeter.py": ""})
    await site.build(pip=("greeter",))
    assert await wall.runtime.list_boxes(wall.install) == []
    assert not [path for top in cgroups_of(wall.install) for path in top.iterdir() if path.is_dir()]
    assert BoxLabel("x", 1, wall.install) is not None


async def test_a_build_that_is_cancelled_twice_leaves_no_turn_and_no_listener(wall: Wall, site: Site) -> None:
    site.served.wheel("greeter", {"greeter.py": ""})
    build = asyncio.create_task(site.build(pip=("greeter",)))
    client = site.gateway.client
    async with asyncio.timeout(20):
        while not client._turns:
            await asyncio.sleep(0.01)
    build.cancel()
    await asyncio.sleep(0)  # it waits for the end of its box
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert not client._turns
    assert not [key for key in client._grants if key[0].startswith("build-")]
    async with asyncio.timeout(20):
        while await wall.runtime.list_boxes(wall.install):
            await asyncio.sleep(0.05)
