"""The scripts of the container skills, run as an agent runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT

SKILLS = ROOT / "image" / "skills"
PAGE = "---\ntitle: {title}\nkind: topic\nupdated: 2999-01-01\nsources: [{sources}]\n---\n\n{body}\n"


def run(script: str, *arguments: object, path: str = "/usr/bin:/bin") -> tuple[int, str]:
    """Exit code and what was printed; isolated, as nothing but the standard library may be needed."""
    command = [sys.executable, "-I", "-S", str(SKILLS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env={"PATH": path})
    return done.returncode, done.stdout + done.stderr


def wiki(*arguments: object) -> tuple[int, str]:
    return run("wiki/scripts/wiki.py", *arguments)


def page(place: Path, name: str, body: str, *, title: str = "", sources: str = "") -> None:
    text = PAGE.format(title=title or name, body=body, sources=sources)
    (place / "pages" / f"{name}.md").write_text(text)


def test_a_wiki_is_begun_written_indexed_searched_and_found_in_order(tmp_path: Path) -> None:
    place = tmp_path / "wiki"
    assert wiki("init", place)[0] == 0
    (place / "sources" / "offer.pdf").write_bytes(b"x")
    page(place, "roof", "The roof gets panels. See [[acme|the firm]].", title="Roof", sources="offer.pdf")
    page(place, "acme", "A firm. See [[roof#offer]]; `[[not-a-link]]`.", title="Acme")
    assert wiki("lint", place) == (1, "index.md is old: run `wiki.py index`\n")
    assert wiki("index", place)[0] == 0
    assert "## topic\n\n- [[acme]] Acme: A firm." in (place / "index.md").read_text()
    assert wiki("lint", place) == (0, "2 pages, nothing to mend\n")
    code, said = wiki("find", place, "panels", "roof")
    assert code == 0 and said.splitlines()[0].startswith("pages/roof.md")
    assert wiki("find", place, "zebra") == (1, "No page holds any of these words.\n")
    (place / "log.md").write_text("kept")
    assert wiki("init", place)[0] == 0 and (place / "log.md").read_text() == "kept"


def test_lint_names_what_is_to_be_mended(tmp_path: Path) -> None:
    wiki("init", tmp_path)
    page(tmp_path, "a", "[[b]] [[nowhere]]", sources="gone.pdf")
    page(tmp_path, "b", "[[a]]")
    page(tmp_path, "lonely", "Nobody knows me.")
    (tmp_path / "pages" / "Bad Name.md").write_text(PAGE.format(title="x", body="", sources="").replace("2999", "2001"))
    (tmp_path / "pages" / "bare.md").write_text("no head")
    (tmp_path / "pages" / "shadow.md").symlink_to("/etc/shadow")
    (tmp_path / "sources" / "unread.txt").write_text("x")
    code, said = wiki("lint", tmp_path)
    assert code == 1
    for words in (
        "pages/a.md links to [[nowhere]]", "pages/a.md names the source gone.pdf", "pages/lonely.md: no page links",
        "pages/Bad Name.md: a page's name", "pages/Bad Name.md was last touched on 2001-01-01", "bare.md has no head",
        "pages/shadow.md is no plain file", "sources/unread.txt: no page names it", "index.md is old",
    ):  # fmt: skip
        assert words in said, f"{words!r} is not in:\n{said}"


def test_wrong_use_is_said(tmp_path: Path) -> None:
    assert wiki()[0] == wiki("lint")[0] == wiki("find", tmp_path)[0] == wiki("burn", tmp_path)[0] == 2
    code, said = wiki("lint", tmp_path)
    assert code == 2 and "make one with `wiki.py init" in said


def test_without_a_browser_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    script = "browser/scripts/browser.py"
    code, said = run(script, "check", path=str(tmp_path))
    assert code == 3 and "install_packages(apt=['chromium']" in said
    assert run(script, "text", "https://example.org", path=str(tmp_path))[0] == 3
    assert run(script, "text", "file:///etc/passwd", path=str(tmp_path))[0] == 2
    assert run(script, "shot", "https://example.org", path=str(tmp_path))[0] == 2


def test_a_page_is_read_as_text_and_its_scripts_are_not(tmp_path: Path) -> None:
    """The browser here is a stand-in that prints a page, as Chromium's --dump-dom does."""
    html = "<html><head><title>x</title></head><body><h1>Hello</h1><script>no()</script><p>wide  world<br>two</body>"
    (tmp_path / "page.html").write_text(html)
    chromium = tmp_path / "chromium"
    chromium.write_text(f"#!/bin/sh\ncat {tmp_path}/page.html\n")
    chromium.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    assert run("browser/scripts/browser.py", "text", "https://example.org", path=path) == (
        0,
        "Hello\nwide world\ntwo\n",
    )
    code, said = run("browser/scripts/browser.py", "shot", "https://example.org", tmp_path / "a.png", path=path)
    assert code == 1 and "Chromium gave nothing" in said
