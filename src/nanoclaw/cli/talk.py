"""`nanoclaw chat` without TEXT: a prompt with history and rendered Markdown, or plain lines when not on a terminal."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from nanoclaw.channels.plain_text import neutralise
from nanoclaw.channels.terminal_words import REPLAY, find_text_fault
from nanoclaw.cli.conversation import Conversation
from nanoclaw.cli.host_process import HostStarter
from nanoclaw.cli.question import REHEARSAL, REHEARSAL_OVER

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

ANSWER_SECONDS = 300.0
HELP = """\
Enter sends. Alt-Enter (or Esc, Enter) begins a new line. Up and down walk through what you said before.
Ctrl-C drops what you have begun to type.
/help      this page
/status    whether the assistant works, and on how much
/stop      ends what it works on
/clear     begins a new conversation; memory and files stay
/compact   makes the conversation shorter
/context   what the conversation holds
/cost      what it has cost
/quit      leave (Ctrl-D does too); the answer is here when you come back"""


def talk(starter: HostStarter, chat: str, history: Path) -> int:
    """Talk until the person leaves or stdin ends. Returns 0, or 1 when lines from a pipe were not all answered."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        return _talk_live(starter, chat, history)
    return _talk_plainly(starter, chat)


def write_text(text: str) -> None:
    """Write to stdout as UTF-8, whatever the locale says."""
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


class PlainScreen:
    """Deliveries on stdout, a blank line between; everything else on stderr."""

    def __init__(self) -> None:
        self._shown = 0
        self._rehearsal = False

    def welcome(self, assistant: str, rehearsal: bool) -> None:
        """Say when a stand-in answers, and when no longer."""
        if rehearsal is not self._rehearsal:
            self.note(REHEARSAL if rehearsal else REHEARSAL_OVER)
        self._rehearsal = rehearsal

    def delivery(self, text: str, *, notice: bool) -> None:
        """Print a delivery."""
        write_text(("\n" if self._shown else "") + neutralise(text) + "\n")
        self._shown += 1

    def note(self, text: str) -> None:
        """Print a note."""
        print(f"nanoclaw: {neutralise(text)}", file=sys.stderr, flush=True)

    def typing(self, active: bool) -> None:
        """Show nothing."""


def _talk_plainly(starter: HostStarter, chat: str) -> int:
    screen = PlainScreen()
    conversation = Conversation(starter, chat, screen, recent=0)
    conversation.open()
    bad = 0
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text.strip():
            continue
        if fault := find_text_fault(text):
            screen.note(fault)
            bad += 1
        else:
            conversation.say(text)
    answered = conversation.wait_settled(ANSWER_SECONDS)
    conversation.close()
    if not answered:
        screen.note(f"some messages have no answer after {ANSWER_SECONDS:g} s; they are kept")
    return 0 if answered and not bad and not conversation.failed else 1


class LiveScreen:
    """Above the prompt: rendered deliveries. Below it: who is there, and whether they are at work."""

    def __init__(self, chat: str) -> None:
        self._chat = chat
        self._assistant = "…"
        self._rehearsal = False
        self._busy = False
        self.refresh = lambda: None

    def welcome(self, assistant: str, rehearsal: bool) -> None:
        """Show who is there, and say it when that changes between the model and its stand-in."""
        if rehearsal is not self._rehearsal:
            self.note(REHEARSAL if rehearsal else REHEARSAL_OVER)
        self._assistant, self._rehearsal = neutralise(assistant), rehearsal
        self.refresh()

    def delivery(self, text: str, *, notice: bool) -> None:
        """Print a delivery, rendered."""
        if notice:
            self.note(text)
            return
        print(f"\x1b[1;36m{self._assistant}\x1b[0m\n{render_markdown(text, _columns())}", flush=True)

    def note(self, text: str) -> None:
        """Print a note, dim."""
        print(f"\x1b[2m{wrap_lines(neutralise(text), _columns())}\x1b[0m\n", flush=True)

    def typing(self, active: bool) -> None:
        """Show or hide the typing sign."""
        self._busy = active
        self.refresh()

    def toolbar(self) -> str:
        """Return the line below the prompt."""
        name = self._assistant
        sign = f"{name} is typing{'.' * (1 + int(time.monotonic() * 2.5) % 3)}" if self._busy else name
        parts = [sign, "" if self._chat == "local" else self._chat, "rehearsal" if self._rehearsal else "", "/help"]
        return "  ·  ".join(part for part in parts if part)


def _talk_live(starter: HostStarter, chat: str, history: Path) -> int:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.patch_stdout import patch_stdout

    screen = LiveScreen(chat)
    conversation = Conversation(starter, chat, screen, recent=REPLAY)
    _touch_private(history)
    session: PromptSession[str] = PromptSession(
        "> ",
        history=FileHistory(str(history)),
        multiline=True,
        key_bindings=_bindings(),
        bottom_toolbar=screen.toolbar,
        prompt_continuation="  ",
        refresh_interval=0.4,
    )
    screen.refresh = session.app.invalidate
    conversation.open()
    with patch_stdout(raw=True):
        while (text := _read_line(session)) is not None:
            _take_line(text, conversation, screen)
    if not conversation.wait_settled(0):
        screen.note("It goes on working; the answer is here when you are back.")
    conversation.close()
    return 0


def _read_line(session: PromptSession[str]) -> str | None:
    """Return what was typed, None when the person leaves; Ctrl-C drops a line that was begun, as in a shell."""
    try:
        text = session.prompt()
    except EOFError:
        return None
    except KeyboardInterrupt:
        return "" if session.default_buffer.text else None
    return None if text.strip() in ("/quit", "/exit") else text


def _take_line(text: str, conversation: Conversation, screen: LiveScreen) -> None:
    if text.strip() == "/help":
        screen.note(HELP)
    elif not (fault := find_text_fault(text)):
        conversation.say(text)
    elif text.strip():
        screen.note(fault)


def _bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    bindings = KeyBindings()

    @bindings.add("enter")
    def send(event: KeyPressEvent) -> None:
        if event.current_buffer.text.strip():
            event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def break_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def render_markdown(text: str, columns: int) -> str:
    """Return Markdown of an agent with our own colours and nothing else that a terminal obeys.

    A line break is one, as in a chat. Checked after rendering too: an entity such as `&#13;` becomes a control
    character only there. Links show their address, so that what is read is where it leads.
    """
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.segment import Segment, Segments

    console = Console(file=StringIO(), force_terminal=True, width=columns, color_system="standard", highlight=False)
    markdown = Markdown(neutralise(text), hyperlinks=False)
    for part in (inline for token in markdown.parsed for inline in token.children or ()):
        part.type = "hardbreak" if part.type == "softbreak" else part.type
    rendered = console.render(markdown)
    safe = [Segment(neutralise(part.text), part.style) for part in rendered if not part.control]
    with console.capture() as capture:
        console.print(Segments(safe), end="")
    return capture.get()


def wrap_lines(text: str, columns: int) -> str:
    """Return plain text with its lines broken between words; a word that is wider than a line is left whole."""
    wrapped = (
        textwrap.wrap(line, columns, break_long_words=False, break_on_hyphens=False) for line in text.split("\n")
    )
    return "\n".join("\n".join(lines) for lines in wrapped)


def _columns() -> int:
    try:
        return max(20, os.get_terminal_size().columns)
    except OSError:
        return 80


def _touch_private(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
