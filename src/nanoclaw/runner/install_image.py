"""Runs as root in a container that becomes a group's image: installs packages where the system keeps them.

In: `/etc/nanoclaw-packages.json` (sandbox/packages_image.py). Out: the container's own files; words on stderr as of
install.py; an exit code. Scripts of packages run here: the container has no network but the gateway's registries, no
data of any group, few capabilities, and is gone afterwards.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nanoclaw.runner.debs import explain, source_lines
from nanoclaw.runner.packing import SAYS, NotInstalled, prepare, run

WANTED = Path("/etc/nanoclaw-packages.json")
SOURCES = Path("/etc/apt")
LISTS = Path("/var/lib/apt/lists")
REFUSED = 10
APT = ("apt-get", "-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=false", "-o", "APT::Update::Error-Mode=any")


def main() -> int:
    """Install what is wanted; return 0, or REFUSED with words on stderr."""
    wanted: dict[str, Any] = json.loads(WANTED.read_text(encoding="utf-8"))
    prepare(PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME="/root", NO_PROXY="", no_proxy="")
    prepare(DEBIAN_FRONTEND="noninteractive")
    try:
        install(wanted)
    except (NotInstalled, OSError) as error:
        sys.stderr.write(f"\n{SAYS}{error}\n")
        return REFUSED
    return 0


def install(wanted: dict[str, Any]) -> None:
    """Install everything. Raises NotInstalled."""
    npm, pip = list(wanted["npm"]), list(wanted["pip"])
    apt = list(wanted["apt"])
    apt += ["npm"] if npm and shutil.which("npm") is None else []
    apt += ["python3-pip"] if pip and not _has_pip() else []
    if apt:
        if wanted["apt_source"]:
            _use_source(wanted["apt_source"])
        run([*APT, "update"], "The lists of apt packages could not be fetched")
        command = [*APT, "install", "--yes", "--no-install-recommends", "--", *apt]
        run(command, "apt could not install that", explain=explain)
        shutil.rmtree(LISTS, ignore_errors=True)
    if npm:
        registry = ["--registry", wanted["npm_registry"]] if wanted["npm_registry"] else []
        command = [
            "npm",
            "install",
            "--global",
            "--no-audit",
            "--no-fund",
            "--loglevel",
            "error",
            *registry,
            "--",
            *npm,
        ]
        run(command, "npm could not install that")
    if pip:
        index = str(wanted["pip_index"])
        mirror = ["--index-url", index, "--trusted-host", str(urlsplit(index).hostname)] if index else []
        command = ["python3", "-m", "pip", "install", "--break-system-packages", "--no-cache-dir", *mirror, "--", *pip]
        run(command, "pip could not install that")


def _has_pip() -> bool:
    try:
        run(["python3", "-m", "pip", "--version"], "no pip")
    except NotInstalled:
        return False
    return True


def _use_source(source: str) -> None:
    lines = source_lines(source)
    shutil.rmtree(SOURCES / "sources.list.d", ignore_errors=True)
    (SOURCES / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
