"""The clone itself: pinned requirements without an address, and checks that leave no part of the product out."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator

import pytest

from tests.house.source import PACKAGE, ROOT, hold

ADDRESS = re.compile(
    r"://|--(extra-)?index-url|--find-links|--trusted-host|^-[if]\b|\b(git|hg|svn)\+|@ *file:", re.MULTILINE
)
PAGES = (
    "README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "nanoclaw.sh",
    ".ci/run",
)  # fmt: skip


def address_offences(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if ADDRESS.search(line):
            yield f"{name}:{number} {line.strip()}"


def unpinned(name: str, text: str) -> Iterator[str]:
    """Yield requirements without an exact version and a hash."""
    for block in re.sub(r"\\\n\s*", " ", text).splitlines():
        line = block.partition(" #")[0].strip()
        if (
            line
            and not line.startswith(("#", "-c ", "-r "))
            and not re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:", line)
        ):
            yield f"{name}: {line[:60]}"


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://pypi.org/simple",
        "-i index",
        "aiosql @ https://host/a.whl",
        "-e git+ssh://host/a",
        "x @ file:///a",
    ],
)
def test_an_address_in_a_requirement_file_is_seen(line: str) -> None:
    assert list(address_offences("base.txt", line))
    assert not list(address_offences("base.txt", "aiosql==15.0 --hash=sha256:00"))


def test_a_requirement_without_version_or_hash_is_seen() -> None:
    assert list(unpinned("base.txt", "aiosql>=15 --hash=sha256:00"))
    assert list(unpinned("base.txt", "aiosql==15.0"))
    assert not list(
        unpinned("base.txt", "aiosql==15.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n    # via -r base.in")
    )


def test_no_requirement_file_holds_an_address() -> None:
    files = [*sorted((ROOT / "requirements").iterdir()), ROOT / "pyproject.toml"]
    texts = ((path.name, path.read_text(encoding="utf-8")) for path in files)
    hold(
        (o for name, text in texts for o in address_offences(name, text)), "the installer's own settings say where from"
    )


def test_every_requirement_is_pinned_with_its_hash() -> None:
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert files
    hold(
        (o for path in files for o in unpinned(path.name, path.read_text(encoding="utf-8"))), "name==version --hash=..."
    )


def test_types_are_checked_strictly_everywhere_but_in_the_channels() -> None:
    strict = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["basedpyright"]["strict"])
    parts = {path.name for path in PACKAGE.iterdir() if any(path.rglob("*.py"))} - {"channels"}
    assert {"src/nanoclaw/*.py", *(f"src/nanoclaw/{part}" for part in parts if not part.endswith(".py"))} <= strict


def test_the_pages_a_stranger_looks_for_are_there() -> None:
    hold((name for name in PAGES if not (ROOT / name).exists()), "write it")


@pytest.mark.parametrize("script", ["nanoclaw.sh", ".ci/run"])
def test_scripts_can_be_started_as_they_are(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_no_pattern_of_the_coverage_or_lint_settings_hides_a_ring_folder() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    hidden = [str(item) for item in settings["ruff"].get("exclude", [])] + settings["coverage"]["run"].get("omit", [])
    hold(hidden, "nothing is left out of the checks")
