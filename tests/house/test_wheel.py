"""What is installed elsewhere is what is here."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, ROOT, hold


@pytest.mark.ci
def test_the_wheel_holds_every_file_of_the_product_and_its_data(tmp_path: Path) -> None:
    """Building takes seconds, and only changes with the packaging: not in the default tier."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run(
        [*command, str(ROOT)], check=True, env={"PIP_DISABLE_PIP_VERSION_CHECK": "1"}, stdin=subprocess.DEVNULL
    )
    names = set(zipfile.ZipFile(next(tmp_path.glob("nanoclaw-*.whl"))).namelist())
    wanted = {
        f"nanoclaw/{p.relative_to(PACKAGE)}"
        for kind in ("*.py", "*.sql", "*.json", "*.toml")
        for p in PACKAGE.rglob(kind)
    }
    wanted |= {f"nanoclaw/{p.relative_to(ROOT)}" for p in (ROOT / "image").rglob("*") if p.is_file()}
    hold(sorted(wanted - names), "hatch packages src/nanoclaw whole; see [tool.hatch.build] in pyproject.toml")
