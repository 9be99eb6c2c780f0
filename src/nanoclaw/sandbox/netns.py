"""Makes the listeners on a box's own loopback: one single-threaded helper process, started once by the host.

Threads cannot enter a user namespace, and a child forked from a big host is slow; so a small process forks for each
request, enters the box's user and network namespace (NS_GET_USERNS, setns), listens on 127.0.0.1 and passes the
sockets back. A container of a root engine has a network that the host's user namespace owns; it is entered only when
the request says `owned`, which takes root. The box is held meanwhile and never has a descriptor of them (a box's
duplicate could steal connections: architecture section 5). A box's pid that is gone, or that shares the host's own
network, is refused.

`PYTHON -I -S netns.py FD` is the helper, so this file is standard library alone; the host's side is listeners.py.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import signal
import socket
import sys
from contextlib import suppress

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
NS_GET_USERNS = 0xB701  # ioctl_ns(2)
IP_FREEBIND = 15  # lo may still be down: bubblewrap brings it up after it has told us the pid
BACKLOG = 128
OWNED = b"owned"  # in a request: the network may belong to the host's own user namespace


def _enter(pid: int, owned: bool) -> None:
    """Move this process into the network of `pid`, and the user namespace that owns it (`owned`: the host's own)."""
    libc = ctypes.CDLL(None, use_errno=True)
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(network).st_ino == os.stat("/proc/self/ns/net").st_ino:
        raise PermissionError("it has the host's own network")
    user = fcntl.ioctl(network, NS_GET_USERNS)
    if os.fstat(user).st_ino == os.stat("/proc/self/ns/user").st_ino:
        if not owned:
            raise PermissionError("its network belongs to the host")
        steps = ((network, CLONE_NEWNET),)
    else:
        steps = ((user, CLONE_NEWUSER), (network, CLONE_NEWNET))
    for descriptor, kind in steps:
        if libc.setns(descriptor, kind) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"setns: {os.strerror(code)}")


def _make_listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    return listener


def _answer(control: socket.socket, request: bytes) -> None:
    """In a fork of its own: enter, listen, pass the sockets back."""
    try:
        words = request.split()
        pid, *ports = (int(word) for word in words if word != OWNED)
        _enter(pid, OWNED in words)
        listeners = [_make_listener(port) for port in ports]
        descriptors = array.array("i", [listener.fileno() for listener in listeners])
        # fails with ETOOMANYREFS while boxes of the same uid keep thousands of descriptors on their way (run)
        control.sendmsg([b"ok"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    except (OSError, ValueError) as error:
        control.send(str(error).encode()[:500])


def serve(control: socket.socket) -> None:
    """Answer requests until the host closes its end."""
    while request := control.recv(512):
        child = os.fork()
        if child == 0:
            try:
                _answer(control, request)
            finally:
                os._exit(0)
        os.waitpid(child, 0)


def main() -> int:
    """Be the helper, on the socket named by the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the host closes the socket when it goes
    with suppress(ConnectionError), socket.socket(fileno=int(sys.argv[1])) as control:
        serve(control)
    return 0


if __name__ == "__main__":
    sys.exit(main())
