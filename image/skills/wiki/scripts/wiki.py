#!/usr/bin/env python3
"""Looks after a knowledge base of Markdown pages: `init DIR`, `index DIR`, `lint DIR`, `find DIR WORDS...`.

Exit codes: 0 done and nothing to mend, 1 there is something to mend, 2 wrong usage.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("person", "organisation", "project", "place", "topic", "decision", "howto")
LINK = re.compile(r"\[\[([^\[\]|#]+)(?:#[^\[\]|]*)?(?:\|[^\[\]]*)?\]\]")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
STALE_DAYS = 183
MOST_BYTES = 1024 * 1024
SHOWN = 20


@dataclass
class Page:
    """One page as it lies there."""

    name: str
    head: dict[str, str] = field(default_factory=dict)
    body: str = ""
    fault: str = ""

    @property
    def title(self) -> str:
        return self.head.get("title") or self.name

    @property
    def links(self) -> list[str]:
        return [link.strip() for link in LINK.findall(CODE.sub("", self.body))]

    @property
    def sources(self) -> list[str]:
        return [part for item in self.head.get("sources", "").strip("[]").split(",") if (part := item.strip(" \"'"))]


def read_page(path: Path) -> Page:
    """Read a page; what is wrong with it is its fault."""
    page = Page(path.stem)
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES:
        page.fault = "is no plain file of at most 1 MiB"
        return page
    text = path.read_text(encoding="utf-8", errors="replace")
    page.body = text
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in [line.strip() for line in lines[1:]]:
        page.fault = "has no head between two lines of ---"
        return page
    end = [line.strip() for line in lines].index("---", 1)
    for line in lines[1:end]:
        key, colon, value = line.partition(":")
        if colon:
            page.head[key.strip()] = value.strip()
    page.body = "\n".join(lines[end + 1 :])
    return page


def read_pages(wiki: Path) -> dict[str, Page]:
    """Return the pages by name."""
    return {path.stem: read_page(path) for path in sorted((wiki / "pages").glob("*.md"))}


def first_sentence(page: Page) -> str:
    """Return the first line of text of a page."""
    lines = (line.strip() for line in page.body.splitlines())
    return next((line for line in lines if line and not line.startswith(("#", "-", "|", ">", "`"))), "")[:120]


def init(wiki: Path) -> int:
    """Make an empty knowledge base; what is there is left as it is."""
    for folder in ("pages", "sources", "archive"):
        (wiki / folder).mkdir(parents=True, exist_ok=True)
    log = wiki / "log.md"
    if not log.exists():
        log.write_text("# Log\n\n", encoding="utf-8")
    return index(wiki)


def index(wiki: Path) -> int:
    """Write index.md anew, whole."""
    pages = read_pages(wiki)
    lines = ["# Index", "", f"{len(pages)} pages. Made by `wiki.py index`: do not edit."]
    kinds = sorted({page.head.get("kind", "") for page in pages.values()}, key=lambda kind: (kind not in KINDS, kind))
    for kind in kinds:
        lines += ["", f"## {kind or 'without a kind'}", ""]
        of_kind = (page for page in pages.values() if page.head.get("kind", "") == kind)
        for page in sorted(of_kind, key=lambda page: page.title.lower()):
            said = first_sentence(page)
            lines.append(f"- [[{page.name}]] {page.title}" + (f": {said}" if said else ""))
    draft = wiki / ".index.new"
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(draft, wiki / "index.md")
    print(f"{len(pages)} pages in {wiki / 'index.md'}")
    return 0


def faults_of(page: Page, pages: dict[str, Page], sources: set[str], today: datetime.date) -> list[str]:
    """Return what is to be mended in one page."""
    where = f"pages/{page.name}.md"
    if page.fault:
        return [f"{where} {page.fault}"]
    found: list[str] = []
    if not NAME.fullmatch(page.name):
        found.append(f"{where}: a page's name has small letters, digits and dashes")
    if not page.head.get("title"):
        found.append(f"{where} has no title")
    if page.head.get("kind") not in KINDS:
        found.append(f"{where}: kind is one of {', '.join(KINDS)}")
    try:
        updated = datetime.date.fromisoformat(page.head.get("updated", ""))
        if (today - updated).days > STALE_DAYS:
            found.append(f"{where} was last touched on {updated}: is it still true?")
    except ValueError:
        found.append(f"{where}: updated is a date such as 2026-05-12")
    found += [f"{where} links to [[{link}]], which is not there" for link in page.links if link not in pages]
    found += [f"{where} names the source {name}, which is not there" for name in page.sources if name not in sources]
    return found


def lint(wiki: Path) -> int:
    """Say what is to be mended."""
    pages = read_pages(wiki)
    sources = {path.name for path in (wiki / "sources").glob("*") if path.is_file()}
    today = datetime.date.today()
    found = [fault for page in pages.values() for fault in faults_of(page, pages, sources, today)]
    linked = {link for page in pages.values() for link in page.links if link != page.name}
    if len(pages) > 1:
        found += [f"pages/{name}.md: no page links to it" for name in pages if name not in linked]
    named = {name for page in pages.values() for name in page.sources}
    found += [f"sources/{name}: no page names it" for name in sorted(sources - named)]
    listed = (wiki / "index.md").read_text(encoding="utf-8") if (wiki / "index.md").is_file() else ""
    if any(f"[[{name}]]" not in listed for name in pages):
        found.append("index.md is old: run `wiki.py index`")
    print("\n".join(found) or f"{len(pages)} pages, nothing to mend")
    return 1 if found else 0


def find(wiki: Path, words: list[str]) -> int:
    """Print the pages that hold the words, those with most of them first."""
    wanted = [word.casefold() for word in words]
    scores: list[tuple[int, int, str, Page]] = []
    for page in read_pages(wiki).values():
        title, body = f"{page.name} {page.title}".casefold(), page.body.casefold()
        held = sum(word in title or word in body for word in wanted)
        if held:
            weight = sum(5 * title.count(word) + body.count(word) for word in wanted)
            scores.append((-held, -weight, page.name, page))
    for _, _, _, page in sorted(scores, key=lambda score: score[:3])[:SHOWN]:
        print(f"pages/{page.name}.md  {page.title}: {first_sentence(page)}")
    if not scores:
        print("No page holds any of these words.")
    return 0 if scores else 1


def main(arguments: list[str]) -> int:
    """Do one thing; returns the exit code."""
    verb, folder, *words = (*arguments, "", "")[: max(2, len(arguments))]
    known = {"init": init, "index": index, "lint": lint}
    if not folder or (verb not in known and verb != "find") or (verb == "find") != bool(words):
        print(__doc__, file=sys.stderr)
        return 2
    wiki = Path(folder)
    if verb != "init" and not (wiki / "pages").is_dir():
        print(f"There is no knowledge base in {wiki}: make one with `wiki.py init {wiki}`.", file=sys.stderr)
        return 2
    return find(wiki, words) if verb == "find" else known[verb](wiki)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
