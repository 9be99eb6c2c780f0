"""The network of a box: loopback, and the listeners the host made on it before it ran."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from pathlib import Path

import pytest

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.sandbox.listeners import NetnsHelper
from tests.wall.conftest import Wall


async def test_a_box_has_loopback_and_no_way_out(wall: Wall) -> None:
    with socket.create_server(("127.0.0.1", 0)) as of_host:
        port = of_host.getsockname()[1]
        said = await wall.probe(f"""
            import socket
            say(*os.listdir("/proc/self/net/dev_snmp6"), [name for _, name in socket.if_nameindex()])
            say([line.split()[1] for line in open("/proc/net/route")][1:])
            for family, kind, address in (
                (2, 1, ("127.0.0.1", {port})), (2, 1, ("169.254.169.254", 80)), (2, 1, ("1.1.1.1", 443)),
                (2, 2, ("8.8.8.8", 53)), (10, 1, ("2001:4860:4860::8888", 443)), (2, 1, ("10.0.0.1", 80)),
            ):
                with socket.socket(family, kind) as tried:
                    tried.settimeout(2)
                    try: tried.connect(address); say("CONNECTED", address)
                    except OSError: pass
            try: socket.getaddrinfo("example.org", 443); say("RESOLVED")
            except OSError: pass
        """)
    lines = said.splitlines()
    assert lines[0].endswith("['lo']")
    assert lines[1:] == ["[]"]


async def test_what_connects_inside_arrives_at_the_hosts_listener(wall: Wall) -> None:
    box = await wall.start("""
        import socket, sys
        for port in (3128, 443):
            with socket.create_connection(("127.0.0.1", port)) as line:
                line.sendall(b"hello %d" % port); sys.stderr.write(line.recv(100).decode())
    """)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        for listener, port in zip(box.listeners, (3128, 443), strict=True):
            line, _ = await loop.sock_accept(listener)
            with line:
                assert await loop.sock_recv(line, 100) == f"hello {port}".encode()
                await loop.sock_sendall(line, b"yes ")
        assert (await box.wait()).stderr_tail == "yes yes "


async def test_listeners_are_there_before_the_command_runs(wall: Wall) -> None:
    for _ in range(5):
        box = await wall.runtime.start(
            wall.spec("import socket; socket.create_connection(('127.0.0.1', 3128))"), wall.label()
        )
        assert [os.get_inheritable(listener.fileno()) for listener in box.listeners] == [False, False]
        box.release()
        assert (await box.wait()).code == 0


async def test_a_box_can_neither_take_nor_steal_the_listeners_port(wall: Wall) -> None:
    said = await wall.probe("""
        import socket
        for address in ("127.0.0.1", "0.0.0.0", "::"):
            for port in (3128, 443):
                with socket.socket(10 if ":" in address else 2) as mine:
                    mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    try: mine.bind((address, port)); mine.listen(); say("TOOK", address, port)
                    except OSError: pass
    """)
    assert said == ""


async def test_two_boxes_have_two_networks(wall: Wall) -> None:
    first = await wall.start("import sys; sys.stdin.read()")
    second = await wall.start("import sys; sys.stdin.read()")
    assert os.stat(f"/proc/{first.pid}/ns/net").st_ino != os.stat(f"/proc/{second.pid}/ns/net").st_ino
    await first.stop(5)
    await second.stop(5)


def test_the_helper_refuses_a_process_with_the_hosts_own_network() -> None:
    helper = NetnsHelper(str(find_interpreter().program), {})
    try:
        for pid in (os.getpid(), 2**22 + 1):
            with pytest.raises(OSError, match=r"host's own network|No such file"):
                helper.listen(pid, (3128,))
    finally:
        helper.close()


async def test_a_helper_that_died_is_started_again(wall: Wall) -> None:
    await wall.run("pass")
    process = wall.runtime._helper._process
    assert process is not None
    process.kill()
    process.wait()
    assert (await wall.run("pass")).code == 0


async def test_a_start_without_listeners_fails_and_leaves_nothing(wall: Wall) -> None:
    spec = dataclasses.replace(wall.spec("pass"), ports=(3128, 3128))
    with pytest.raises(SandboxError, match="Address already in use"):
        await wall.runtime.start(spec, wall.label())
    assert not wall.runtime._boxes


def test_the_helper_ends_with_its_host() -> None:
    helper = NetnsHelper(str(find_interpreter().program), {})
    helper.start()
    process = helper._process
    assert process is not None
    assert helper._socket is not None
    helper._socket.close()
    helper._socket = None
    assert process.wait(timeout=10) == 0
    helper.close()
    assert not Path(f"/proc/{process.pid}").exists()
