#!/usr/bin/env python3
"""A page as text, picture or PDF by the Chromium of this sandbox: `check`, `text URL`, `shot URL FILE`, `pdf URL FILE`.

Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 there is no browser here.
"""

from __future__ import annotations

import html.parser
import os
import shutil
import subprocess
import sys
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 60
NONE = (
    "There is no browser in this sandbox. Ask for one: install_packages(apt=['chromium'], reason='...'). "
    "Until then use WebFetch or curl."
)
SILENT = ("script", "style", "noscript", "template", "svg", "head")
BREAKS = ("p", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "table", "ul", "ol", "br")


class Text(html.parser.HTMLParser):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in SILENT
        if tag in BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.silent = max(0, self.silent - (tag in SILENT))
        if tag in BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data)


def text_of(page: str) -> str:
    """Return the readable text of a page, without empty lines."""
    reader = Text()
    reader.feed(page)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).splitlines())
    return "\n".join(line for line in lines if line)


def find_browser() -> str | None:
    """Return the Chromium there is."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def run(browser: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run Chromium once, with a profile of its own; the sandbox around us stands in for its own."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += [f"--user-data-dir={profile}", "--no-first-run", "--hide-scrollbars", "--timeout=30000", *options]
        proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
        if proxy:
            command.insert(1, f"--proxy-server={proxy}")
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def main(arguments: list[str]) -> int:
    """Do one thing; returns the exit code."""
    browser, driver = find_browser(), shutil.which("agent-browser")
    if arguments == ["check"]:
        print(f"agent-browser: {driver or 'not here'}\nChromium: {browser or 'not here'}")
        if browser is None and driver is None:
            print(NONE)
            return 3
        return 0
    verb, url, target = (*arguments, "", "", "")[:3]
    if (verb, len(arguments)) not in {("text", 2), ("shot", 3), ("pdf", 3)}:
        print(__doc__, file=sys.stderr)
        return 2
    if not url.startswith(("http://", "https://")):
        print("The address begins with http:// or https://.", file=sys.stderr)
        return 2
    if browser is None:
        print(NONE, file=sys.stderr)
        return 3
    options = {"text": ["--dump-dom"], "shot": [f"--screenshot={target}"], "pdf": [f"--print-to-pdf={target}"]}[verb]
    try:
        done = run(browser, *options, url)
    except subprocess.TimeoutExpired:
        print(f"The page did not finish within {SECONDS} s.", file=sys.stderr)
        return 1
    if done.returncode or (target and not os.path.exists(target)):
        print(done.stderr[-2000:] or "Chromium gave nothing.", file=sys.stderr)
        return 1
    print(text_of(done.stdout) if verb == "text" else target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
