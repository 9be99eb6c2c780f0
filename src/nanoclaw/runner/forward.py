"""Leads 127.0.0.1 in a box to unix sockets of the host, where nobody can put a listener into the box's network.

`python -I -S forward.py PORT... -- COMMAND...`: listens, forks, becomes COMMAND; the fork forwards bytes until the box
is over. In: connections on 127.0.0.1:PORT. Out: the same bytes to /session/gate/PORT. Used in gVisor, Kata and where
the host may not enter a container (sandbox/runtimes/docker.py). It is the box's own and decides nothing: the gateway
knows a box by the socket's folder, whoever in the box connects.
Never: imports anything of ours, or more than the standard library. Fails: a port it may not have is left out.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from contextlib import suppress

GATE = "/session/gate"
BACKLOG = 128
CHUNK_BYTES = 65536


class Pair:
    """One connection and its other half; each way is read only as fast as the far end takes it."""

    def __init__(self, selector: selectors.BaseSelector, near: socket.socket, far: socket.socket) -> None:
        self._selector = selector
        self._ends = (near, far)
        self._waiting = {near: b"", far: b""}  # what is to be written to each
        self._reads = {near: True, far: True}
        for end in self._ends:
            end.setblocking(False)
            selector.register(end, selectors.EVENT_READ, self)

    def handle(self, end: socket.socket, events: int) -> None:
        """Move bytes as far as they go."""
        try:
            if events & selectors.EVENT_WRITE:
                self._write(end, self._waiting[end])
            if events & selectors.EVENT_READ:
                self._read(end)
            self._watch()
        except OSError:
            self.close()

    def _other(self, end: socket.socket) -> socket.socket:
        return self._ends[1] if end is self._ends[0] else self._ends[0]

    def _read(self, end: socket.socket) -> None:
        other = self._other(end)
        try:
            data = end.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._reads[end] = False
            if not self._waiting[other]:
                other.shutdown(socket.SHUT_WR)
            return
        self._write(other, data)

    def _write(self, end: socket.socket, data: bytes) -> None:
        sent = 0
        with suppress(BlockingIOError):
            sent = end.send(data)
        self._waiting[end] = data[sent:]
        if not self._waiting[end] and not self._reads[self._other(end)]:
            end.shutdown(socket.SHUT_WR)

    def _watch(self) -> None:
        """Ask for what can be done now; over when neither end has more to say."""
        if not any(self._reads.values()) and not any(self._waiting.values()):
            self.close()
            return
        for end in self._ends:
            wanted = selectors.EVENT_WRITE if self._waiting[end] else 0
            if self._reads[end] and not self._waiting[self._other(end)]:
                wanted |= selectors.EVENT_READ
            known = self._selector.get_map().get(end)
            if known is None and wanted:
                self._selector.register(end, wanted, self)
            elif known is not None and not wanted:
                self._selector.unregister(end)
            elif known is not None and known.events != wanted:
                self._selector.modify(end, wanted, self)

    def close(self) -> None:
        """Close both."""
        for end in self._ends:
            with suppress(KeyError, ValueError):
                self._selector.unregister(end)
            end.close()


def listen(ports: list[int]) -> dict[socket.socket, str]:
    """Return listeners and where each leads; a port that may not be had (443 without a right to it) is left out."""
    made: dict[socket.socket, str] = {}
    for port in ports:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            continue
        listener.setblocking(False)
        made[listener] = f"{GATE}/{port}"
    return made


def accept(selector: selectors.BaseSelector, listener: socket.socket, target: str) -> None:
    """Take one connection and lead it on; one whose other half cannot be had is closed."""
    with suppress(OSError):
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            far.connect(target)
        except OSError:
            near.close()
            far.close()
            return
        Pair(selector, near, far)


def forward(listeners: dict[socket.socket, str]) -> None:
    """Forward for ever."""
    selector = selectors.DefaultSelector()
    for listener in listeners:
        selector.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, events in selector.select():
            serve(selector, listeners, key, events)


def serve(
    selector: selectors.BaseSelector, listeners: dict[socket.socket, str], key: selectors.SelectorKey, events: int
) -> None:
    """Take a connection, or move its bytes; one that was closed in this very round is left alone."""
    end = key.fileobj
    if not isinstance(end, socket.socket) or end.fileno() == -1:
        return
    if isinstance(key.data, Pair):
        key.data.handle(end, events)
    else:
        accept(selector, end, listeners[end])


def main(arguments: list[str]) -> None:
    """Listen, fork, become the command. Returns never."""
    split = arguments.index("--")
    ports, command = [int(word) for word in arguments[:split]], arguments[split + 1 :]
    listeners = listen(ports)
    if os.fork() == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it goes with the box
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            forward(listeners)
        finally:
            os._exit(1)
    for listener in listeners:
        listener.close()
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
