"""What is shown of an image's build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoclaw.sandbox.image import _follow
from nanoclaw.sandbox.packages import BuildFailed
from nanoclaw.sandbox.runtimes.engine import Engine
from tests.unit.test_sandbox_docker import Scripted, info, scripted_engine


class Building(Scripted):
    """Answers a build as it is told."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        super().do_GET()


def test_a_build_is_told_line_by_line_without_colours_and_its_failure_with_what_came_before(tmp_path: Path) -> None:
    lines = ({"stream": "Step 1/2 : FROM x\n"}, {"stream": "\x1b[91mE: no such host\n\x1b[0m"}, {"error": "it failed"})
    told = "".join(json.dumps(line) + "\n" for line in lines).encode()
    said: list[str] = []
    with (
        scripted_engine(tmp_path, info() | {"/build": (200, told)}, Building) as place,
        pytest.raises(BuildFailed) as failed,
    ):
        _follow(Engine(place), {"t": "x"}, b"", said.append)
    assert said == ["Step 1/2 : FROM x", "E: no such host"]
    assert str(failed.value) == "The image was not built: it failed\nStep 1/2 : FROM x\nE: no such host"
