"""Where limits are written, in both versions of cgroups; a plain folder stands in, tests/wall has the kernel's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.cgroup import create_cgroup, find_hierarchies
from nanoclaw.sandbox.spec import MIB, Limits

LIMITS = Limits(memory_bytes=64 * MIB, processes=10, cpu_cores=1.5)


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_two_enables_controllers_down_to_the_box(tmp_path: Path) -> None:
    write(tmp_path / "cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
    write(tmp_path / "cgroup.subtree_control")
    folder = tmp_path / "nanoclaw-abcd" / "s-1"
    write(folder / "memory.swap.max")
    write(folder / "memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\n")
    found = find_hierarchies(tmp_path, tmp_path / "none")
    assert [(hierarchy.version, hierarchy.controllers) for hierarchy in found] == [(2, ("memory", "pids", "cpu"))]
    cgroup = create_cgroup(found, "abcd", "s-1", LIMITS)
    for enabled in (tmp_path, folder.parent):
        assert (enabled / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    written = {name: (folder / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max")}
    assert written == {"memory.max": "67108864", "memory.swap.max": "0", "pids.max": "10", "cpu.max": "150000 100000"}
    assert cgroup.procs_files == (str(folder / "cgroup.procs"),)
    assert cgroup.out_of_memory_kills() == 2


def test_version_one_lies_below_the_hosts_own_group(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("8:pids:/\n4:memory:/host/own\n2:cpu,cpuacct:/missing\n0::/\n")
    for controller in ("memory", "pids", "cpu"):
        write(tmp_path / controller / "cgroup.procs")
    (tmp_path / "memory" / "host" / "own").mkdir(parents=True)
    found = find_hierarchies(tmp_path, membership)
    assert [str(hierarchy.folder.relative_to(tmp_path)) for hierarchy in found] == ["memory/host/own", "pids", "cpu"]
    create_cgroup(found, "abcd", "s-1", LIMITS)
    assert (tmp_path / "memory/host/own/nanoclaw-abcd/s-1/memory.limit_in_bytes").read_text() == "67108864"
    assert (tmp_path / "pids/nanoclaw-abcd/s-1/pids.max").read_text() == "10"
    assert (tmp_path / "cpu/nanoclaw-abcd/s-1/cpu.cfs_quota_us").read_text() == "150000"


def test_without_a_writable_hierarchy_there_are_no_limits_to_set(tmp_path: Path) -> None:
    assert find_hierarchies(tmp_path, tmp_path / "none") == ()
    cgroup = create_cgroup((), "abcd", "s-1", LIMITS)
    assert (cgroup.procs_files, cgroup.out_of_memory_kills(), cgroup.remove()) == ((), 0, True)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "x" * 65, "a b"])
def test_a_name_that_is_not_one_is_refused(name: str) -> None:
    with pytest.raises(SandboxError, match="cannot name a cgroup"):
        create_cgroup((), "abcd", name, LIMITS)


def test_a_limit_that_is_refused_stops_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "pids" / "cgroup.procs")
    (tmp_path / "pids" / "nanoclaw-abcd" / "s-1").mkdir(parents=True)
    (tmp_path / "pids" / "nanoclaw-abcd" / "s-1" / "pids.max").mkdir()
    with pytest.raises((SandboxError, OSError)):
        create_cgroup(find_hierarchies(tmp_path, tmp_path / "none"), "abcd", "s-1", LIMITS)


def delegated(root: Path, *, host_in: str = "user.slice/user@7/app.slice/nanoclaw.service") -> Path:
    """A version 2 tree as systemd makes it for a user: what is theirs begins at `user@7`. Returns the membership."""
    write(root / "cgroup.controllers", "cpu memory pids\n")
    folder = root
    for name in host_in.split("/"):
        folder /= name
        write(folder / "cgroup.controllers", "memory pids\n")
        write(folder / "cgroup.subtree_control")
        write(folder / "cgroup.procs")
    (folder / "cgroup.procs").write_text("4711\n")  # the host itself
    membership = root.parent / "membership"
    membership.write_text(f"0::/{host_in}\n")
    return membership


def test_a_delegated_part_is_divided_where_no_process_is(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    found = find_hierarchies(root, delegated(root))
    assert [(str(h.folder.relative_to(root)), h.version, h.controllers) for h in found] == [
        ("user.slice/user@7/app.slice", 2, ("memory", "pids"))
    ]
    cgroup = create_cgroup(found, "abcd", "s-1", LIMITS)
    assert (found[0].folder / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert cgroup.paths == (str(root / "user.slice/user@7/app.slice/nanoclaw-abcd/s-1"),)


def test_a_part_with_processes_in_it_is_passed_over(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    membership = delegated(root)
    (root / "user.slice/user@7/app.slice/cgroup.procs").write_text("12\n")
    (found,) = find_hierarchies(root, membership)
    assert found.folder == root / "user.slice/user@7"


def test_without_the_memory_controller_a_part_is_of_no_use(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    membership = delegated(root, host_in="user@7/nanoclaw.service")
    (root / "user@7/cgroup.controllers").write_text("pids\n")
    assert find_hierarchies(root, membership) == ()


def test_a_host_in_the_root_of_the_mount_has_no_part_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(root / "cgroup.controllers", "memory pids\n")
    membership = tmp_path / "membership"
    membership.write_text("0::/../..\n")
    assert find_hierarchies(root, membership) == ()
