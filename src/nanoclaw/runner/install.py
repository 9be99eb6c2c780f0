"""Runs in a box of its own: installs packages below /opt/pkgs, or sees that they are there and start.

In: `/etc/nanoclaw-packages.json` (sandbox/packages_box.py). Out: the folder /opt/pkgs; words on stderr, the last line
that begins with SAYS being the reason of a refusal or what there is to know of a set; an exit code.

    bin/     what goes on PATH          python/  pip's --target, on PYTHONPATH
    npm/     npm's prefix, NODE_PATH    apt/     unpacked .debs, none of whose scripts was run (debs.py)

Nothing here is trusted by the host: what it says is shown neutralised, what it made is looked through (set_tree.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nanoclaw.runner import debs
from nanoclaw.runner.packing import SAYS, NotInstalled, prepare, run, say

WANTED = Path("/etc/nanoclaw-packages.json")
PKGS = Path("/opt/pkgs")
REFUSED = 10
SYSTEM = "/usr/local/bin:/usr/bin:/bin"
SCRIPTS = ("preinstall", "install", "postinstall")
SHOWN = 8
SEE_PIP = """
import importlib, importlib.metadata, sys
name, version = sys.argv[1:]
found = importlib.metadata.distribution(name)
assert not version or found.version == version or found.version.split("+")[0] == version, found.version
tops = {str(f).split("/")[0] for f in found.files or () if str(f).endswith(".py") and ".dist-info" not in str(f)}
tops = {top.removesuffix(".py") for top in tops} - {"..", "tests", "test", "docs", "examples"}
faults = []
for top in sorted(top for top in tops if top.isidentifier()):
    try:
        importlib.import_module(top)
        break
    except BaseException as error:
        faults.append(f"import {top}: {type(error).__name__}: {error}")
else:
    sys.exit("; ".join(faults))
"""
SEE_NPM = """
const name = process.argv[1];
try { require(name); } catch (error) {
  const own = error.code === 'MODULE_NOT_FOUND' && error.message.includes(`'${name}'`);
  const fine = ['ERR_REQUIRE_ESM', 'ERR_PACKAGE_PATH_NOT_EXPORTED', 'ERR_REQUIRE_ASYNC_MODULE'].includes(error.code);
  if (!own && !fine) { console.error(String(error.message).split('\\n')[0]); process.exit(1); }
}
process.exit(0);
"""


def main() -> int:
    """Do what is wanted; return 0, or REFUSED with words on stderr."""
    wanted: dict[str, Any] = json.loads(WANTED.read_text(encoding="utf-8"))
    prepare(PATH=SYSTEM)
    try:
        if wanted["verify"]:
            verify(wanted)
        else:
            build(wanted)
    except NotInstalled as error:
        sys.stderr.write(f"\n{SAYS}{error}\n")
        return REFUSED
    return 0


def build(wanted: dict[str, Any]) -> None:
    """Install everything below PKGS. Raises NotInstalled."""
    work = PKGS / "work"
    for folder in (work, PKGS / "bin"):
        folder.mkdir()
    prepare(TMPDIR=str(work), HOME=str(work), DEBIAN_FRONTEND="noninteractive")
    if wanted["apt"]:
        debs.install(wanted["apt"], wanted["apt_source"], PKGS, work)
    if wanted["npm"]:
        _install_npm(wanted["npm"], wanted["npm_registry"])
    if wanted["pip"]:
        _install_pip(wanted["pip"], wanted["pip_index"])
    shutil.rmtree(work)


def verify(wanted: dict[str, Any]) -> None:
    """See that everything is there and starts, as the agent will. Raises NotInstalled."""
    prepare(PATH=f"{PKGS}/bin:{SYSTEM}")
    for word in wanted["apt"]:
        debs.see(word.partition("=")[0], PKGS)
    for word in wanted["npm"]:
        _see_npm(word)
    for word in wanted["pip"]:
        name, _, version = word.partition("==")
        bare = name.partition("[")[0]
        run([_python(), "-c", SEE_PIP, bare, version], f"The Python package {bare} was installed but does not work")


# what pip says when it got no answer of its index; after that it says "No matching distribution" too
UNREACHED = re.compile(r"ProxyError|Tunnel connection failed|HTTP error|40[13] |ConnectionError|Retrying \(")


def _install_pip(words: Sequence[str], index: str) -> None:
    command = [_python(), "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--no-cache-dir"]
    command += ["--only-binary", ":all:", "--progress-bar", "off", "--target", str(PKGS / "python")]
    if index:
        command += ["--index-url", index, "--trusted-host", str(urlsplit(index).hostname)]
    log = run([*command, "--", *words], "pip could not install that", explain=_explain_pip)
    _link_programs(PKGS / "python" / "bin")
    if "WARNING: Target directory" in log:
        say("Some files came twice; the first were kept.")


def _explain_pip(log: str) -> str:
    found = re.search(r"No matching distribution found for ([^\s]+)", log)
    if found is None or UNREACHED.search(log):  # then the log's own words are the reason
        return ""
    return (
        f"pip has no {found[1]} that is ready-made for this Python. What has to be compiled first is not "
        "installed here: use docker for this group."
    )


def _install_npm(words: Sequence[str], registry: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("There is no npm on this machine: install Node with npm, or use docker for this group.")
    command = [npm, "install", "--global", "--prefix", str(PKGS / "npm"), "--ignore-scripts", "--no-audit", "--no-fund"]
    command += ["--no-update-notifier", "--cache", str(PKGS / "work" / "npm"), "--loglevel", "error"]
    if registry:
        command += ["--registry", registry]
    run([*command, "--", *words], "npm could not install that")
    _link_programs(PKGS / "npm" / "bin")
    waiting = sorted(_with_scripts(PKGS / "npm" / "lib" / "node_modules"))
    if waiting:
        more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
        say(
            f"These npm packages have install scripts, which were not run: {', '.join(waiting[:SHOWN])}{more}. "
            "If one does not work, use docker for this group."
        )


def _with_scripts(root: Path) -> set[str]:
    found: set[str] = set()
    for folder, _, files in os.walk(root):
        if "package.json" not in files or Path(folder).parent.name.startswith("."):
            continue
        try:
            about: dict[str, Any] = json.loads((Path(folder) / "package.json").read_text(encoding="utf-8"))
            scripts: dict[str, Any] = about.get("scripts") or {}
            if any(scripts.get(name) for name in SCRIPTS) or "binding.gyp" in files:
                found.add(str(about.get("name") or Path(folder).name))
        except (ValueError, AttributeError, OSError):
            continue
    return found


def _see_npm(word: str) -> None:
    name = word[: word.rfind("@")] if word.rfind("@") > 0 else word
    folder = PKGS / "npm" / "lib" / "node_modules" / name
    if not (folder / "package.json").is_file():
        raise NotInstalled(f"npm said that it installed {name}, but it is not there.")
    run(
        ["node", "-e", SEE_NPM, name],
        f"The npm package {name} was installed but does not start; where that takes its install scripts, use docker",
    )


def _link_programs(folder: Path) -> None:
    if not folder.is_dir():
        return
    for program in sorted(folder.iterdir()):
        shown = PKGS / "bin" / program.name
        if not shown.exists() and not shown.is_symlink():
            shown.symlink_to(os.path.relpath(program, shown.parent))


def _python() -> str:
    return shutil.which("python3", path=SYSTEM) or sys.executable


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"\n{SAYS}{error}\n")
        sys.exit(REFUSED)
