"""What a box sees of the host: nothing but what its spec gives it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nanoclaw.sandbox.runtimes.bubblewrap import TELLING_FILES
from nanoclaw.sandbox.surroundings import BUNDLE_VARIABLES
from tests.wall.conftest import Wall


async def test_a_box_runs_as_an_unprivileged_user_with_its_own_name_and_root(wall: Wall) -> None:
    said = await wall.probe("""
        import socket, json
        say(json.dumps([os.getuid(), os.getgid(), os.getgroups(), socket.gethostname(), sorted(os.listdir("/"))]))
    """)
    uid, gid, groups, name, root = json.loads(said)
    assert (uid, gid, name) == (1000, 1000, "agent")
    assert set(groups) <= {1000, 65534}
    system = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "var", "dev", "proc", "tmp", "run"}
    assert set(root) <= system | {"opt", "home", "session", "workspace"}


async def test_environment_and_command_line_of_the_first_process_hold_nothing_of_the_host(wall: Wall) -> None:
    said = await wall.probe("""
        say(repr(open("/proc/1/environ", "rb").read()))
        say(open("/proc/1/cmdline", "rb").read().split(b"\\0")[:3])
        say(open("/proc/self/environ", "rb").read())
    """)
    first, command, own = said.splitlines()[:3]
    assert first == "b''"
    assert command.startswith("[b'/usr/bin/bwrap', b'--args'") or b"bwrap" in command.encode()
    assert str(wall.root) not in said
    assert {pair.split("=")[0] for pair in own[2:-1].split("\\x00") if pair} == {
        "PATH", "PYTHONPATH", "NODE_PATH", "HOME", "LANG", "TZ", "PWD", "NO_PROXY", "no_proxy", "LC_CTYPE",
        "NODE_USE_ENV_PROXY", *BUNDLE_VARIABLES,
        *(name for base in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY") for name in (base, base.lower())),
    } - ({"LC_CTYPE"} if "LC_CTYPE" not in own else set()) - ({"PWD"} if "PWD" not in own else set())  # fmt: skip


async def test_a_box_has_no_descriptor_of_the_host_but_its_three_pipes(wall: Wall) -> None:
    said = await wall.probe("""
        for pid in ("1", "self"):
            for fd in sorted(os.listdir(f"/proc/{pid}/fd")):
                try: say(pid, fd, os.readlink(f"/proc/{pid}/fd/{fd}"))
                except FileNotFoundError: pass
    """)
    for line in said.splitlines():
        pid, _fd, target = line.split(" ", 2)
        assert target.startswith("pipe:") or (pid == "1" and target == "anon_inode:[eventfd]"), line


async def test_files_of_the_host_cannot_be_read(wall: Wall) -> None:
    secret = wall.root / "secret"
    secret.write_text("the key")
    secret.chmod(0o644)
    said = await wall.probe(f"""
        for path in ({str(secret)!r}, "/etc/shadow", "/root", "/mnt", "/var/lib", "/sys", "/boot",
                     "/home/agent/../../root", "/proc/1/root/root",
                     "/proc/1/cwd/root", "/dev/mem", "/dev/kvm", "/dev/vda", "/run/docker.sock",
                     "/session/in/../../1", "/proc/kcore"):
            try: say("READ", path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(20))
            except OSError as error: pass
    """)
    assert said == ""


async def test_the_kernels_keys_timers_and_addresses_are_covered(wall: Wall) -> None:
    """Names of a normal user's keys were shown to its boxes, which have the very same uid."""
    said = await wall.probe(f"""
        for path in {TELLING_FILES!r}:
            try: say(path, open(path, "rb").read(20))
            except OSError: pass
    """)
    assert said == ""


async def test_only_processes_of_the_box_are_seen(wall: Wall) -> None:
    said = await wall.probe("say(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()))")
    assert len(json.loads(said)) <= 3


async def test_nothing_outside_its_writable_places_can_be_written(wall: Wall) -> None:
    said = await wall.probe("""
        for path in ("/", "/etc", "/usr", "/opt", "/opt/nanoclaw", "/opt/nanoclaw/nanoclaw/runner", "/dev", "/home",
                     "/run", "/var", "/session", "/session/in", "/session/in/inbox", "/session/out",
                     "/etc/claude-code", "/proc"):
            try: os.close(os.open(path + "/planted", os.O_CREAT | os.O_WRONLY)); say("WROTE", path)
            except OSError: pass
        for path in ("/etc/passwd", "/etc/hosts", "/opt/nanoclaw/__main__.py", "/etc/claude-code/CLAUDE.md",
                     "/session/in/inbound.db", "/etc/ld.so.cache"):
            try: os.close(os.open(path, os.O_WRONLY)); say("OPENED", path)
            except OSError: pass
        for path in ("/tmp", "/dev/shm", "/workspace", "/home/agent", "/session/out/outbox"):
            os.close(os.open(path + "/own", os.O_CREAT | os.O_WRONLY))
    """)
    assert said == ""
    assert (wall.root / "workspace" / "own").exists()


async def test_a_setuid_file_of_the_workspace_gains_nothing(wall: Wall) -> None:
    said = await wall.probe("""
        import shutil, subprocess
        shutil.copy("/usr/bin/id", "/workspace/id"); os.chmod("/workspace/id", 0o6755)
        say(subprocess.run(["/workspace/id", "-u"], capture_output=True).stdout.decode().strip())
    """)
    assert said.strip() == "1000"


async def test_every_process_of_a_box_is_powerless_as_seen_from_the_host(wall: Wall) -> None:
    box = await wall.start("""
        import os, subprocess, sys
        subprocess.Popen(["/bin/sleep", "30"]); os.write(1, b"o"); sys.stdin.read()
    """)
    async for _ in box.bells():
        break
    family = [box.monitor_pid, *descendants(box.monitor_pid)]
    assert len(family) >= 4
    for pid in family:
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert "0" not in status["Uid"].split()
        assert status["NoNewPrivs"] == "1"
        if pid != box.monitor_pid:  # the monitor stays outside: it only waits, and holds no capability either
            assert status["Seccomp"] == "2", status["Name"]
        assert int(status["CapEff"], 16) == 0, status["Name"]
    await box.stop(0)


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found
