"""Where everything lies and what the operator has set. The only file that reads the environment.

`load_config()` finds the home (`$NANOCLAW_HOME`, default `~/.nanoclaw`), makes its folders with their modes, and
reads `config/config.toml`. Layout: architecture section 6.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from nanoclaw.errors import OperatorError

SOCKET_PATH_LIMIT = 100  # sun_path holds 108 bytes; leave room for the longest socket name
UID_FLOOR = 0x70000000  # 1879048192..2147483647 is unused by distributions and systemd (systemd UIDS-GIDS.md)
UIDS_PER_INSTALL = 4096


@dataclass(frozen=True, slots=True)
class Paths:
    """Every place the host uses, derived from the home."""

    home: Path
    run: Path

    @property
    def data(self) -> Path:
        """Host's own state, 0700."""
        return self.home / "data"

    @property
    def database(self) -> Path:
        """The central store."""
        return self.data / "nanoclaw.db"

    @property
    def gateway(self) -> Path:
        """The gateway's folder: vault, rules, ledger; 0700 of the gateway's uid."""
        return self.home / "gateway"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.home / "logs"

    @property
    def config_file(self) -> Path:
        """The operator's settings."""
        return self.home / "config" / "config.toml"

    @property
    def terminal_socket(self) -> Path:
        """Where the terminal channel listens."""
        return self.run / "terminal.sock"

    @property
    def admin_socket(self) -> Path:
        """Where `ncl` talks to the host."""
        return self.run / "ncl.sock"

    @property
    def gateway_socket(self) -> Path:
        """Where `vault` and `audit` talk to the gateway."""
        return self.run / "gateway.sock"

    @property
    def lock(self) -> Path:
        """Held by `flock` while a host runs on this home; lies in the home whatever `run` is."""
        return self.home / "run" / "lock"

    @property
    def compose_root(self) -> Path:
        """What the host composes for agent groups, a folder for each."""
        return self.home / "compose"

    def packages(self, group: str) -> Path:
        """Return the folder of an agent group's sets of packages (sandbox/packages_box.py)."""
        return self.home / "pkgs" / group

    def workspace(self, folder: str) -> Path:
        """Return the workspace of the agent group with this folder name."""
        return self.home / "groups" / folder

    def disk(self, group: str) -> Path:
        """Return the image of an agent group's workspace, where it is a file system of its own."""
        return self.data / "disks" / f"{group}.img"

    def compose(self, folder: str) -> Path:
        """Return what the host composes for an agent group, mounted read-only."""
        return self.compose_root / folder

    def sessions_of(self, group: str) -> Path:
        """Return the folder of an agent group's sessions."""
        return self.home / "sessions" / group

    def session(self, group: str, session: str) -> Path:
        """Return a session's folder: `home/`, `attachments/`, `runs/`."""
        return self.home / "sessions" / group / session

    def run_directory(self, group: str, session: str, fence: int) -> Path:
        """Return the folder of one run's mailbox."""
        return self.session(group, session) / "runs" / str(fence)


@dataclass(frozen=True, slots=True)
class Settings:
    """`config/config.toml`; unknown keys are an error. Seconds and counts as named."""

    owner: str = ""
    timezone: str = ""
    model_upstream: str = ""  # another Messages API instead of api.anthropic.com, for tests and company proxies
    model: str = ""
    idle_seconds: float = 600.0  # an idle box is kept this long (architecture section 7)
    turn_seconds: float = 3600.0  # wall limit of a turn (architecture section 6)
    tool_seconds: float = 1800.0
    hang_seconds: float = 600.0
    session_close_days: int = 30  # a thread in which nothing was said for this long is forgotten; 0: never
    memory_floor_mb: int = 512  # below this much free memory idle boxes are ended, least recently used first
    boxes_at_once: int = 0  # more than these wait in a queue; 0: by the machine's memory, 512 MB each
    workspace_images: bool = False  # new workspaces are file systems of their own (root hosts): full is full
    log_level: str = "info"
    runtime: str = ""  # overrides the runtime of every agent group, e.g. "docker" or "docker:runsc"
    engine_socket: str = ""  # of Docker or Podman; '': where they usually are
    pip_index: str = ""  # where packages for agents come from instead of PyPI, npm's and Debian's own servers;
    npm_registry: str = ""  # each a URL that builds, and they alone, may then reach
    apt_mirror: str = ""  # a URL, or a whole line of sources.list: "deb [signed-by=KEYRING] URL SUITE main"
    provider: str = ""  # overrides the provider of every agent group; for tests and trying things out


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the host was told, read once."""

    paths: Paths
    settings: Settings
    install: str  # 8 hex digits: this home's identity in labels, cgroups and uids
    timezone: str
    operator: str  # login name of who runs the host
    uid: int
    search_path: str = ""  # `$PATH`, to find an agent CLI that came with no wheel
    passphrase_file: Path | None = None  # what opens the vault: `$CREDENTIALS_DIRECTORY/nanoclaw-vault`, or as told
    user_runtime: Path | None = None  # `$XDG_RUNTIME_DIR`, where a user's own services have their sockets
    crash_point: str = field(default="")  # `$NANOCLAW_CRASH_AT`: see nanoclaw.testing.crashpoints

    @property
    def is_root(self) -> bool:
        """Whether boxes and gateway get uids of their own."""
        return self.uid == 0

    @property
    def uid_base(self) -> int:
        """First of this install's 4096 uids; from the install id, no passwd entry (architecture section 6)."""
        return UID_FLOOR + (int(self.install, 16) % 0xFFFF) * UIDS_PER_INSTALL

    @property
    def gateway_uid(self) -> int:
        """The gateway's uid on a root host, else the host's own."""
        return self.uid_base if self.is_root else self.uid

    @property
    def rehearsal_uid(self) -> int:
        """The rehearsal model's uid on a root host, else the host's own."""
        return self.uid_base + UIDS_PER_INSTALL - 1 if self.is_root else self.uid

    @property
    def engine_places(self) -> tuple[Path, ...]:
        """Where the sockets of Docker and Podman usually are, the machine's before a user's own."""
        own = self.user_runtime
        mine = () if own is None else (own / "docker.sock", own / "podman" / "podman.sock")
        return (Path("/var/run/docker.sock"), Path("/run/podman/podman.sock"), *mine)

    @property
    def mirrors(self) -> tuple[str, ...]:
        """The URLs of the operator's own package servers."""
        settings = self.settings
        words = f"{settings.pip_index} {settings.npm_registry} {settings.apt_mirror}".split()
        return tuple(word for word in words if word.startswith(("http://", "https://")))

    @property
    def build_uid(self) -> int:
        """The uid of boxes that build packages, on a root host, else the host's own."""
        return self.uid_base + UIDS_PER_INSTALL - 2 if self.is_root else self.uid

    def box_uid(self, number: int) -> int:
        """Return the uid of boxes of agent group `number` (from 0)."""
        return self.uid_base + 1 + number if self.is_root else self.uid


def load_config() -> Config:
    """Find the home, make its folders, read the settings. Raises OperatorError with what mends it."""
    home = Path(os.environ.get("NANOCLAW_HOME") or Path.home() / ".nanoclaw").expanduser().absolute()
    try:
        install = _open_home(home)
        run = _run_directory(home, install)
    except OSError as error:
        raise OperatorError(
            f"cannot write in {home}: {error.strerror or error}. "
            f"Make it writable, or choose another place: export NANOCLAW_HOME=/path/to/folder"
        ) from error
    settings = read_settings(home / "config" / "config.toml")
    return Config(
        paths=Paths(home=home, run=run),
        settings=settings,
        install=install,
        timezone=settings.timezone or _system_timezone(),
        operator=_login_name(),
        uid=os.geteuid(),
        search_path=os.environ.get("PATH", ""),
        passphrase_file=_credential(os.environ.get("CREDENTIALS_DIRECTORY", "")),
        user_runtime=Path(os.environ["XDG_RUNTIME_DIR"]) if os.environ.get("XDG_RUNTIME_DIR") else None,
        crash_point=os.environ.get("NANOCLAW_CRASH_AT", ""),
    )


def read_settings(path: Path) -> Settings:
    """Read config.toml; a missing file means the defaults. Raises OperatorError naming the bad line or key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path} is not valid TOML: {error}. Mend that line, or delete the file") from error
    known: dict[str, type[object]] = {item.name: type(getattr(Settings(), item.name)) for item in fields(Settings)}
    for key, value in table.items():
        if key not in known:
            raise OperatorError(f"{path} has an unknown key {key!r}. Known keys: {', '.join(sorted(known))}")
        if known[key] is float and isinstance(value, int):
            table[key] = float(value)
        elif type(value) is not known[key]:  # exactly: to Python, true is an int
            raise OperatorError(f"{path}: {key} must be a {known[key].__name__}, not {value!r}")
    return Settings(**table)


def write_settings(path: Path, changes: dict[str, str]) -> None:
    """Set text keys in config.toml, keeping the others; written whole and renamed."""
    kept = [
        line
        for line in (path.read_text(encoding="utf-8").splitlines() if path.exists() else [])
        if line.split("=")[0].strip() not in changes
    ]
    for key, value in changes.items():
        quoted = " ".join(value.split()).replace("\\", "\\\\").replace('"', '\\"')
        kept.append(f'{key} = "{quoted}"')
    draft = path.with_suffix(".toml.new")
    draft.write_text("\n".join(kept) + "\n", encoding="utf-8")
    draft.replace(path)


def read_secret_file(path: Path) -> str:
    """Return a passphrase or a key that a file holds, without its last line break. Raises OperatorError."""
    return read_text_file(path).removesuffix("\n")


def read_text_file(path: Path) -> str:
    """Return the text of a file that a person made. Raises OperatorError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path} is no text file") from error


def _credential(directory: str) -> Path | None:
    """Return the passphrase's file as systemd hands it over (systemd.exec(5), LoadCredential=)."""
    path = Path(directory) / "nanoclaw-vault"
    return path if directory and path.is_file() else None


def _open_home(home: Path) -> str:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, mode in (("data", 0o700), ("logs", 0o700), ("config", 0o700), ("run", 0o700)):
        (home / name).mkdir(mode=mode, exist_ok=True)
    for name in ("groups", "compose", "sessions"):
        (home / name).mkdir(mode=0o700, exist_ok=True)  # boxes are given their folders below it, never the way to them
    path = home / "data" / "install"
    try:
        install = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        install = secrets.token_hex(4)
        draft = path.with_suffix(".new")
        draft.write_text(install + "\n", encoding="ascii")
        draft.replace(path)  # whole or not at all: a home cut off here is not a damaged one
    if len(install) != 8 or not all(digit in "0123456789abcdef" for digit in install):
        raise OperatorError(f"{path} is damaged. Restore it from a backup, or delete it while no host runs")
    return install


def _run_directory(home: Path, install: str) -> Path:
    run = home / "run"
    if len(os.fsencode(run / "terminal.sock")) <= SOCKET_PATH_LIMIT:
        return run
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")  # noqa: S108  the folder below is made 0700 and checked
    run = runtime / f"nanoclaw-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}-{install}"
    run.mkdir(mode=0o700, exist_ok=True)
    owner = run.lstat()
    if run.is_symlink() or owner.st_uid != os.geteuid() or owner.st_mode & 0o077:
        raise OperatorError(f"{run} belongs to somebody else. Set XDG_RUNTIME_DIR to a folder of your own")
    return run


def _system_timezone() -> str:
    named = os.environ.get("TZ", "").lstrip(":")
    if named and "/" in named and not named.startswith("/"):
        return named
    try:
        target = str(Path("/etc/localtime").resolve(strict=True))
    except OSError:
        return "UTC"
    return target.partition("/zoneinfo/")[2] or "UTC"


def _login_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
