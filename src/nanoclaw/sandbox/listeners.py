"""The host's side of the helper that makes listeners inside a box's network (netns.py): starts it, asks it."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path

HELPER = str(Path(__file__).with_name("netns.py"))
ANSWER_SECONDS = 5.0
MOST_PORTS = 8


class NetnsHelper:
    """The host's side. `listen` blocks about 3 ms; safe from any thread, one request at a time."""

    def __init__(self, interpreter: str, env: dict[str, str]) -> None:
        self._interpreter = interpreter
        self._env = env
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Start the helper; from the thread that starts boxes."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(ANSWER_SECONDS)
        with theirs:
            argv = [self._interpreter, "-I", "-S", HELPER, str(theirs.fileno())]
            self._process = subprocess.Popen(
                argv,
                env=self._env,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        self._socket = ours

    def listen(self, pid: int, ports: tuple[int, ...], *, owned: bool = False) -> list[socket.socket]:
        """Return non-blocking listeners on 127.0.0.1:port inside the namespaces of `pid`. Raises OSError.

        `owned`: its network may belong to the host's user namespace, as a container's of a root engine does.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self.start()
            if self._socket is None:
                raise OSError("the network helper did not start")
            try:
                self._socket.send(" ".join(map(str, (*(["owned"] * owned), pid, *ports))).encode())
                answer, descriptors, _, _ = socket.recv_fds(self._socket, 512, MOST_PORTS)
            except OSError:
                self._end()  # an answer that comes late must not be taken for the next one's
                raise
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if answer != b"ok" or len(sockets) != len(ports):
            for listener in sockets:
                listener.close()
            raise OSError(f"no listener could be made: {answer.decode(errors='replace')}")
        for listener in sockets:
            listener.setblocking(False)
            listener.set_inheritable(False)  # recv_fds passes no flags on, MSG_CMSG_CLOEXEC neither
        return sockets

    def close(self) -> None:
        """End the helper, once it has answered; blocks as long as `listen`."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
