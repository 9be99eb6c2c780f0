"""The image that boxes have in docker: built from image/Containerfile, seen to work, then tagged.

In: an engine, build arguments. Out: `nanoclaw-base:latest` and `nanoclaw-base:<version>`; images of groups are made of
it (sandbox/packages_image.py). Every call blocks, from a thread or a command.
Never: puts a tag on what was not started once; takes the tag off what works when a build fails.
Fails: BuildFailed with what the engine said last; EngineError.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from nanoclaw.errors import OperatorError
from nanoclaw.sandbox.packages import BUILD_SECONDS, BuildFailed
from nanoclaw.sandbox.runtimes.engine import Engine
from nanoclaw.sandbox.runtimes.engine_words import EngineError

BASE = "nanoclaw-base"
GROUP = "nanoclaw-group"
LATEST = "latest"
CONTAINERFILE = "Containerfile"
REFERENCE = re.compile(r"[a-z0-9][a-z0-9._:/@-]{0,254}")
SEE = (
    "python3 -c 'import sqlite3, ssl, sys; sys.exit(sys.version_info < (3, 11))' && git --version && curl --version "
    "&& rg --version && jq --version && node --version && test -s /etc/ssl/certs/ca-certificates.crt"
)
SEE_SECONDS = 60.0
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
NOT_FOUND, CONFLICT = 404, 409
TAIL_CHARACTERS = 1_500


class _Line(msgspec.Struct):
    """One line of a build's answer (Engine API, "Build an image")."""

    stream: str = ""
    error: str = ""


class ImageLine(msgspec.Struct, frozen=True, rename="pascal"):
    """One image the engine has."""

    id: str
    repo_tags: list[str] | None = None
    size: int = 0
    created: int = 0


def find_containerfile(source: Path) -> Path:
    """Return image/Containerfile of a clone, or of the package. Raises OperatorError."""
    for folder in (source.parent.parent / "image", source / "image"):
        if (folder / CONTAINERFILE).is_file():
            return folder / CONTAINERFILE
    raise OperatorError("this installation has no image/Containerfile. Take the one of the repository: --file PATH")


def build_base(
    engine: Engine, containerfile: Path, arguments: Mapping[str, str], version: str, say: Callable[[str], None]
) -> str:
    """Build, verify and tag the base image; return its tag. `say` hears the engine's progress, line by line."""
    draft = f"{BASE}:building-{secrets.token_hex(4)}"
    query = {"t": draft, "dockerfile": CONTAINERFILE, "buildargs": json.dumps(dict(arguments)), "forcerm": "true"}
    try:
        _follow(engine, query, _context(containerfile), say)
        verify(engine, draft, SEE)
        for tag in (version, LATEST):
            put_tag(engine, draft, BASE, tag)
    finally:
        remove_image(engine, draft)
    return f"{BASE}:{version}"


def verify(engine: Engine, image: str, script: str) -> None:
    """See that a shell script ends well in an image, as an agent's box has it. Raises BuildFailed."""
    body = {
        "Image": image,
        "User": "1000:1000",
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": [script],
        "Env": ["HOME=/tmp"],
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Tmpfs": {"/tmp": "rw,size=64m,mode=1777"},  # noqa: S108 - in the container
            "PidsLimit": 256,
        },
    }
    container = engine.create(f"nanoclaw-verify-{secrets.token_hex(6)}", body)
    try:
        engine.start(container)
        engine.wait(container, SEE_SECONDS)
        said = read_logs(engine, container)
        if exit_code(engine, container) != 0:
            raise BuildFailed(f"The image was built but does not work: {said[-TAIL_CHARACTERS:] or 'nothing was said'}")
    finally:
        engine.remove(container)


def list_images(engine: Engine) -> list[ImageLine]:
    """Return the images of NanoClaw."""
    found = msgspec.json.decode(engine.call("GET", "/images/json"), type=list[ImageLine])
    return [line for line in found if any(is_ours(tag) for tag in line.repo_tags or ())]


def is_ours(tag: str) -> bool:
    """Whether a tag is one of NanoClaw's images."""
    return tag.startswith((f"{BASE}:", f"{GROUP}-"))


def remove_image(engine: Engine, image: str) -> bool:
    """Take a tag away, and the image with its last one; False when there is none."""
    try:
        engine.call("DELETE", f"/images/{quote(image, safe=':')}")
    except EngineError as error:
        if error.status == NOT_FOUND:
            return False
        raise
    return True


def put_tag(engine: Engine, image: str, name: str, tag: str) -> None:
    """Name an image; whatever had the name loses it."""
    engine.call("POST", f"/images/{quote(image, safe=':')}/tag", {"repo": name, "tag": tag})


def exit_code(engine: Engine, container: str) -> int:
    """Return with what code a container's command ended."""
    return engine.inspect(container).state.exit_code


def read_logs(engine: Engine, container: str) -> str:
    """Return what a container said, without the frames of the attach protocol."""
    raw = engine.call("GET", f"/containers/{container}/logs", {"stdout": "1", "stderr": "1", "tail": "200"})
    said, at = b"", 0
    while at + 8 <= len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8])
        said += raw[at + 8 : at + 8 + size]
        at += 8 + size
    return said.decode(errors="replace").strip()


def _context(containerfile: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        content = containerfile.read_bytes()
        member = tarfile.TarInfo(CONTAINERFILE)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _follow(engine: Engine, query: Mapping[str, str], context: bytes, say: Callable[[str], None]) -> None:
    said = ""
    for raw in engine.stream("/build", query, context, BUILD_SECONDS):
        try:
            line = msgspec.json.decode(raw, type=_Line)
        except msgspec.MsgspecError:
            continue
        if line.error:
            raise BuildFailed(
                f"The image was not built: {line.error.strip()}\n{said[-TAIL_CHARACTERS:].strip()}".strip()
            )
        if words := COLOURS.sub("", line.stream).strip():
            said += f"{words}\n"
            say(words)
