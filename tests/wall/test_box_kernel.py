"""What a box may ask of the kernel. Holes 1 and 5 of security.md section 1.2, and the filter."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess

import pytest

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.plan import LaunchPlan, launch
from tests.wall.conftest import BOX_UID, Wall

IS_ROOT = os.geteuid() == 0


async def test_the_hosts_settings_cannot_be_opened_for_writing(wall: Wall) -> None:
    said = await wall.probe("""
        for name in ("kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "kernel/sysrq",
                     "vm/overcommit_memory", "kernel/randomize_va_space",
                     "fs/suid_dumpable", "net/ipv4/ip_forward", "user/max_user_namespaces"):
            try: os.close(os.open("/proc/sys/" + name, os.O_WRONLY)); say("OPENED", name)
            except OSError: pass
        for name in ("/proc/sysrq-trigger", "/proc/irq/0/smp_affinity", "/proc/1/oom_score_adj_", "/proc/kmsg"):
            try: os.close(os.open(name, os.O_WRONLY)); say("OPENED", name)
            except OSError: pass
        walk = [os.path.join(top, file) for top, _, files in os.walk("/proc/sys") for file in files]
        for name in walk:
            if os.access(name, os.W_OK): say("WRITABLE", name)
        say(len(walk) > 100)
    """)
    # What belongs to the box's own IPC and pid namespaces is its own to set (pid_max since Linux 6.14).
    own = (
        "fs/mqueue/",
        "kernel/msg",
        "kernel/shm",
        "kernel/sem",
        "kernel/auto_msgmni",
        "kernel/ns_last_pid",
        "kernel/pid_max",
    )
    hosts = [line for line in said.splitlines() if not line.removeprefix("WRITABLE /proc/sys/").startswith(own)]
    assert hosts == ["True"]


@pytest.mark.skipif(not IS_ROOT, reason="only a host that runs as root could start bubblewrap as root: sudo pytest")
@pytest.mark.parametrize("uid", [None, 0])
async def test_a_root_host_refuses_to_start_a_box_as_root(wall: Wall, uid: int | None) -> None:
    spec = dataclasses.replace(wall.spec("pass"), host_uid=uid)
    with pytest.raises(SandboxError, match="never starts a sandbox as root"):
        await wall.runtime.start(spec, wall.label())


@pytest.mark.skipif(not IS_ROOT, reason="needs a launcher that is root: sudo pytest")
@pytest.mark.parametrize("uid", [None, 0])
async def test_the_launcher_itself_refuses_to_become_anything_as_root(wall: Wall, uid: int | None) -> None:
    plan = LaunchPlan(("/usr/bin/id",), uid=uid)
    process = launch(plan, wall.inputs.interpreter, stdio=(None, subprocess.PIPE, subprocess.PIPE))
    out, err = await asyncio.to_thread(process.communicate)
    assert (process.returncode, out) == (125, b"")
    assert b"refused to start a program as root" in err


async def test_a_normal_user_cannot_ask_for_another_uid(wall: Wall) -> None:
    if IS_ROOT:
        pytest.skip("a root host may choose uids; test_as_normal_user.py runs this")
    with pytest.raises(SandboxError, match="only start sandboxes as its own user"):
        await wall.runtime.start(dataclasses.replace(wall.spec("pass"), host_uid=12345), wall.label())


async def test_refused_system_calls_and_socket_families(wall: Wall) -> None:
    said = await wall.probe("""
        import ctypes, socket, platform
        libc = ctypes.CDLL(None, use_errno=True)
        x86 = platform.machine() == "x86_64"
        def call(name, numbers, *args):
            result = libc.syscall(numbers[0] if x86 else numbers[1], *args)
            if result >= 0 or ctypes.get_errno() not in (1, 38): say("MADE", name, result, ctypes.get_errno())
        call("unshare user", (272, 97), 0x10000000)
        call("unshare mount", (272, 97), 0x20000)
        call("setns", (308, 268), 0, 0)
        call("ptrace traceme", (101, 117), 0, 0, 0, 0)
        call("ptrace attach", (101, 117), 16, 1, 0, 0)
        call("io_uring_setup", (425, 425), 4, 0)
        call("bpf", (321, 280), 0, 0, 0)
        call("keyctl", (250, 219), 0, 0, 0, 0, 0)
        call("perf_event_open", (298, 241), 0, 0, 0, 0, 0)
        call("userfaultfd", (323, 282), 0)
        call("mount", (165, 40), 0, 0, 0, 0, 0)
        call("umount", (166, 39), b"/proc", 2)
        call("open_by_handle_at", (304, 265), 0, 0, 0)
        call("process_vm_readv", (310, 270), 1, 0, 0, 0, 0, 0)
        call("pidfd_getfd", (438, 438), 0, 0, 0)
        call("fsopen", (430, 430), b"proc", 0)
        call("clone newuser", (56, 220), 0x10000000 | 17, 0, 0, 0, 0)
        call("clone3", (435, 435), 0, 0)
        call("kexec", (246, 104), 0, 0, 0, 0)
        call("syslog", (103, 116), 3, 0, 0)
        call("tiocsti", (16, 29), 0, 0x5412, b"x")
        for family in (40, 17, 38, 44, 29, 31, 21, 9, 4):
            try: socket.socket(family, socket.SOCK_STREAM if family != 17 else socket.SOCK_RAW); say("SOCKET", family)
            except PermissionError: pass
            except OSError as error: say("REACHED", family, error)
        for args in ((2, 3, 1), (2, 3, 255), (10, 3, 58)):
            try: socket.socket(*args); say("RAW", args)
            except OSError: pass
        socket.socket(2, 1).close(); socket.socket(1, 1).close(); socket.socketpair()
        try: os.setuid(0); say("ROOT")
        except OSError: pass
        try: os.mknod("/tmp/device", 0o60666, os.makedev(8, 0)); say("DEVICE")
        except OSError: pass
    """)
    assert said == ""


async def test_a_program_of_another_architecture_is_killed(wall: Wall) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("int 0x80 is x86's way around a 64-bit filter")
    # mov eax,20 (getpid); int 0x80; ret - in an executable page
    ended = await wall.run("""
        import ctypes, mmap
        page = mmap.mmap(-1, 4096, prot=7); page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    """)
    assert ended.code == 128 + 31  # SIGSYS


async def test_ordinary_programs_run_under_the_filter(wall: Wall) -> None:
    said = await wall.probe("""
        import subprocess, threading
        thread = threading.Thread(target=say, args=("thread",)); thread.start(); thread.join()
        say(subprocess.run(["/bin/sh", "-c", "echo $(id -u) | cat"], capture_output=True).stdout.decode().strip())
    """)
    assert said.split() == ["thread", "1000"]


@pytest.mark.skipif(not IS_ROOT, reason="two groups have two uids only under a root host: sudo pytest")
async def test_a_box_of_another_group_cannot_read_this_groups_files(wall: Wall) -> None:
    (wall.root / "workspace" / "private").write_text("x")
    (wall.root / "workspace" / "private").chmod(0o600)
    spec = dataclasses.replace(wall.spec("open('/workspace/private')"), host_uid=BOX_UID + 1)
    box = await wall.runtime.start(spec, wall.label())
    box.release()
    assert "Permission" in (await box.wait()).stderr_tail


def test_bubblewrap_is_real_here() -> None:
    said = subprocess.run(["bwrap", "--version"], capture_output=True, check=True)
    assert said.stdout.startswith(b"bubblewrap")


async def test_the_runtime_finds_this_machine_fit(wall: Wall) -> None:
    await asyncio.to_thread(wall.runtime.check)
