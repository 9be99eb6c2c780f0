"""Which folders a sandbox may be given: what leads elsewhere, is NanoClaw's or the machine's is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanoclaw.domain.group import ExtraMount
from nanoclaw.sandbox.allowlist import AllowlistFile
from nanoclaw.sandbox.folders import Allowed, Folders, Forbidden, OpenFolders, decide_name


class Place:
    """A machine's folders below a temporary one: `root` is allowed, `home` is NanoClaw's."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root, self.home, self.file = base / "srv", base / "nanoclaw", base / "mounts.toml"
        for folder in (self.root / "docs", self.home / "groups" / "other", base / "elsewhere"):
            folder.mkdir(parents=True)
        self.allow(writable=False)
        self.folders = Folders(AllowlistFile(self.file), (self.home,))

    def allow(self, *, writable: bool, path: Path | None = None) -> None:
        flag = "true" if writable else "false"
        self.file.write_text(f"[[root]]\npath = '{path or self.root}'\nread_write = {flag}\n")

    def judge(self, path: Path | str, *, write: bool = False) -> Allowed | Forbidden:
        verdict = self.folders.judge(str(path), write=write)
        if isinstance(verdict, Allowed):
            verdict.pin.close()
        return verdict

    def refusal(self, path: Path | str) -> str:
        verdict = self.judge(path)
        assert isinstance(verdict, Forbidden), verdict
        return verdict.reason


@pytest.fixture
def place(disk_path: Path) -> Place:
    return Place(disk_path.resolve())


def test_a_folder_below_a_root_is_allowed_and_the_root_itself(place: Place) -> None:
    for path in (place.root, place.root / "docs"):
        verdict = place.judge(path)
        assert isinstance(verdict, Allowed) and verdict.pin.real == path and not verdict.writable


def test_read_write_needs_the_roots_word_and_the_request(place: Place) -> None:
    def writable(write: bool) -> bool:
        verdict = place.judge(place.root / "docs", write=write)
        assert isinstance(verdict, Allowed)
        return verdict.writable

    assert not writable(True)
    place.allow(writable=True)
    assert writable(True) and not writable(False)


def test_a_link_is_judged_by_where_it_leads(place: Place) -> None:
    (place.root / "out").symlink_to(place.base / "elsewhere")
    (place.root / "etc").symlink_to("/etc")
    (place.root / "shadow").symlink_to("/etc/shadow")
    (place.root / "vault").symlink_to(place.home)
    (place.root / "in").symlink_to(place.root / "docs")
    (place.root / "loop").symlink_to(place.root / "loop")
    assert [place.refusal(place.root / name) for name in ("out", "etc", "shadow", "vault", "loop")] == [
        "root", "never", "missing", "never", "missing",
    ]  # fmt: skip
    assert isinstance(place.judge(place.root / "in"), Allowed)


def test_a_magic_link_is_not_followed(place: Place) -> None:
    assert place.refusal("/proc/self/cwd") == "missing"
    assert place.refusal("/proc/self/root") == "missing"


def test_a_blocked_word_counts_as_asked_and_where_it_leads(place: Place) -> None:
    for name in (".ssh", "my.Env", "Credentials"):
        (place.root / name).mkdir()
        assert place.refusal(place.root / name) == "blocked"
    (place.root / "nice").symlink_to(place.root / ".ssh")
    (place.root / ".aws").symlink_to(place.root / "docs")
    assert [place.refusal(place.root / name) for name in ("nice", ".aws")] == ["blocked", "blocked"]


def test_the_root_of_the_machine_its_system_folders_and_peoples_homes_are_never_given(place: Place) -> None:
    place.allow(writable=True, path=Path("/"))
    for path in ("/", "/etc", "/etc/apt", "/proc", "/sys", "/dev", "/dev/shm", "/run", "/home", Path.home()):
        if Path(path).is_dir():
            assert place.refusal(path) == "never", path


def test_nanoclaws_home_what_is_in_it_and_what_holds_it_are_never_given(place: Place) -> None:
    place.allow(writable=True, path=Path("/"))
    for path in (place.home, place.home / "groups" / "other", place.base):
        assert place.refusal(path) == "never"
    assert isinstance(place.judge(place.base / "elsewhere"), Allowed)


def test_a_path_that_is_relative_long_broken_or_no_folder_is_refused(place: Place) -> None:
    (place.root / "file").write_text("x")
    os.mkfifo(place.root / "fifo")
    for path in ("", "docs", f"{place.root}/../srv", f"{place.root}/a\nb", "/" + "x" * 4_000, "/a\0b"):
        assert place.refusal(path) == "path"
    for name in ("file", "fifo", "gone"):
        assert place.refusal(place.root / name) == "missing"
    broken = place.root / "new\nline"
    broken.mkdir()
    (place.root / "plain").symlink_to(broken)
    assert place.refusal(place.root / "plain") == "path"


def test_a_root_that_is_not_there_allows_nothing_and_no_file_or_a_broken_one_neither(place: Place) -> None:
    place.allow(writable=False, path=place.base / "gone")
    assert place.refusal(place.root) == "root"
    place.file.write_text("[[root]\n")
    assert place.refusal(place.root) == "allowlist"
    place.file.unlink()
    verdict = place.judge(place.root)
    assert isinstance(verdict, Forbidden) and verdict.mend.endswith(f"mounts allow {place.root}")


def test_a_sibling_whose_name_begins_alike_is_not_below_a_root(place: Place) -> None:
    (place.base / "srv2").mkdir()
    assert place.refusal(place.base / "srv2") == "root"


def test_the_folder_that_was_judged_is_held_when_its_path_leads_elsewhere(place: Place) -> None:
    verdict = place.folders.judge(str(place.root / "docs"), write=False)
    assert isinstance(verdict, Allowed)
    (place.root / "docs").rename(place.root / "moved")
    (place.root / "docs").symlink_to("/etc")
    assert os.path.samestat(os.fstat(verdict.pin.descriptor), os.stat(place.root / "moved"))
    verdict.pin.close()


def test_names_in_the_box_come_from_the_path_and_are_plain() -> None:
    assert decide_name(ExtraMount("/srv/My Documents")) == "my-documents"
    assert decide_name(ExtraMount("/srv/x", name="notes.2026")) == "notes.2026"
    for mount in (ExtraMount("/srv/x", name="../x"), ExtraMount("/srv/ü"), ExtraMount("/srv/x", name="x" * 65)):
        assert decide_name(mount) == ""


def test_folders_of_a_start_are_opened_or_left_out_and_every_descriptor_is_closed(place: Place) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (place.root / "b").mkdir()
    (place.root / "b" / "docs").mkdir()
    wanted = [ExtraMount(str(path)) for path in (place.root / "docs", place.root / "b" / "docs", place.base / "gone")]
    opened = OpenFolders(place.folders, wanted)
    opened.open()
    assert [(mount.source, mount.target) for mount in opened.mounts] == [(place.root / "docs", "/extra/docs")]
    assert [left.why.reason for left in opened.left_out] == ["name", "missing"]
    opened.close()
    opened.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_start_that_was_given_up_meanwhile_keeps_no_descriptor(place: Place) -> None:
    before = len(os.listdir("/proc/self/fd"))
    opened = OpenFolders(place.folders, [ExtraMount(str(place.root / "docs"))])
    opened.close()
    opened.open()
    assert opened.mounts == () and len(os.listdir("/proc/self/fd")) == before


JUDGE = """
import sys
from pathlib import Path
from nanoclaw.sandbox.allowlist import AllowlistFile
from nanoclaw.sandbox.folders import Folders
file, asked, *own = sys.argv[1:]
verdict = Folders(AllowlistFile(Path(file)), [Path(path) for path in own]).judge(asked, write=False)
print(getattr(verdict, "reason", "allowed"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a /home of its own: sudo ./nanoclaw.sh test")
def test_homes_that_may_not_be_listed_forbid_nothing_else(place: Place) -> None:
    before = (
        "mount -t tmpfs -o mode=711,uid=1 none /home && "
        'exec setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-all "$@"'
    )
    argv = ["unshare", "-m", "sh", "-c", before, "sh", sys.executable, "-c", JUDGE]
    ran = subprocess.run([*argv, str(place.file), str(place.root)], capture_output=True, text=True, check=False)
    assert ran.stdout == "allowed\n", ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount: sudo ./nanoclaw.sh test")
def test_nanoclaws_home_is_never_given_by_another_path_where_it_is_mounted_too(place: Place) -> None:
    (place.root / "copy").mkdir()
    before = f'mount --bind {place.home} {place.root / "copy"} && exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", before, "sh", sys.executable, "-c", JUDGE, str(place.file)]
    asked = [str(place.root / "copy"), str(place.home)]
    ran = subprocess.run([*argv, *asked], capture_output=True, text=True, check=False)
    assert ran.stdout == "never\n", ran.stderr
