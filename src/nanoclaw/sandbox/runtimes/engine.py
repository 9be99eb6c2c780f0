"""The Engine API of Docker and Podman, spoken over its unix socket: the few calls that boxes and images need.

In: the engine's socket. Out: decoded answers; an attached container's streams as a plain socket. Every call blocks, up
to its own time limit, so it is made from a thread. Answers are the engine's own, not a box's, yet of bounded size.
Never: a registry, a shell, a TCP socket, the client's configuration in somebody's home.
Fails: EngineError, in plain words; `status` is the engine's HTTP status, 0 when it did not answer.
API: Docker Engine API v1.40 and newer, which Podman 4 and newer speaks too. Why no library: docs/decisions/0001.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from nanoclaw.sandbox.runtimes.base import BoxUsage
from nanoclaw.sandbox.runtimes.engine_words import (
    Created,
    EngineError,
    EngineInfo,
    Inspected,
    Listed,
    Refusal,
    Stats,
    Version,
)

T = TypeVar("T")
Json = Mapping[str, object]

CALL_SECONDS = 30.0
CHECK_SECONDS = 5.0
ANSWER_BYTES = 16 * 1024 * 1024
HEAD_BYTES = 16 * 1024
NEWEST_API = (1, 47)  # what this file was written for; an older engine is asked in its own version
OLDEST_API = (1, 40)
NO_ANSWER = "Is it running? `systemctl status docker` (or podman.socket) says so; then try again."
INSTALL = (
    "Start the one you have (`systemctl start docker`), "
    "or install one: `apt install docker.io`, or "
    "`apt install podman` and `systemctl --user enable --now podman.socket`; "
    "a user needs `sudo usermod -aG docker $USER` and a new login. Another place: engine_socket in config.toml."
)


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket; `timeout` bounds each step of it."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = _open_socket(self._path, self.timeout or CALL_SECONDS)


class Engine:
    """One engine; safe from any thread, each call has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prefix = ""
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        seconds: float = CALL_SECONDS,
    ) -> bytes:
        """Return the answer's body; `path` begins with a slash. Raises EngineError."""
        content = None if body is None else json.dumps(body).encode()
        with self._open(method, path, query, content, seconds) as answer:
            return answer.read(ANSWER_BYTES)

    def stream(
        self,
        path: str,
        query: Mapping[str, str],
        body: bytes | Iterable[bytes] = b"",
        seconds: float = CALL_SECONDS,
        content: str = "application/x-tar",
    ) -> Iterator[bytes]:
        """POST and yield the answer's lines as they come (a build's progress); `seconds` bounds each wait for one."""
        with self._open("POST", path, query, body, seconds, content) as answer:
            while line := answer.readline(HEAD_BYTES):
                yield line

    def info(self) -> EngineInfo:
        """Return what the engine is."""
        return self._decode(self.call("GET", "/info", seconds=CHECK_SECONDS), EngineInfo)

    def create(self, name: str, body: Json) -> str:
        """Create a container and return its id."""
        return self._decode(self.call("POST", "/containers/create", {"name": name}, body), Created).id

    def start(self, container: str) -> None:
        """Start a container."""
        self.call("POST", f"/containers/{quote(container)}/start")

    def inspect(self, container: str, seconds: float = CALL_SECONDS) -> Inspected:
        """Return what a container is and does now."""
        return self._decode(self.call("GET", f"/containers/{quote(container)}/json", seconds=seconds), Inspected)

    def wait(self, container: str, seconds: float) -> None:
        """Wait until a container does not run; EngineError when it still does after `seconds`."""
        self.call("POST", f"/containers/{quote(container)}/wait", {"condition": "not-running"}, seconds=seconds)

    def kill(self, container: str, seconds: float = CALL_SECONDS) -> None:
        """Kill every process of a container; one that is gone or does not run is no error."""
        with _forgiving(404, 409):
            self.call("POST", f"/containers/{quote(container)}/kill", seconds=seconds)

    def remove(self, container: str, seconds: float = CALL_SECONDS) -> None:
        """Kill and remove a container with its volumes; one that is gone, or going, is no error."""
        with _forgiving(404, 409):
            self.call("DELETE", f"/containers/{quote(container)}", {"force": "true", "v": "true"}, seconds=seconds)

    def list_labelled(self, label: str) -> list[Listed]:
        """Return the containers with a label `name=value`, those that do not run too."""
        query = {"all": "true", "filters": json.dumps({"label": [label]})}
        return self._decode(self.call("GET", "/containers/json", query), list[Listed])

    def has_image(self, image: str) -> bool:
        """Whether the engine has an image; it is never asked to fetch one."""
        try:
            self.call("GET", f"/images/{quote(image, safe='/:@')}/json")
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return True

    def usage(self, container: str) -> BoxUsage:
        """Return what a container takes now."""
        query = {"stream": "false", "one-shot": "true"}
        found = self._decode(self.call("GET", f"/containers/{quote(container)}/stats", query), Stats)
        cpu = found.cpu_stats.cpu_usage.total_usage
        return BoxUsage(found.memory_stats.usage, found.pids_stats.current, None if cpu is None else cpu / 1e9)

    def attach(self, container: str) -> tuple[socket.socket, bytes]:
        """Return a container's streams as one non-blocking socket, and what of them has come already.

        To write is its stdin, `shutdown(SHUT_WR)` ends it; to read is stdout and stderr in frames of 8 + n bytes
        (Engine API, "Attach to a container").
        """
        query = urlencode({"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"})
        head = (
            f"POST {self._version()}/containers/{quote(container)}/attach?{query} HTTP/1.1\r\n"
            "Host: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        )
        with self._plainly():
            stream = _open_socket(self.path, CALL_SECONDS)
            try:
                stream.sendall(head.encode())
                answer, rest = _read_head(stream)
            except BaseException:  # boundary: no descriptor stays open
                stream.close()
                raise
        status = answer.split(b" ")[1:2]
        if status not in ([b"101"], [b"200"]):
            stream.close()
            raise EngineError(f"The container engine gave no streams: {answer[:200].decode(errors='replace')}")
        stream.setblocking(False)
        return stream, rest

    def _version(self) -> str:
        with self._lock:
            if not self._prefix:
                said = self._decode(self._ask("GET", "/version"), Version).api_version
                parts = said.split(".")[:2]
                if not all(part.isascii() and part.isdigit() for part in parts):
                    raise EngineError(f"The container engine's answer cannot be read: API {said[:40]!r}.")
                version = tuple(int(part) for part in parts)
                if version < OLDEST_API:
                    raise EngineError(f"This container engine is too old: API {said}.", mend="Docker 20.10 or newer.")
                self._prefix = "/v{}.{}".format(*min(version, NEWEST_API))
            return self._prefix

    def _ask(self, method: str, path: str) -> bytes:
        with _Answer(self, method, path, None, CHECK_SECONDS, "") as answer:
            return answer.read(ANSWER_BYTES)

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | Iterable[bytes] | None,
        seconds: float,
        content: str = "application/json",
    ) -> _Answer:
        target = f"{self._version()}{path}" + (f"?{urlencode(query)}" if query else "")
        return _Answer(self, method, target, body, seconds, content)

    def _plainly(self) -> _Plainly:
        return _Plainly(self.path)

    @staticmethod
    def _decode(content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise EngineError(f"The container engine's answer cannot be read: {error}") from None


class _Answer:
    """One call: its connection and its answer, closed together."""

    def __init__(
        self,
        engine: Engine,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None,
        seconds: float,
        content: str,
    ) -> None:
        self._connection = _Connection(engine.path, seconds)
        self._plain = _Plainly(engine.path)
        try:
            with self._plain:
                headers = {"Content-Type": content} if body is not None else {}
                self._connection.request(method, target, body, headers)
                self._response = self._connection.getresponse()
                if self._response.status >= 400:
                    raise self._refusal(self._response.read(HEAD_BYTES))
        except BaseException:  # boundary: no descriptor stays open
            self._connection.close()
            raise

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def read(self, most: int) -> bytes:
        """Return the rest of the answer."""
        with self._plain:
            return self._response.read(most)

    def readline(self, most: int) -> bytes:
        """Return the next line, empty at the end."""
        with self._plain:
            return self._response.readline(most)

    def _refusal(self, content: bytes) -> EngineError:
        try:
            message = msgspec.json.decode(content, type=Refusal).message
        except msgspec.MsgspecError:
            message = content.decode(errors="replace")
        mend = "Make room on the engine's disk: `docker system df` shows what takes it." if _is_full(message) else ""
        return EngineError(
            f"The container engine refused: {message.strip()[:500]}", mend=mend, status=self._response.status
        )


class _Plainly:
    """Turns what a broken connection raises into EngineError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        match error:
            case TimeoutError():
                raise EngineError(f"The container engine at {self._path} does not answer.", mend=NO_ANSWER) from None
            case FileNotFoundError():
                raise EngineError(f"There is no container engine at {self._path}.", mend=INSTALL) from None
            case PermissionError():
                raise EngineError(f"The container engine at {self._path} may not be used.", mend=INSTALL) from None
            case OSError() | http.client.HTTPException():
                words = f"The container engine at {self._path} is not there: {error}"
                raise EngineError(words, mend=NO_ANSWER) from None
            case _:
                return


class _forgiving(suppress):  # noqa: N801 - used like contextlib.suppress
    """Swallows an EngineError with one of these statuses, and no other."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(EngineError)
        self._statuses = statuses

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, EngineError) and error.status in self._statuses


def find_socket(told: str, places: Iterable[Path]) -> Path:
    """Return the engine's socket: the one the operator told, else the first of the usual places that is one."""
    if told:
        return Path(told.removeprefix("unix://")).expanduser()
    for place in places:
        with suppress(OSError):
            if place.is_socket() and os.access(place, os.R_OK | os.W_OK):
                return place
    raise EngineError("No container engine was found (Docker or Podman).", mend=INSTALL)


def _open_socket(path: Path, seconds: float) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    opened.settimeout(seconds)
    try:
        opened.connect(str(path))
    except BaseException:  # boundary: no descriptor stays open
        opened.close()
        raise
    return opened


def _read_head(stream: socket.socket) -> tuple[bytes, bytes]:
    read = b""
    while b"\r\n\r\n" not in read:
        chunk = stream.recv(4096)
        if not chunk or len(read) > HEAD_BYTES:
            raise ConnectionError("it hung up")
        read += chunk
    head, _, rest = read.partition(b"\r\n\r\n")
    return head, rest


def _is_full(message: str) -> bool:
    return "no space left" in message.lower()
