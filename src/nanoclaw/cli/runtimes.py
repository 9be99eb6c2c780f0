"""`nanoclaw doctor`: what can build sandboxes here, which of it is best for what, and what each keeps by what.

In: bubblewrap, an engine of containers with its OCI runtimes, AppArmor's files. Out: findings.
The AppArmor profile is of the kind Ubuntu ships for other programs (bugs.launchpad.net/bugs/2046844).
Never: changes anything; pulls an image.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.cli.finding import Finding, State
from nanoclaw.config import Config
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.runtimes.base import Capability, Hold
from nanoclaw.sandbox.runtimes.bubblewrap import PROGRAM_PATH, BubblewrapRuntime
from nanoclaw.sandbox.runtimes.docker import SEPARATE, DockerRuntime
from nanoclaw.sandbox.runtimes.engine import Engine, find_socket

APPARMOR_SWITCH = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
APPARMOR_PROFILES = Path("/etc/apparmor.d")
PROFILE = """\
abi <abi/4.0>,
include <tunables/global>
profile bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
  include if exists <local/bwrap>
}
"""
MEND_APPARMOR = (
    "sudo tee /etc/apparmor.d/bwrap <<'END'\n"
    f"{PROFILE}END\n"
    "sudo apparmor_parser -r /etc/apparmor.d/bwrap\n"
    "or, for every program: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
)
USERNS_RULE = re.compile(r"profile\s+\S+\s+/usr/bin/bwrap\b[^{]*\{[^}]*\buserns\b", re.DOTALL)
VERSION_SECONDS = 5.0
OWN = "a kernel of its own for each assistant, for those that strangers may write to"


@dataclass(frozen=True, slots=True)
class Here:
    """What there is. `bubblewrap`: its version, '' when it is not there; `engine`: its OCI runtimes, by name."""

    bubblewrap: str
    bubblewrap_fault: str
    engine: tuple[str, ...]
    engine_fault: str
    has_runsc: bool

    @property
    def separate(self) -> str:
        """The OCI runtime that has a kernel of its own, '' when there is none."""
        return next((name for name in self.engine if SEPARATE.search(name)), "")


def check_apparmor(switch: Path, profiles: Path) -> Iterator[Finding]:
    """Whether AppArmor keeps bubblewrap from making sandboxes for a normal user, and the profile that lets it."""
    if _read(switch).strip() != "1":
        return
    files = sorted(profiles.iterdir()) if profiles.is_dir() else []
    if any(USERNS_RULE.search(_read(file)) for file in files if file.is_file()):
        yield Finding("apparmor", State.GOOD, "restricts user namespaces, and has a profile that lets bubblewrap")
        return
    words = "restricts user namespaces, and no profile lets bubblewrap make them"
    yield Finding("apparmor", State.NOTE, words, MEND_APPARMOR)


def find_here(config: Config) -> Here:
    """Look; blocks up to some seconds for an engine that does not answer."""
    version, fault = _find_bubblewrap(config)
    engine, engine_fault = _find_engine(config)
    return Here(version, fault, engine, engine_fault, shutil.which("runsc", path=config.search_path) is not None)


def recommend(here: Here) -> Finding:
    """Say which runtime is best here, and what would be better still."""
    separate = f"docker:{here.separate}" if here.separate else ""
    others = f"; {separate}: {OWN}" if separate else f"; {_how_separate(here)}"
    if not here.bubblewrap_fault:
        words = f"bubblewrap {here.bubblewrap}: starts in an instant, needs no daemon{others}"
        return Finding("runtime", State.GOOD, words)
    best = separate or ("docker" if here.engine else "")
    if not best:
        return Finding("runtime", State.WRONG, f"nothing here can build sandboxes: {here.bubblewrap_fault}")
    words = f"{best}, for bubblewrap does not work here ({here.bubblewrap_fault}){'' if best == separate else others}"
    return Finding("runtime", State.NOTE, words, f'write runtime = "{best}" into config/config.toml')


def _how_separate(here: Here) -> str:
    choose = "ncl groups config update GROUP --runtime docker:runsc"
    if here.engine and here.has_runsc:
        return f"for {OWN}: sudo runsc install, start the engine anew, then {choose}"
    if here.engine:
        return f"for {OWN}: install gVisor (gvisor.dev), sudo runsc install, then {choose}"
    return f"for {OWN}: install Docker or Podman and gVisor, then {choose}"


def describe_limits(name: str, table: Sequence[Capability]) -> Finding:
    """Return a runtime's table as a finding: what keeps each limit."""
    marks = {Hold.KERNEL: "", Hold.WATCHED: " (watched)", Hold.NONE: " (NOT KEPT)"}
    words = "; ".join(f"{line.name}: {line.how}{marks[line.hold]}" for line in table)
    is_open = any(line.hold is Hold.NONE for line in table)
    return Finding(f"limits of {name}", State.NOTE if is_open else State.GOOD, words)


def check_runtimes(config: Config) -> Iterator[Finding]:
    """Everything about runtimes."""
    yield from check_apparmor(APPARMOR_SWITCH, APPARMOR_PROFILES)
    here = find_here(config)
    yield recommend(here)
    if not here.bubblewrap_fault:
        yield describe_limits("bubblewrap", _bubblewrap(config).capabilities())
    if here.engine:
        names = ["docker", f"docker:{here.separate}"] if here.separate else ["docker"]
        for name in names:
            yield describe_limits(name, _docker(config, name.partition(":")[2]).capabilities())
    elif config.settings.engine_socket or config.settings.runtime.startswith("docker"):
        yield Finding("engine", State.WRONG, here.engine_fault)


def _find_bubblewrap(config: Config) -> tuple[str, str]:
    program = shutil.which("bwrap", path=PROGRAM_PATH)
    if program is None:
        return "", "it is not installed"
    try:
        _bubblewrap(config).check()
        said = subprocess.run([program, "--version"], capture_output=True, env={}, check=False, timeout=VERSION_SECONDS)
    except (SandboxError, OSError, subprocess.SubprocessError) as error:
        return "", str(error)
    return said.stdout.decode(errors="replace").split()[-1], ""


def _find_engine(config: Config) -> tuple[tuple[str, ...], str]:
    try:
        info = Engine(find_socket(config.settings.engine_socket, config.engine_places)).info()
    except (SandboxError, OSError) as error:
        return (), str(error)
    return tuple(info.runtimes) or (info.default_runtime or "runc",), ""


def _bubblewrap(config: Config) -> BubblewrapRuntime:
    return BubblewrapRuntime(config.paths.data / "boxes", find_interpreter())


def _docker(config: Config, oci: str) -> DockerRuntime:
    folder, socket = config.paths.data / "boxes", config.settings.engine_socket
    return DockerRuntime(oci, folder, find_interpreter(), socket, config.engine_places)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
