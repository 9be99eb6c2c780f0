"""`ncl groups config add-mount`: only what is allowed, with the reason and what mends it; and the choice of runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from nanoclaw.admin.call import OPERATOR, Call, check_request
from nanoclaw.admin.desk import build_parts
from nanoclaw.admin.request import Request
from nanoclaw.admin.resources.group_runtime import RuntimeTrial
from nanoclaw.admin.resources.parts import Machine
from nanoclaw.domain.group import Kernel
from nanoclaw.errors import Refused
from nanoclaw.sandbox.pins import open_pin
from nanoclaw.sandbox.rights import explain_rights
from nanoclaw.testing.scripted_runtime import ScriptedRuntime
from tests.unit.office import Office

Found = TypeVar("Found")


@pytest.fixture
def office(disk_path: Path) -> Iterator[Office]:
    (disk_path / "home" / "config").mkdir(parents=True)
    (disk_path / "srv" / "docs").mkdir(parents=True)
    office = Office(disk_path / "home")
    yield office
    office.close()


def allow(disk_path: Path, *, writable: bool = False) -> None:
    text = f"[[root]]\npath = '{disk_path / 'srv'}'\nread_write = {'true' if writable else 'false'}\n"
    (disk_path / "home" / "config" / "mounts.toml").write_text(text)


def add(office: Office, path: object, *more: str) -> str:
    return office.ncl("groups", "config", "add-mount", "main", "--path", str(path), *more).note


def test_a_folder_that_is_not_allowed_is_refused_with_the_command_that_allows_it(
    office: Office, disk_path: Path
) -> None:
    docs = disk_path / "srv" / "docs"
    with pytest.raises(Refused, match=f"To allow it: ./nanoclaw.sh mounts allow {docs} --read-write"):
        add(office, docs, "--read-write")
    for path, why in (
        ("relative", "absolute"), (f"{docs}/../docs", "no `..`"), ("/no/such", "no folder"), ("/", "never given"),
        (disk_path / "home", "never given"), (disk_path, "never given"), ("/etc", "never given"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=why):
            add(office, path)
    assert office.row("groups config get main")["mounts"] == ""


def test_an_allowed_folder_is_given_under_its_name_and_live_boxes_are_renewed(office: Office, disk_path: Path) -> None:
    allow(disk_path)
    docs = disk_path / "srv" / "docs"
    note = add(office, docs, "--read-write")
    assert "/extra/docs, read-only" in note and "is allowed read-only" in note
    assert len(office.after.renew) == 1
    assert f"{docs} at /extra/docs" in str(office.row("groups config get main")["mounts"])
    (disk_path / "srv" / "b" / "docs").mkdir(parents=True)
    with pytest.raises(Refused, match="of the name docs already"):
        add(office, disk_path / "srv" / "b" / "docs")
    with pytest.raises(Refused, match="--name is needed"):
        add(office, disk_path / "srv", "--name", "A B")
    assert "/extra/other" in add(office, disk_path / "srv" / "b" / "docs", "--name", "other")
    for wanted in ("other", str(docs)):
        office.ncl("groups", "config", "remove-mount", "main", "--path", wanted)
    assert office.row("groups config get main")["mounts"] == ""
    with pytest.raises(Refused, match="has no folder"):
        office.ncl("groups", "config", "remove-mount", "main", "--path", "other")


@pytest.mark.skipif(os.geteuid() != 0, reason="only a root host has uids to tell apart")
def test_a_folder_that_the_boxes_user_cannot_write_is_said_with_the_mend(office: Office, disk_path: Path) -> None:
    allow(disk_path, writable=True)
    docs = disk_path / "srv" / "docs"
    note = add(office, docs, "--read-write")
    assert "may not write it" in note and "setfacl -R -m u:" in note and note.endswith(str(docs))
    docs.chmod(0o777)
    assert "setfacl" not in add(office, docs, "--read-write")


def test_rights_come_from_owner_group_others_and_lists_of_rights(disk_path: Path) -> None:
    folder = disk_path / "x"
    folder.mkdir(mode=0o750)
    pin = open_pin(folder)
    mine, other = os.stat(folder).st_uid, os.stat(folder).st_uid + 4_000
    try:
        assert explain_rights(pin, mine, write=True) == ""
        assert "may not read it" in explain_rights(pin, other, write=False)
        folder.chmod(0o755)
        assert explain_rights(pin, other, write=False) == ""
        assert "rwX" in explain_rights(pin, other, write=True)
        folder.chmod(0o700)
        listed = b"\2\0\0\0" + b"".join(
            tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + number.to_bytes(4, "little")
            for tag, rights, number in (
                (1, 7, 0xFFFFFFFF), (2, 7, other), (4, 0, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF),
            )
        )  # fmt: skip
        os.setxattr(folder, "system.posix_acl_access", listed)
        assert explain_rights(pin, other, write=True) == ""
        assert explain_rights(pin, other + 1, write=False) != ""
    finally:
        pin.close()


async def test_a_runtime_that_is_not_here_or_too_weak_is_refused_before_anything_is_written(office: Office) -> None:
    machine = office.hands.machine
    shared = ScriptedRuntime(lambda work, name: None)
    assert shared.kernel is Kernel.SHARED
    scripted = type(machine.runtimes)({"bubblewrap": lambda _: shared})
    trial = RuntimeTrial(build_parts(office.tables), Machine(machine.folders, machine.box_uid, scripted))

    async def read(work: Callable[..., Found]) -> Found:
        return work(office.connection)

    def call(**flags: str | list[str]) -> Call:
        return check_request(Request("groups", "config update", "main", flags), OPERATOR, 0)

    await trial(call(runtime="bubblewrap"), read)
    await trial(call(model="x"), read)
    with pytest.raises(Refused, match="requires a kernel of its own"):
        await trial(call(require="separate-kernel"), read)
    with pytest.raises(Refused, match="There is no runtime 'docker'"):
        await trial(call(runtime="docker"), read)


def test_a_demand_is_kept_and_taken_back_and_renews_live_boxes(office: Office) -> None:
    assert office.row("groups config update main --require separate-kernel")["require"] == "separate-kernel"
    assert len(office.after.renew) == 1
    assert office.row("groups config update main --runtime docker:runsc")["runtime"] == "docker:runsc"
    assert office.row("groups config update main --require none --runtime bubblewrap")["require"] == "none"
