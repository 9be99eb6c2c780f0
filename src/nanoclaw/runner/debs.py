"""Debian packages without root and without their scripts: downloaded with what they need, looked at, unpacked.

In: names; the machine's list of installed packages (`/opt/build/status`), so that only what it lacks is fetched.
Out: `apt/` with their files, `bin/` with a starter for each program, which leads it to its libraries.
Never: runs a script of a package; unpacks one whose scripts, setuid bits or services matter (NotInstalled).
apt checks the signatures of what it fetches, with the distribution's own keyring.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from nanoclaw.runner.packing import NotInstalled, prepare, run

STATUS = Path("/opt/build/status")
RELEASE = Path("/usr/lib/os-release")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEBIAN = "http://deb.debian.org/debian"  # as in gateway/sets/packages.toml
CONFIG = """Dir "{root}/";
Dir::Etc "etc"; Dir::State "state"; Dir::Cache "cache"; Dir::State::status "{status}";
Dir::Bin::methods "/usr/lib/apt/methods"; Dir::Bin::dpkg "/usr/bin/dpkg";
Dir::Etc::trustedparts "/etc/none"; Debug::NoLocking "true"; APT::Sandbox::User "";
Acquire::Languages "none"; Acquire::Retries "2"; APT::Get::Assume-Yes "true"; APT::Install-Recommends "false";
Dpkg::Use-Pty "false"; quiet "1";
"""
# A block that debhelper wrote and that does nothing for files that are only read: byte code, ld.so's cache, menus.
HARMLESS_BLOCK = re.compile(
    r"^# Automatically added by dh_(?:python3|makeshlibs|installdeb|icons|installmime|installmenu|installdocs"
    r"|installinfo|fontconfig|bugfiles|desktop)\b.*?^# End automatically added section$",
    re.MULTILINE | re.DOTALL,
)
# What is left of a script that does nothing.
_WORDS = r"(?:[^;|&`$<>]|\\`|\$\w|\$\{\w+\}|&& (?=\[)|[12]?> */dev/null|[12]?>&[12])*"
_SEES = r"(?:! *)?(?:\[|test|command -v|which|dpkg --compare-versions)"
IDLE = re.compile(
    r"|#.*|set [-+][a-z]+|:|true|exit [01]|return( [01])?|case \S+ in|[\w|*\" -]+\)( *;;)?|;;|esac|then|else|fi"
    rf"|(?:el)?if {_SEES} {_WORDS}(; *then)?|(?:echo|printf) {_WORDS}|(?:/sbin/)?ldconfig"
    rf"|(?:dpkg-maintscript-helper|py3compile) {_WORDS}"
)
SERVICES = re.compile(r"\./(?:(?:usr/)?lib/systemd/system|etc/(?:init\.d|systemd/system|cron\.[a-z]+))/.+")
LOADER = re.compile(r"\./etc/ld\.so\.conf.*")
PROGRAMS = ("usr/bin", "bin", "usr/sbin", "sbin", "usr/games")
MOST_LIBRARY_FOLDERS = 40
BASE_LIBRARY = "libc6"
MADE = "apt.json"
USE_DOCKER = "use docker for this group (ncl groups config update GROUP --runtime docker)"
STARTER = """#!/bin/sh
LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
XDG_DATA_DIRS="{root}/usr/share:${{XDG_DATA_DIRS:-/usr/local/share:/usr/share}}"
PERL5LIB="{perl}${{PERL5LIB:+:$PERL5LIB}}"
export LD_LIBRARY_PATH XDG_DATA_DIRS PERL5LIB
exec "{program}" "$@"
"""


def install(words: Sequence[str], source: str, pkgs: Path, work: Path) -> None:
    """Fetch and unpack packages with everything they need. Raises NotInstalled."""
    if not STATUS.exists() or shutil.which("apt-get") is None:
        raise NotInstalled(f"This machine has no apt: {USE_DOCKER}.")
    _write_config(work / "apt", source)
    prepare(APT_CONFIG=str(work / "apt" / "apt.conf"))
    run(["apt-get", "update", "-o", "APT::Update::Error-Mode=any"], "The lists of apt packages could not be fetched")
    run(
        ["apt-get", "install", "--download-only", "--no-install-recommends", "--", *words],
        "apt could not get that",
        explain=explain,
    )
    root = pkgs / "apt"
    root.mkdir()
    installed = _installed()
    made: dict[str, list[str]] = {}
    for deb in sorted((work / "apt" / "cache" / "archives").glob("*.deb")):
        name = _field(deb, "Package")
        if name == BASE_LIBRARY and name in installed:
            raise NotInstalled(f"That needs a newer {name} than this machine has. Update the machine, or {USE_DOCKER}.")
        _check_scripts(deb, name, work)
        made[name] = list(_check_files(deb, name))
        run(["dpkg-deb", "--extract", str(deb), str(root)], f"The package {name} could not be unpacked")
    _make_starters(root, pkgs / "bin")
    (pkgs / MADE).write_text(json.dumps({"made": made, "base": sorted(installed)}), encoding="utf-8")


def see(name: str, pkgs: Path) -> None:
    """See that a package is there and its programs find their libraries. Raises NotInstalled."""
    known = json.loads((pkgs / MADE).read_text(encoding="utf-8"))
    files = known["made"].get(name)
    if files is None:
        if name in known["base"]:
            return
        raise NotInstalled(f"apt said that it would install {name}, but it is not there.")
    root = pkgs / "apt"
    for path in files:
        if not os.path.lexists(root / path):
            raise NotInstalled(f"{path} of the package {name} is missing.")
    libraries = ":".join(_library_folders(root))
    for path in files:
        if os.path.dirname(path) not in PROGRAMS or not _is_elf(root / path):
            continue
        said = subprocess.run(
            ["env", f"LD_LIBRARY_PATH={libraries}", "ldd", str(root / path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        missing = re.findall(r"^\s*(\S+) => not found", said.stdout.decode(errors="replace"), re.MULTILINE)
        if missing:
            raise NotInstalled(f"{path} of the package {name} does not find {', '.join(missing)}: {USE_DOCKER}.")


def _write_config(root: Path, source: str) -> None:
    for folder in (
        "etc/sources.list.d",
        "etc/apt.conf.d",
        "etc/preferences.d",
        "state/lists/partial",
        "cache/archives/partial",
    ):
        (root / folder).mkdir(parents=True)
    (root / "etc" / "sources.list").write_text("\n".join(source_lines(source)) + "\n", encoding="utf-8")
    (root / "apt.conf").write_text(CONFIG.format(root=root, status=STATUS), encoding="utf-8")


def source_lines(source: str) -> list[str]:
    """Return the lines of sources.list for a mirror, '' for the distribution's own. Raises NotInstalled."""
    if source.startswith("deb "):
        return [source]
    facts = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', RELEASE.read_text(encoding="utf-8"), re.MULTILINE))
    name, key = facts.get("VERSION_CODENAME", ""), f"[signed-by={KEYRING}]"
    if not name or (facts.get("ID") != "debian" and not source):
        raise NotInstalled(
            "From where this machine's apt packages come is not known: set apt_mirror in config.toml, for instance "
            f'to "deb [signed-by=KEYRING] URL SUITE main", or {USE_DOCKER}.'
        )
    if source:
        return [f"deb {key} {source} {name} main"]
    updates = [f"deb {key} {DEBIAN} {name}-updates main", f"deb {key} {DEBIAN}-security {name}-security main"]
    return [f"deb {key} {DEBIAN} {name} main", *updates]


def explain(log: str) -> str:
    """Return in plain words why apt failed, '' when its log does not say."""
    found = re.search(r"E: Unable to locate package (\S+)", log)
    if found:
        return f"there is no apt package {found[1]}."
    if "dpkg returned an error" in log:  # a script of the package failed: its own last words say more
        return ""
    lines = [
        line for line in log.splitlines() if (line.startswith(("E:", " ")) and "Depends" in line) or line[:2] == "E:"
    ]
    return " ".join(line.strip() for line in lines)


def _installed() -> set[str]:
    text = STATUS.read_text(encoding="utf-8", errors="replace")
    return set(re.findall(r"^Package: (\S+)\nStatus: install ok installed$", text, re.MULTILINE))


def _field(deb: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "-f", str(deb), name], capture_output=True, check=True, text=True).stdout.strip()


def _check_scripts(deb: Path, name: str, work: Path) -> None:
    folder = work / "control"
    shutil.rmtree(folder, ignore_errors=True)
    run(["dpkg-deb", "--control", str(deb), str(folder)], f"The package {name} is damaged")
    for script in ("preinst", "postinst"):
        path = folder / script
        if path.exists() and (line := find_work(path.read_text(encoding="utf-8", errors="replace"))):
            raise NotInstalled(
                f"The apt package {name} needs its install scripts ({script}: {line[:80]}): {USE_DOCKER}."
            )


def find_work(script: str) -> str:
    """Return the first line of a maintainer script that does something; '' when it does nothing that matters here."""
    first, _, rest = script.partition("\n")
    if not re.fullmatch(r"#!\s*/bin/(?:ba|da)?sh(?: -[a-z]+)?\s*", first):
        return first
    for line in HARMLESS_BLOCK.sub("", rest).splitlines():
        if not IDLE.fullmatch(line.strip()):
            return line.strip()
    return ""


def _check_files(deb: Path, name: str) -> Iterator[str]:
    """Yield the paths of a package's files, relative to its root."""
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            what = _find_fault(member)
            if what:
                raise NotInstalled(f"The apt package {name} {what} ({member.name[:80]}): {USE_DOCKER}.")
            if member.isfile():
                yield os.path.normpath(member.name)


def _find_fault(member: tarfile.TarInfo) -> str:
    name = f"./{os.path.normpath(member.name)}"
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "has a file outside of itself"
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return "has a device"
    if member.isfile() and member.mode & 0o6000:
        return "has a program that runs with more rights than its user"
    if SERVICES.fullmatch(name):
        return "is a service"
    if LOADER.fullmatch(name):
        return "changes where libraries are found"
    return ""


def _library_folders(root: Path) -> list[str]:
    found = [
        folder
        for folder, _, files in os.walk(root)
        if "/lib" in folder and any(re.fullmatch(r"lib.*\.so(\.\d+)*", name) for name in files)
    ]
    return sorted(found, key=lambda folder: (folder.count("/"), folder))[:MOST_LIBRARY_FOLDERS]


def _make_starters(root: Path, target: Path) -> None:
    libraries = ":".join(_library_folders(root))
    perl = ":".join(map(str, (root / "usr/share/perl5", *sorted(root.glob("usr/lib/*/perl5/*")))))
    for place in PROGRAMS:
        folder = root / place
        for program in sorted(folder.iterdir()) if folder.is_dir() else ():
            starter = target / program.name
            if starter.exists() or not re.fullmatch(r"[\w.+@\[-]+", program.name):
                continue
            text = STARTER.format(libraries=libraries, root=root, perl=perl, program=program)
            starter.write_text(text, encoding="utf-8")
            starter.chmod(0o755)


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as source:
            return source.read(4) == b"\x7fELF"
    except OSError:
        return False
