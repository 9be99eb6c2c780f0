"""One connection to the host's terminal: whole words in and out, blocking, with a deadline."""

from __future__ import annotations

import contextlib
import socket

from nanoclaw.channels.terminal_words import ClientWord, ServerWord, WordError, encode_word, parse_server_word
from nanoclaw.errors import NanoClawError

CHUNK_BYTES = 65536
SEND_SECONDS = 30.0


class Link:
    """Words over a connected socket. Lost: ConnectionError, from every method."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._rest = b""

    def send(self, *words: ClientWord) -> None:
        """Send words, in order."""
        self._socket.settimeout(SEND_SECONDS)
        try:
            self._socket.sendall(b"".join(encode_word(word) for word in words))
        except TimeoutError as error:
            raise ConnectionError("the host takes no more words") from error

    def receive(self, timeout_seconds: float | None) -> list[ServerWord]:
        """Return the words that have come, at least one; none after `timeout_seconds`. Raises NanoClawError too."""
        lines: list[bytes] = []
        self._socket.settimeout(timeout_seconds)
        while not lines:
            try:
                data = self._socket.recv(CHUNK_BYTES)
            except (TimeoutError, BlockingIOError):
                return []
            if not data:
                raise ConnectionError("the host closed the connection")
            *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            return [parse_server_word(line) for line in lines]
        except WordError as error:
            raise NanoClawError(f"{error}. Stop the host and start it again: ./nanoclaw.sh stop") from error

    def close(self) -> None:
        """Hang up; a thread that waits in `receive` gets ConnectionError."""
        with contextlib.suppress(OSError):  # the other side was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
