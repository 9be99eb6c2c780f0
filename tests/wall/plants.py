"""What is planted on the host for probes to find: files, servers, processes, memory, keys; all with one token.

As strong as the host's user can make it: planted by whoever runs the host, so that under a normal user it belongs to
the very uid that the boxes have. Everything is taken away again by `close`.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.wall.probes.frame import Facts, call

IPC_REMOVE = 0
LIFE_SECONDS = 600


class Plants:
    """One set of planted things below `root`, which anybody may enter."""

    def __init__(self, root: Path, box_uid: int) -> None:
        self.token = f"walltoken{secrets.token_hex(8)}"
        self._undo = ExitStack()
        self._root = root / self.token
        self._root.mkdir(mode=0o755)
        self._library = ctypes.CDLL(None, use_errno=True)
        self.facts: Facts = {
            "token": self.token,
            **self._files(),
            **self._servers(),
            **self._memory(),
            "processes": self._processes(box_uid),
            **self._host(),
        }

    def close(self) -> None:
        """Take everything away."""
        self._undo.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def _file(self, path: Path, mode: int = 0o644) -> str:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(f"the secret is {self.token}\n")
        path.chmod(mode)
        return str(path)

    def _files(self) -> Facts:
        root = self._root
        outside = [Path("/tmp") / self.token, Path("/var/tmp") / self.token / "state"]
        for path in outside:
            self._undo.callback(path.unlink, missing_ok=True)
        self._undo.callback(shutil.rmtree, outside[1].parent, ignore_errors=True)
        if os.geteuid() == 0:
            outside[1] = Path("/var/lib") / self.token / "state"
            self._undo.callback(shutil.rmtree, outside[1].parent, ignore_errors=True)
        self._file(root / "groups/other/workspace/private")
        return {
            "secret_closed": self._file(root / "closed", 0o600),
            "secret_open": self._file(root / "open"),
            "other_workspace": str(root / "groups/other/workspace"),
            "other_mailbox": self._file(root / "data/runs/7/in/inbound.db"),
            "store": self._file(root / "data/nanoclaw.db"),
            "vault": self._file(root / "gateway/vault.json"),
            "temporary": self._file(outside[0]),
            "state": self._file(outside[1]),
        }

    def _servers(self) -> Facts:
        abstract = f"nanoclaw-wall-{self.token}"
        unix = str(self._root / "engine.sock")
        facts: Facts = {"abstract": abstract, "unix": unix, "tcp_loopback6": 0}
        stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
        self._serve(socket.AF_UNIX, stream, unix)
        os.chmod(unix, 0o777)
        self._serve(socket.AF_UNIX, stream, "\0" + abstract)
        facts["tcp_loopback"] = self._serve(socket.AF_INET, stream, ("127.0.0.1", 0))
        facts["tcp_everywhere"] = self._serve(socket.AF_INET, stream, ("0.0.0.0", 0))
        facts["udp_loopback"] = self._serve(socket.AF_INET, datagram, ("127.0.0.1", 0))
        facts["udp_everywhere"] = self._serve(socket.AF_INET, datagram, ("0.0.0.0", 0))
        with suppress(OSError):  # a machine without IPv6
            facts["tcp_loopback6"] = self._serve(socket.AF_INET6, stream, ("::1", 0))
        return facts

    def _serve(self, family: int, kind: int, address: object) -> int:
        server = socket.socket(family, kind)
        server.bind(address)  # pyright: ignore[reportArgumentType]
        if kind == socket.SOCK_STREAM:
            server.listen(16)
        self._undo.callback(server.close)
        threading.Thread(target=self._answer, args=(server, kind), daemon=True).start()
        return 0 if family == socket.AF_UNIX else server.getsockname()[1]

    def _answer(self, server: socket.socket, kind: int) -> None:
        words = self.token.encode()
        while True:
            try:
                if kind == socket.SOCK_DGRAM:
                    server.sendto(words, server.recvfrom(1000)[1])
                else:
                    line, _ = server.accept()
                    with line:
                        line.settimeout(2)
                        line.recv(100)
                        line.sendall(words)
            except OSError:
                if server.fileno() < 0:
                    return

    def _memory(self) -> Facts:
        calls = self._library
        calls.shmat.restype = ctypes.c_void_p
        key = secrets.randbelow(1 << 30) + 1
        shm = calls.shmget(key, 4096, 0o1666)
        calls.memmove(ctypes.c_void_p(calls.shmat(shm, None, 0)), self.token.encode(), len(self.token))
        queue, semaphore = calls.msgget(key + 1, 0o1666), calls.semget(key + 2, 1, 0o1666)
        self._undo.callback(calls.shmctl, shm, IPC_REMOVE, None)
        self._undo.callback(calls.msgctl, queue, IPC_REMOVE, None)
        self._undo.callback(calls.semctl, semaphore, 0, IPC_REMOVE, 0)
        shared, name = Path("/dev/shm") / self.token, f"{self.token}-queue"
        self._file(shared)
        self._undo.callback(shared.unlink, missing_ok=True)
        mask = os.umask(0)
        call((240, 180), name.encode() + b"\0", os.O_CREAT | os.O_RDWR, 0o666, 0)
        os.umask(mask)
        self._undo.callback(call, (241, 181), name.encode() + b"\0")
        for keyring in (-4, -5, -3):  # the user's, the user's session's, the session's
            call((248, 217), b"user\0", self.token.encode() + b"\0", self.token.encode(), len(self.token), keyring)
        return {
            "shm_key": key,
            "shm_number": shm,
            "queue_key": key + 1,
            "semaphore_key": key + 2,
            "shared_name": self.token,
            "queue_name": name,
        }

    def _processes(self, box_uid: int) -> list[int]:
        """Processes with the secret in argv and environ: one of the host's user, one of the box's own uid."""
        users = [os.geteuid()] if os.geteuid() else [0, box_uid]
        found: list[int] = []
        for user in users:
            program = ["/usr/bin/python3", "-I", "-S", "-c", f"import time; time.sleep({LIFE_SECONDS})", self.token]
            process = subprocess.Popen(program, user=user, env={"PLANTED": self.token}, stdin=subprocess.DEVNULL)
            self._undo.callback(process.wait)
            self._undo.callback(process.kill)
            found.append(process.pid)
        for pid in found:
            while self.token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
                time.sleep(0.005)
        return found

    def _host(self) -> Facts:
        said = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
        names = [user.pw_name for user in pwd.getpwall() if user.pw_name not in ("root", "nobody", "agent")]
        usual = ("daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data",
                 "backup", "list", "irc", "gnats", "_apt", "messagebus", "systemd-network")  # fmt: skip
        return {
            "addresses": said,
            "hostname": socket.gethostname(),
            "host_users": [name for name in names if name not in usual] or ["daemon"],
            "host_commands": ["dockerd", "python", "python3", Path(sys.executable).name],
            "kernel_version": Path("/proc/version").read_text().strip(),
            "namespaces": {
                name: os.readlink(f"/proc/self/ns/{name}")
                for name in ("ipc", "mnt", "net", "pid", "user", "uts", "cgroup")
                if os.path.exists(f"/proc/self/ns/{name}")
            },
        }
