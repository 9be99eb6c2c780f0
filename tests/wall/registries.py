"""Package servers on loopback with packages made by hand: PEP 503, npm and apt, over plain HTTP, in a thread."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import http.server
import io
import json
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Registries:
    """What is served, and what was asked for."""

    root: Path
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wheel(self, name: str, files: Mapping[str, str], *, program: str = "") -> None:
        """Serve a wheel `name` 1.0; `files` by their path in it, a `program` is an entry point `module:function`."""
        about = f"{name}-1.0.dist-info"
        entries = f"[console_scripts]\n{name}-hello = {program}\n" if program else ""
        inside = {
            **files,
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            **({f"{about}/entry_points.txt": entries} if entries else {}),
        }
        record = "".join(f"{path},{_record_hash(text)},{len(text)}\n" for path, text in inside.items())
        folder = self.root / "pypi" / name
        folder.mkdir(parents=True)
        wheel = f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(folder / wheel, "w") as archive:
            for path, text in inside.items():
                archive.writestr(path, text)
            archive.writestr(f"{about}/RECORD", record + f"{about}/RECORD,,\n")
        (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel}">{wheel}</a>')

    def source_only(self, name: str) -> None:
        """Serve a Python package that has to be built first."""
        folder = self.root / "pypi" / name
        folder.mkdir(parents=True)
        with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
            _add(archive, f"{name}-1.0/setup.py", "raise SystemExit('the setup ran')", 0o644)
        (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{name}-1.0.tar.gz">{name}-1.0.tar.gz</a>')

    def npm(self, name: str, files: Mapping[str, str], **about: object) -> None:
        """Serve an npm package `name` 1.0.0."""
        package = {"name": name, "version": "1.0.0", "main": "index.js", **about}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            _add(archive, "package/package.json", json.dumps(package), 0o644)
            for path, text in files.items():
                _add(archive, f"package/{path}", text, 0o755)
        data = packed.getvalue()
        tarball = f"npm-files/{name.replace('/', '-')}-1.0.0.tgz"
        (self.root / "npm-files").mkdir(exist_ok=True)
        (self.root / tarball).write_bytes(data)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        dist = {"tarball": f"{self.url}/{tarball}", "integrity": integrity}
        known = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**package, "dist": dist}}}
        (self.root / "npm").mkdir(exist_ok=True)
        (self.root / "npm" / name.replace("/", "%2f")).write_text(json.dumps(known))

    def deb(self, name: str, files: Mapping[str, str | bytes], *, postinst: str = "", depends: str = "") -> None:
        """Add a Debian package `name` 1.0 to the repository."""
        tree = self.root / "trees" / name
        control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@test>\nDescription: test\n"
        for path, content in {
            "DEBIAN/control": control + (f"Depends: {depends}\n" if depends else ""),
            **files,
        }.items():
            place = tree / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
            place.chmod(0o755 if "bin/" in path else 0o644)
        if postinst:
            script = tree / "DEBIAN" / "postinst"
            script.write_text(postinst)
            script.chmod(0o755)
        self.build_deb(name)

    def build_deb(self, name: str) -> None:
        """Pack the tree of a Debian package (again) and index the repository."""
        apt = self.root / "apt"
        apt.mkdir(exist_ok=True)
        command = [
            "dpkg-deb",
            "--root-owner-group",
            "--build",
            str(self.root / "trees" / name),
            str(apt / f"{name}.deb"),
        ]
        subprocess.run(command, check=True, capture_output=True)
        entries: list[str] = []
        for deb in sorted(apt.glob("*.deb")):
            control = subprocess.run(["dpkg-deb", "-f", str(deb)], check=True, capture_output=True, text=True).stdout
            data = deb.read_bytes()
            entries.append(
                f"{control}Filename: apt/{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        listed = "\n".join(entries)
        (apt / "Packages").write_text(listed)
        digest = hashlib.sha256(listed.encode()).hexdigest()
        (apt / "Release").write_text(
            f"Date: Tue, 01 Dec 2026 00:00:00 UTC\nSHA256:\n {digest} {len(listed)} Packages\n"
        )


@contextlib.contextmanager
def open_registries(root: Path) -> Iterator[Registries]:
    """Serve until the block ends."""
    registries = Registries(root)
    for name in ("pypi", "npm", "apt"):
        (root / name).mkdir(parents=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, registries))
    registries.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield registries
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Files(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, registries: Registries, *arguments: object) -> None:
        self._registries = registries
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._registries.asked.append(self.path)
        place = self._registries.root / self.path.lstrip("/")
        if not place.exists():  # npm asks for @scope%2fname
            place = self._registries.root / self.path.lstrip("/").replace("%2F", "%2f")
        if place.is_dir():
            place /= "index.html"
        found = place.is_file()
        data = place.read_bytes() if found else b"nothing there"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html" if place.suffix == ".html" else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _record_hash(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _add(archive: tarfile.TarFile, path: str, text: str, mode: int) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(text.encode()), mode
    archive.addfile(member, io.BytesIO(text.encode()))
