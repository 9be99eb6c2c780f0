"""`python -I -m nanoclaw.rehearsal FD [PARENT]`: serve the rehearsal model until the parent process ends.

FD is an inherited listening TCP socket. PARENT is the starter's own pid: without it, a parent that is killed before
this process has come this far is not noticed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from nanoclaw.rehearsal.server import serve


def main() -> int:
    """Run until the process that started this one ends; exit 2 when called wrongly."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    if len(numbers) not in (1, 2) or len(numbers) != len(sys.argv) - 1:
        print("usage: python -I -m nanoclaw.rehearsal FD [PARENT]   (FD: a listening TCP socket)", file=sys.stderr)
        return 2
    parent = os.getppid()
    if numbers[1:] not in ([], [parent]):
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which ends this process by ending
    serve(socket.socket(fileno=numbers[0]), parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
