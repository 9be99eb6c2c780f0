"""The base image, built by a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nanoclaw
from nanoclaw.errors import OperatorError
from nanoclaw.sandbox.image import build_base, find_containerfile, is_ours, list_images, remove_image
from nanoclaw.sandbox.packages import BuildFailed
from nanoclaw.sandbox.runtimes.engine import Engine as Api
from tests.engine import Engine

pytestmark = pytest.mark.ci  # an engine of its own, and a Debian root file system

FILE = find_containerfile(Path(nanoclaw.__path__[0]))


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    api = Api(engine.socket)
    yield api
    for image in list_images(api):
        for tag in filter(is_ours, image.repo_tags or ()):
            remove_image(api, tag)


def tags(api: Api) -> set[str]:
    return {tag for image in list_images(api) for tag in image.repo_tags or ()}


def test_an_image_is_built_verified_and_tagged(engine: Engine, api: Api) -> None:
    said: list[str] = []
    made = build_base(api, FILE, {"BASE": engine.image, "EXTRAS": ""}, "1.2", said.append)
    assert made == "nanoclaw-base:1.2"
    assert tags(api) == {"nanoclaw-base:1.2", "nanoclaw-base:latest"}
    assert any(line.startswith("Step ") for line in said)


def test_a_build_that_fails_keeps_the_old_image(engine: Engine, api: Api, tmp_path: Path) -> None:
    build_base(api, FILE, {"BASE": engine.image, "EXTRAS": ""}, "1", lambda _: None)
    before = {image.id for image in list_images(api)}
    broken = tmp_path / "Containerfile"
    for content, why in (
        (f"FROM {engine.image}\nRUN echo on the way && exit 3\n", "non-zero code: 3"),
        (f"FROM {engine.image}\nRUN rm /usr/bin/jq\n", "does not work"),
        ("FROM no-such-image-anywhere:1\n", "not built"),
    ):
        broken.write_text(content)
        with pytest.raises(BuildFailed, match=why):
            build_base(api, broken, {}, "2", lambda _: None)
        assert {image.id for image in list_images(api)} == before
        assert tags(api) == {"nanoclaw-base:1", "nanoclaw-base:latest"}


def test_an_image_is_removed_by_its_tag(engine: Engine, api: Api) -> None:
    build_base(api, FILE, {"BASE": engine.image, "EXTRAS": ""}, "1", lambda _: None)
    assert remove_image(api, "nanoclaw-base:1")
    assert not remove_image(api, "nanoclaw-base:1")
    assert tags(api) == {"nanoclaw-base:latest"}


def test_an_installation_without_the_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="--file"):
        find_containerfile(tmp_path / "site-packages" / "nanoclaw")
