"""`nanoclaw image build|list|remove`: what assistants find around them in docker."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import click

import nanoclaw
from nanoclaw.channels.plain_text import neutralise
from nanoclaw.config import load_config
from nanoclaw.errors import OperatorError, SandboxError
from nanoclaw.sandbox.image import REFERENCE, build_base, find_containerfile, is_ours, list_images, remove_image
from nanoclaw.sandbox.runtimes.engine import Engine, find_socket

MEGABYTE = 1_000_000


@click.group("image", no_args_is_help=True)
def command() -> None:
    """The image that sandboxes have with docker; bubblewrap needs none."""


@command.command("build")
@click.option("--base", default="", help="The image it begins with; by default Debian's small one.")
@click.option("--chromium", is_flag=True, help="With the browser Chromium.")
@click.option("--cjk", is_flag=True, help="With fonts for Chinese, Japanese and Korean.")
@click.option("--plain", is_flag=True, help="With nothing but what every sandbox needs.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="Another Containerfile.")
def build(base: str, chromium: bool, cjk: bool, plain: bool, file: Path | None) -> int:
    """Build the image, see that it works, and use it from the next sandbox on. A build that fails changes nothing."""
    if base and not REFERENCE.fullmatch(base):
        raise OperatorError(f"--base is the name of an image, e.g. debian:bookworm-slim, not {base!r}")
    arguments = {"BASE": base} if base else {}
    arguments |= {"CHROMIUM": "1"} if chromium else {}
    arguments |= {"CJK": "1"} if cjk else {}
    arguments |= {"EXTRAS": ""} if plain else {}
    path = file or find_containerfile(Path(nanoclaw.__path__[0]))
    if not path.is_file():
        raise OperatorError(f"there is no file {path}")
    try:
        tag = build_base(_engine(), path, arguments, version("nanoclaw"), lambda line: print(neutralise(line)))
    except SandboxError as error:
        raise OperatorError(f"{neutralise(str(error))} {error.mend}".strip()) from error
    print(f"{tag} is built and works; the next sandboxes have it.")
    return 0


@command.command("list")
def list_() -> int:
    """List the images of NanoClaw: the base and those of assistants."""
    try:
        images = list_images(_engine())
    except SandboxError as error:
        raise OperatorError(f"{error} {error.mend}".strip()) from error
    for image in images:
        made = datetime.fromtimestamp(image.created).astimezone().strftime("%Y-%m-%d %H:%M")
        tags = ", ".join(tag for tag in image.repo_tags or () if is_ours(tag))
        print(f"{tags}  {image.size // MEGABYTE} MB  {made}")
    if not images:
        print("There is none. Make it: nanoclaw image build")
    return 0


@command.command("remove")
@click.argument("name")
def remove(name: str) -> int:
    """Remove an image of NanoClaw by NAME, as `list` shows it."""
    if not REFERENCE.fullmatch(name) or not is_ours(name):
        raise OperatorError(f"{name!r} is no image of NanoClaw. See: nanoclaw image list")
    try:
        gone = remove_image(_engine(), name)
    except SandboxError as error:
        raise OperatorError(f"{error} {error.mend}".strip()) from error
    print(f"{name} is removed." if gone else f"There is no {name}.")
    return 0 if gone else 1


def _engine() -> Engine:
    config = load_config()
    try:
        return Engine(find_socket(config.settings.engine_socket, config.engine_places))
    except SandboxError as error:
        raise OperatorError(f"{error} {error.mend}".strip()) from error
