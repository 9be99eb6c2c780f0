"""Container skills: what a group's agent may look up how to do, copied to where its program finds it.

In: the skills that come with the product (image/skills) and the operator's own (`skills/` of the home); a group's
choice.
Out: `compose/<folder>/.claude/skills/<name>/`, in the box `/etc/claude-code/.claude/skills`, read-only: the one place
from which the Claude CLI (2.1.329, run) takes skills while `--setting-sources=` keeps it from those of workspace and
home.
Writes: that folder alone.
Never: follows a link in a skill; gives a box a skill that is not whole; lets a skill of the operator's that is damaged
stop a box.
Fails: OSError when the copy cannot be written, which ends the start of the run and is told in the chat.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nanoclaw
from nanoclaw.errors import Refused

SKILL_FILE = "SKILL.md"
MOST_SKILLS = 200
MOST_FILES = 200
MOST_FILE_BYTES = 2 * 1024 * 1024
MOST_DEPTH = 4
MOST_HEAD = 64 * 1024
MOST_DESCRIPTION = 1_024
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)  # as the CLI's own: the name of its folder
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +-]{0,199}", re.ASCII)
_FIELD = re.compile(r"([a-z-]+):\s*(.*)")


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill; `fault` says why it is not used, '' when it is. `files` are below `source`, as they are copied."""

    name: str
    source: Path
    own: bool  # the operator's, not the product's
    description: str = ""
    fault: str = ""
    files: tuple[tuple[str, int, int, bool], ...] = ()  # path, size, mtime in nanoseconds, executable


class SkillShelf:
    """The skills there are. Blocks: called from a thread."""

    def __init__(self, shipped: Path, own: Path) -> None:
        self._folders = ((shipped, False), (own, True))

    def list(self) -> list[Skill]:
        """Return every skill by name, those that cannot be used too; one of the operator's takes the place of ours."""
        found: dict[str, Skill] = {}
        for folder, own in self._folders:
            for name in _names(folder):
                found[name] = read_skill(folder / name, own=own)
        return [found[name] for name in sorted(found)][:MOST_SKILLS]

    def compose(self, compose: Path, wanted: tuple[str, ...] | None) -> list[Skill]:
        """Make a group's folder hold the skills it is to have (None: all) and no others; return those left out."""
        place = compose / ".claude" / "skills"
        _make_folders(compose, ".claude/skills")
        skills = [skill for skill in self.list() if wanted is None or skill.name in wanted]
        usable = {skill.name: skill for skill in skills if not skill.fault}
        for name in sorted(set(os.listdir(place)) - usable.keys()):
            _remove(place / name)
        for skill in usable.values():
            if _contents(place / skill.name) != skill.files:
                _copy(skill, place / skill.name)
        return [skill for skill in skills if skill.fault]


def make_shelf(home: Path) -> SkillShelf:
    """Return the shelf of a home: ours lie beside a clone's `src`, or in an installed package."""
    package = Path(nanoclaw.__file__).resolve().parent
    installed = package / "image" / "skills"
    return SkillShelf(installed if installed.is_dir() else package.parents[1] / "image" / "skills", home / "skills")


def read_skill(folder: Path, *, own: bool) -> Skill:
    """Read one skill's folder; whatever is wrong with it is its `fault`."""
    try:
        files = tuple(sorted(_walk(folder, "", 0)))
        if len(files) > MOST_FILES:
            raise Refused(f"it has more than {MOST_FILES} files")
        return Skill(folder.name, folder, own, _read_head(folder), "", files)
    except Refused as error:
        return Skill(folder.name, folder, own, fault=error.reason)
    except (OSError, UnicodeError) as error:
        return Skill(folder.name, folder, own, fault=f"it cannot be read: {type(error).__name__}")


def check_skill_name(name: str) -> None:
    """Check what a skill may be called. Raises Refused."""
    if not _NAME.fullmatch(name):
        raise Refused("A skill's name has a-z, 0-9 and -, at most 64.")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name) and (folder / name).is_dir())
    except OSError:
        return []


def _walk(folder: Path, below: str, depth: int) -> Iterator[tuple[str, int, int, bool]]:
    if depth > MOST_DEPTH:
        raise Refused(f"folders lie more than {MOST_DEPTH} deep")
    if folder.is_symlink():
        raise Refused(f"{below or 'its folder'} is a link; nothing that a link leads to is given to a box")
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.name == "__pycache__":
                continue
            if not _FILE.fullmatch(entry.name):
                raise Refused(f"the name of a file or folder is not plain: {entry.name[:80]!r}")
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, f"{path}/", depth + 1)
                continue
            facts = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(facts.st_mode):
                raise Refused(f"{path} is a link or no file; nothing that a link leads to is given to a box")
            if facts.st_size > MOST_FILE_BYTES:
                raise Refused(f"{path} is larger than {MOST_FILE_BYTES // 1024 // 1024} MiB")
            yield path, facts.st_size, facts.st_mtime_ns, bool(facts.st_mode & stat.S_IXUSR)


def _read_head(folder: Path) -> str:
    """Return the description in a skill's frontmatter, of which only plain `key: value` lines are read."""
    path = folder / SKILL_FILE
    if not path.is_file():
        raise Refused(f"it has no {SKILL_FILE}")
    lines = _read(path, MOST_HEAD).decode("utf-8").splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in lines[1:]:
        raise Refused(f"{SKILL_FILE} does not begin with a frontmatter between two lines of ---")
    head = lines[1 : lines.index("---", 1)]
    fields = {found[1]: found[2] for line in head if (found := _FIELD.fullmatch(line))}
    if fields.get("name") != folder.name:
        raise Refused(f"the name in {SKILL_FILE} is not that of its folder")
    given = fields.get("description", "").strip()
    is_quoted = len(given) > 1 and given[0] == given[-1] and given[0] in "\"'"
    description = given[1:-1] if is_quoted else given
    if not is_quoted and (": " in given or " #" in given):  # the agent's program reads it as YAML
        raise Refused(f"the description in {SKILL_FILE} stands in quotes when it has a colon or # in it")
    if not 1 <= len(description) <= MOST_DESCRIPTION or not description.isprintable() or description[0] in "|>&*![{":
        raise Refused(f"{SKILL_FILE} needs a description of 1 to {MOST_DESCRIPTION} characters on one line")
    return description


def _contents(folder: Path) -> tuple[tuple[str, int, int, bool], ...]:
    try:
        return tuple(sorted(_walk(folder, "", 0)))
    except (OSError, Refused):
        return ()


def _copy(skill: Skill, target: Path) -> None:
    """Make the target a copy; complete beside it, then put in its place: a box never sees half of one."""
    draft = target.parents[1] / f".{skill.name}.new"
    _remove(draft)
    _make_folders(draft.parent, draft.name)
    for path, size, changed, executable in skill.files:
        place = draft / path
        _make_folders(draft, path.rpartition("/")[0])
        place.write_bytes(_read(skill.source / path, max(size, 1)))
        place.chmod(0o755 if executable else 0o644)
        os.utime(place, ns=(changed, changed))
    _remove(target)
    draft.rename(target)


def _make_folders(top: Path, below: str) -> None:
    """Make folders that a box may read, whatever the host's umask is."""
    for part in below.split("/") if below else ():
        top = top / part
        top.mkdir(exist_ok=True)
        top.chmod(0o755)


def _read(path: Path, most: int) -> bytes:
    """Return a file's first bytes; a link is not followed, a named pipe not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(f"{path.name} is no file")
        return file.read(most)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
