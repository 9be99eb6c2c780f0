"""What a box is given: one pure function, read and compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.errors import SandboxError
from nanoclaw.runner.start import PASSED_ON
from nanoclaw.sandbox.interpreter import Interpreter, find_interpreter, own_interpreter
from nanoclaw.sandbox.launch import BLOB, parse_plan
from nanoclaw.sandbox.plan import LaunchPlan, Staging
from nanoclaw.sandbox.runtimes.bubblewrap import box_options
from nanoclaw.sandbox.spec import BoxInputs, Mount, build_spec
from nanoclaw.sandbox.surroundings import BUNDLE_VARIABLES, hosts_text

HOME = Path("/root/secret-home")
INPUTS = BoxInputs(
    in_directory=HOME / "1/in",
    outbound_db=HOME / "1/out/outbound.db",
    outbound_journal=HOME / "1/out/outbound.db-journal",
    outbox=HOME / "1/out/outbox",
    workspace=HOME / "groups/main",
    home=HOME / "home",
    compose=HOME / "compose/main",
    runner_source=Path("/root/clone/src/nanoclaw"),
    interpreter=Interpreter(Path("/usr/bin/python3")),
    agent_binary=Path("/root/clone/claude"),
    timezone="Europe/Vienna",
    host_uid=1234,
)


def test_what_a_box_may_write_is_its_two_files_outbox_workspace_and_home() -> None:
    assert {mount.target for mount in build_spec(INPUTS).mounts if mount.writable} == {
        "/session/out/outbound.db", "/session/out/outbound.db-journal", "/session/out/outbox",
        "/workspace", "/home/agent",
    }  # fmt: skip


def test_what_a_box_may_read_is_its_mail_the_runner_the_agent_and_its_instructions() -> None:
    assert {mount.target: str(mount.source) for mount in build_spec(INPUTS).mounts if not mount.writable} == {
        "/opt/nanoclaw/nanoclaw/contract": "/root/clone/src/nanoclaw/contract",
        "/opt/nanoclaw/nanoclaw/errors.py": "/root/clone/src/nanoclaw/errors.py",
        "/opt/nanoclaw/nanoclaw/runner": "/root/clone/src/nanoclaw/runner",
        "/opt/nanoclaw/__main__.py": "/root/clone/src/nanoclaw/runner/__main__.py",
        "/opt/nanoclaw/bin/ncl": "/root/clone/src/nanoclaw/runner/ncl",
        "/opt/agent/claude": "/root/clone/claude",
        "/session/in": "/root/secret-home/1/in",
        "/etc/claude-code": "/root/secret-home/compose/main",
        "/etc/hosts": "/root/secret-home/compose/main/hosts",
        "/etc/ssl/certs/ca-certificates.crt": "/root/secret-home/compose/main/ca.pem",
        "/etc/ssl/cert.pem": "/root/secret-home/compose/main/ca.pem",
        "/etc/pki/tls/certs/ca-bundle.crt": "/root/secret-home/compose/main/ca.pem",
    }


def test_nothing_is_mounted_inside_what_an_agent_can_write() -> None:
    for mount in build_spec(INPUTS).mounts:
        assert not mount.target.startswith(("/workspace/", "/home/agent/", "/session/out/outbox/"))


def test_no_path_of_the_host_is_in_the_environment_or_the_command() -> None:
    spec = build_spec(INPUTS)
    assert "root" not in repr((spec.env, spec.command, spec.hostname, spec.workdir))
    assert spec.command == ("/usr/bin/python3", "-I", "-S", "/opt/nanoclaw")
    assert spec.env["HTTPS_PROXY"] == spec.env["https_proxy"] == "http://127.0.0.1:3128"
    assert (spec.env["TZ"], spec.env["HOME"], spec.workdir) == ("Europe/Vienna", "/home/agent", "/workspace")


def test_every_client_is_told_the_way_out_and_whom_to_trust() -> None:
    env = build_spec(INPUTS).env
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        assert env[name] == env[name.lower()] == "http://127.0.0.1:3128"
    bundles = {env[name] for name in BUNDLE_VARIABLES}
    assert bundles == {"/etc/ssl/certs/ca-certificates.crt"}
    assert env["NODE_USE_ENV_PROXY"] == "1"
    assert {name for name in env if name not in PASSED_ON} == set()  # the runner hands all of it to the agent


def test_the_names_that_lead_to_the_gateway_are_loopback_and_nothing_else() -> None:
    assert hosts_text("agent", ("pypi.org", "api.github.com")) == (
        "127.0.0.1 localhost agent\n127.0.0.1 pypi.org\n127.0.0.1 api.github.com\n"
    )
    assert "/etc/resolv.conf" not in build_spec(INPUTS).files


def test_a_python_outside_usr_is_bound_and_finds_its_own_library() -> None:
    spec = build_spec(replace(INPUTS, interpreter=Interpreter(Path("/root/py/bin/python3.12"), Path("/root/py"))))
    assert Mount(Path("/root/py"), "/opt/python") in spec.mounts
    assert spec.command[0] == "/opt/python/bin/python3.12"
    assert spec.env["LD_LIBRARY_PATH"] == "/opt/python/lib"


def test_a_recovery_box_gets_the_two_files_and_nothing_else_of_the_group() -> None:
    spec = build_spec(replace(INPUTS, recover=True))
    assert spec.command[-1] == "--recover"
    assert spec.ports == ()
    assert [mount.target for mount in spec.mounts if not mount.target.startswith("/opt/nanoclaw")] == [
        "/session/out/outbound.db", "/session/out/outbound.db-journal",
    ]  # fmt: skip
    assert not {"HTTPS_PROXY", "SSL_CERT_FILE"} & set(spec.env)


def test_what_mounts_come_first_and_the_root_is_closed_last() -> None:
    spec = build_spec(INPUTS)
    options = box_options(spec, str)
    assert options.index("--remount-ro") > max(index for index, option in enumerate(options) if "bind" in option)
    assert options.count(BLOB) == 1 + len(spec.files)
    for option in (
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ):
        assert option in options
    assert options[options.index("--cap-drop") + 1] == "ALL"


def test_a_plan_arrives_as_it_was_sent() -> None:
    plan = LaunchPlan(
        command=("/usr/bin/bwrap", "--args", BLOB, "--", "a b\nc"), env=(("A", "b=c"),), uid=7,
        sources=("/a b", "/c"),
        cgroups=("/x/cgroup.procs",), rlimits=(("core", 0),), options=("--bind", "/x y", BLOB),
        blobs=(b"\0\xff", b""), expendable=True,
    )  # fmt: skip
    assert parse_plan(plan.to_bytes(42)) == {
        "parent": ["42"], "directory": ["/"], "uid": ["7"], "expendable": [""], "cgroup": ["/x/cgroup.procs"],
        "source": ["/a b", "/c"], "rlimit": ["core 0"], "blob": ["00ff", ""], "option": ["--bind", "/x y", BLOB],
        "command": ["/usr/bin/bwrap", "--args", BLOB, "--", "a b\nc"], "env": ["A=b=c"],
    }  # fmt: skip
    with pytest.raises(ValueError, match="NUL"):
        LaunchPlan(command=("a\0b",)).to_bytes(1)


def test_sources_are_resolved_before_they_are_staged(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    staging = Staging(1234)
    assert [staging.add(tmp_path / name) for name in ("link", "real", ".")] == ["/mnt/0", "/mnt/0", "/mnt/1"]
    assert staging.sources == [str((tmp_path / "real").resolve()), str(tmp_path.resolve())]
    assert Staging(None).add(tmp_path / "link") == str((tmp_path / "real").resolve())
    with pytest.raises(SandboxError, match="gone"):
        staging.add(tmp_path / "gone")


def test_an_interpreter_is_found_here() -> None:
    for found in (find_interpreter(), own_interpreter()):
        assert found.program.exists()
        assert found.in_box.startswith(("/usr/", "/opt/python/bin/python3"))
