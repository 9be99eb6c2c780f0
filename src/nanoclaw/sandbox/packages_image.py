"""Packages for boxes in docker: an image of the group's own, made of the base image, verified, then named.

In: a wanted set. Out: the image `nanoclaw-group-<agent group>:<build>`. A container from the base, with the OCI runtime
of the group's boxes and no network but unix sockets to the gateway (`packages` rules alone), installs as root with the
few capabilities that needs; then it is committed, and started once as agents' boxes are.
Never: gives it a group's data; names an image that was not seen to work; takes the old one away before.
Fails: BuildFailed in plain words; EngineError (SandboxError), OSError.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path

from nanoclaw.config import Config
from nanoclaw.domain.group import GroupConfig
from nanoclaw.domain.packages import Source, name_of
from nanoclaw.errors import SandboxError
from nanoclaw.gateway.client import Grant
from nanoclaw.gateway.control import BUILDS
from nanoclaw.sandbox.image import (
    BASE,
    GROUP,
    LATEST,
    SEE,
    exit_code,
    list_images,
    read_logs,
    remove_image,
    verify,
)
from nanoclaw.sandbox.packages import BUILD_SECONDS, BuildFailed, BuiltSet, Wanted
from nanoclaw.sandbox.packages_box import (
    HOSTNAME,
    SAYS,
    TAIL_CHARACTERS,
    WANTED_FILE,
    BuildParts,
    order_of,
    package_mounts,
)
from nanoclaw.sandbox.runtimes.base import BoxLabel
from nanoclaw.sandbox.runtimes.docker import BUILD
from nanoclaw.sandbox.runtimes.docker_spec import FORWARDER, GATE_FOLDER, IMAGE_PYTHON, labels_of
from nanoclaw.sandbox.runtimes.docker_start import Making
from nanoclaw.sandbox.runtimes.engine import Engine, find_socket
from nanoclaw.sandbox.runtimes.engine_words import EngineError
from nanoclaw.sandbox.spec import GIB, LISTEN_PORTS, BoxInputs
from nanoclaw.sandbox.surroundings import BUNDLES, RUNNER, environment

BOOT = f"import sys; sys.path.insert(0, {RUNNER!r}); from nanoclaw.runner.install_image import main; sys.exit(main())"
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID")  # what dpkg and its scripts need
IN_USE = 409
PREFIX = f"{GROUP}-"


@dataclass(frozen=True, slots=True)
class _Place:
    """One build: its engine, its label and runtime, and the folder of what its container is given."""

    engine: Engine
    label: BoxLabel
    runtime: str
    folder: Path

    @property
    def name(self) -> str:
        """The container's."""
        return f"nanoclaw-{self.label.install}-{self.label.session}"

    @property
    def oci(self) -> str:
        """The engine's OCI runtime, '' for its default."""
        return self.runtime.partition(":")[2]


class ImageBuilder:
    """Builds images."""

    def __init__(self, parts: BuildParts) -> None:
        self._parts = parts

    def owns(self, name: str) -> bool:
        """Whether a set is an image."""
        return name.startswith(PREFIX)

    async def build(self, wanted: Wanted) -> BuiltSet:
        """Build and verify a set, see PackageBuilder."""
        parts = self._parts
        await parts.runtimes.choose(wanted.config)
        label = BoxLabel(f"{BUILD}{wanted.id}", 1, parts.config.install)
        folder = parts.config.paths.data / "boxes" / "images" / wanted.id
        place = _Place(connect(parts.config), label, parts.runtimes.name_for(wanted.config), folder)
        image = f"{PREFIX}{wanted.group.lower()}:{wanted.id.lower()}"
        if not await asyncio.to_thread(place.engine.has_image, f"{BASE}:{LATEST}"):
            raise SandboxError("There is no image yet to install packages in.", mend="Make it: nanoclaw image build")
        making = await asyncio.to_thread(Making, place.engine, folder)
        try:
            await self._install(wanted, place, making)
            await asyncio.to_thread(_commit, place, image)
            await asyncio.to_thread(_verify, place.engine, image, wanted)
        finally:
            parts.gateway.close_turn(label.session, label.fence)
            await parts.gateway.unlisten(label.session, label.fence)
            await asyncio.to_thread(making.undo, place.name)
        return BuiltSet(image)

    async def remove_unused(self, group: str, used: frozenset[str]) -> None:
        """Remove every image of a group but those that are used."""
        await asyncio.to_thread(_remove_unused, connect(self._parts.config), f"{PREFIX}{group.lower()}:", used)

    async def _install(self, wanted: Wanted, place: _Place, making: Making) -> None:
        """Run the container to its end; it stays, to be committed. Raises BuildFailed."""
        parts = self._parts
        gate, listeners = making.open_gate(LISTEN_PORTS)
        ca = parts.gateway.outside.ca_pem.encode()
        files = making.write_files({WANTED_FILE: order_of(wanted, parts.config), **dict.fromkeys(BUNDLES, ca)})
        mounts = {
            RUNNER + "/nanoclaw/runner": parts.source / "runner",
            RUNNER + "/nanoclaw/errors.py": parts.source / "errors.py",
        }
        body = _body(place, {**files, **mounts, GATE_FOLDER: gate or place.folder}, parts.config.timezone)
        await parts.gateway.listen(Grant(place.label.session, 1, wanted.group, BUILDS), listeners)
        parts.gateway.open_turn(place.label.session, 1, f"build:{wanted.id}")
        await asyncio.to_thread(_run, place, body)


def give_packages(inputs: BoxInputs, runtime: str, folder: Path, config: GroupConfig) -> BoxInputs:
    """Return a box's inputs with its group's set: an image, or a folder below `folder`. A set of the other kind, built
    before the group's runtime was changed, is not for this box; flow/builds.py builds it anew."""
    name = config.packages_set
    if runtime.partition(":")[0] == "docker":
        return replace(inputs, image=name) if name.startswith(PREFIX) else inputs
    return replace(inputs, extra=(*inputs.extra, *package_mounts(folder, name)))


def connect(config: Config) -> Engine:
    """Return the engine of this host. Raises SandboxError."""
    return Engine(find_socket(config.settings.engine_socket, config.engine_places))


def _body(place: _Place, mounts: dict[str, Path], timezone: str) -> dict[str, object]:
    env = environment(timezone, own_python=False, recover=False)
    ports = tuple(map(str, LISTEN_PORTS))
    return {
        "Image": f"{BASE}:{LATEST}",
        "Hostname": HOSTNAME,
        "User": "0:0",
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Entrypoint": [IMAGE_PYTHON, "-I", "-S", FORWARDER, *ports, "--"],
        "Cmd": [IMAGE_PYTHON, "-I", "-S", "-c", BOOT],
        "Labels": labels_of(place.label, place.runtime),
        "HostConfig": {
            "Mounts": [
                {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": True}
                for target, source in mounts.items()
            ],
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES),
            "SecurityOpt": ["no-new-privileges"],
            "Memory": 2 * GIB,
            "MemorySwap": 2 * GIB,
            "PidsLimit": 512,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
            **({"Runtime": place.oci} if place.oci else {}),
        },
    }


def _run(place: _Place, body: dict[str, object], seconds: float = BUILD_SECONDS) -> None:
    engine = place.engine
    engine.remove(place.name)  # of a host that died in this very build
    container = engine.create(place.name, body)
    engine.start(container)
    began = time.monotonic()
    try:
        engine.wait(container, seconds)
    except EngineError as error:
        if error.status or time.monotonic() - began < seconds:  # else it is the engine that went away
            raise
        raise BuildFailed(f"It took longer than {seconds / 60:.0f} minutes.") from None
    if exit_code(engine, container) != 0:
        lines = [line.strip() for line in read_logs(engine, container).splitlines() if line.strip()]
        said = [line.removeprefix(SAYS) for line in lines if line.startswith(SAYS)]
        raise BuildFailed(said[-1] if said else " ".join(lines)[-TAIL_CHARACTERS:] or "The build ended early.")


def _commit(place: _Place, image: str) -> None:
    name, _, tag = image.partition(":")
    place.engine.call("POST", "/commit", {"container": place.name, "repo": name, "tag": tag}, {}, BUILD_SECONDS)


def _verify(engine: Engine, image: str, wanted: Wanted) -> None:
    try:
        verify(engine, image, " && ".join((SEE, *checks_of(wanted))))
    except BaseException:  # boundary: what does not work keeps no name
        remove_image(engine, image)
        raise


def checks_of(wanted: Wanted) -> list[str]:
    """Return shell commands, each of which fails unless one package is there."""
    packages = wanted.packages
    apt = [shlex.quote(name_of(Source.APT, word)) for word in packages.apt]
    npm = [shlex.quote(name_of(Source.NPM, word)) for word in packages.npm]
    pip = [shlex.quote(name_of(Source.PIP, word)) for word in packages.pip]
    see = "import importlib.metadata, sys; importlib.metadata.version(sys.argv[1])"
    return [
        *(f"dpkg-query -W -f '${{Status}}' {name} | grep -q 'ok installed'" for name in apt),
        *(f"npm ls --global --depth=0 {name}" for name in npm),
        *(f"python3 -c {shlex.quote(see)} {name}" for name in pip),
    ]


def _remove_unused(engine: Engine, prefix: str, used: frozenset[str]) -> None:
    for image in list_images(engine):
        for tag in image.repo_tags or ():
            if tag.startswith(prefix) and tag not in used:
                _remove_if_free(engine, tag)


def _remove_if_free(engine: Engine, tag: str) -> None:
    try:
        remove_image(engine, tag)
    except EngineError as error:
        if error.status != IN_USE:  # a box has it: it goes later
            raise
