"""`python -I -m nanoclaw.rehearsal FD`: serve the rehearsal model on the listening socket FD, until the parent ends."""

from __future__ import annotations

import os
import signal
import socket
import sys

from nanoclaw.rehearsal.server import serve


def main() -> int:
    """Run until the process that started this one ends; exit 2 when called wrongly."""
    parent = os.getppid()
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        print("usage: python -I -m nanoclaw.rehearsal FD   (FD: an inherited listening TCP socket)", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which ends this process by ending
    serve(socket.socket(fileno=int(sys.argv[1])), parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
