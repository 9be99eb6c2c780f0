"""What the tools do: send now, hand over a file, ask the host and wait for its answer.

In: calls of the agent's tools. Out: words for the agent.
Writes: outbound.db, through the loop; files below `outbox/`.
Never: waits for an answer without a time limit; sends what the host would take for a broken runner (too long a text).
Fails: ToolRefused, with words the agent can mend it by.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from typing import Protocol

from nanoclaw.contract.message import ChatOut, OutKind, ToolAnswer, answer_from_json, to_json
from nanoclaw.contract.request import AgentRequest
from nanoclaw.runner.mailbox import Destination, Draft, Inbound, Row
from nanoclaw.runner.prompt import agent_of
from nanoclaw.runner.tools import ToolRefused

POLL_SECONDS = 1.0  # behind the doorbell, as everywhere
HOST_SECONDS = 30.0  # what needs no person is answered at once
MOST_ARGUMENTS = 200_000  # characters; the host takes a little more (sandbox/wire.py)
FILE_BYTES = 20 * 1024 * 1024  # the host's limit (flow/files.py)
NAME_CHARACTERS = 128
TO_AGENT = " Its answer comes to you as a message of its own: end your turn if you only wait for it."


class Floor(Protocol):
    """What the desk needs of the loop."""

    def current_row(self) -> Row | None:
        """The row the agent works on, else the one it answered last."""
        ...

    def places(self) -> tuple[Destination, ...]:
        """Where the agent may send now."""
        ...

    def post(self, draft: Draft, *, said: bool) -> int:
        """Write a message now; `said`: it is an answer of the turn. Returns its seq."""
        ...


class TurnDesk:
    """The desk of a run. `rung` is called at each look."""

    def __init__(self, floor: Floor, inbound: Inbound, outbox: str, workspace: str, now: Callable[[], float]) -> None:
        self._floor = floor
        self._inbound = inbound
        self._outbox = outbox
        self._workspace = workspace
        self._now = now
        self._looked = asyncio.Event()

    def rung(self) -> None:
        """The host has written something: whoever waits looks."""
        self._looked.set()

    async def send_message(self, text: str, to: str | None) -> str:
        """Send one message now. Raises ToolRefused for an unknown destination."""
        place = self._find_place(to)
        self._send(ChatOut(text, to))
        return "Sent." + (TO_AGENT if place is not None and place.kind == "agent" else "")

    async def send_file(self, path: str, to: str | None, text: str, name: str | None) -> str:
        """Send a file to another agent. Raises ToolRefused when it cannot be read, is too large, or goes to a chat."""
        place, row = self._find_place(to), self._floor.current_row()
        if (place is None and (row is None or not agent_of(row))) or (place is not None and place.kind != "agent"):
            raise ToolRefused("Not sent: files can be sent to agents; sending them to chats comes later.")
        wanted = name or os.path.basename(path)
        if not is_file_name(wanted):
            shown = wanted[:NAME_CHARACTERS]
            raise ToolRefused(f"Not sent: {shown!r} is no name for a file: one plain name of at most 128 characters.")
        stored = self._put_out(os.path.join(self._workspace, path), wanted)
        self._send(ChatOut(text, to, files=(stored,)))
        return f"Sent as {stored}." + (TO_AGENT if place is not None else "")

    async def ask(self, action: str, arguments: dict[str, object], seconds: float = HOST_SECONDS) -> ToolAnswer:
        """Ask the host and wait. Raises ToolRefused when the request is too long or no answer comes in time."""
        written = json.dumps(arguments, ensure_ascii=False)
        if len(written) > MOST_ARGUMENTS:
            raise ToolRefused(f"Not asked: it is longer than {MOST_ARGUMENTS} characters.")
        row = self._floor.current_row()
        request = AgentRequest(action, written).to_json()
        seq = self._floor.post(Draft(OutKind.REQUEST, request, row.seq if row else None), said=False)
        deadline = self._now() + seconds
        while (answer := self._read_answer(seq)) is None:
            left = deadline - self._now()
            if left <= 0:
                raise ToolRefused(f"No answer came within {seconds:g} s. If one comes later, it comes as a message.")
            self._looked.clear()
            try:
                async with asyncio.timeout(min(POLL_SECONDS, left)):
                    await self._looked.wait()
            except TimeoutError:
                continue
        return answer

    def _read_answer(self, seq: int) -> ToolAnswer | None:
        try:
            content = self._inbound.read_answer(str(seq))
        except sqlite3.Error:
            return None  # busy: the next look
        return None if content is None else answer_from_json(content)

    def _find_place(self, to: str | None) -> Destination | None:
        if to is None:
            return None
        places = self._floor.places()
        found = next((place for place in places if place.name == to), None)
        row = self._floor.current_row()
        if found is None and not (row is not None and to == agent_of(row)):
            names = ", ".join(place.name for place in places) or "none"
            raise ToolRefused(f"Not sent: there is no destination {to!r}. Destinations: {names}.")
        return found

    def _send(self, chat: ChatOut) -> None:
        row = self._floor.current_row()
        if row is not None and chat.to is not None and chat.to == agent_of(row):
            chat = ChatOut(chat.text, files=chat.files)  # whoever asked may be answered, destination or not
        self._floor.post(Draft(OutKind.CHAT, to_json(chat), row.seq if row else None), said=True)

    def _put_out(self, source: str, wanted: str) -> str:
        """Copy a file into the outbox under a name that is free there; return the name."""
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ToolRefused(f"Not sent: {source} is not a plain file.")
                content = file.read(FILE_BYTES + 1)
            if len(content) > FILE_BYTES:
                raise ToolRefused(f"Not sent: {source} is larger than {FILE_BYTES // 1024 // 1024} MiB.")
            return self._write_new(wanted, content)
        except OSError as error:
            raise ToolRefused(f"Not sent: {source} cannot be read: {error.strerror}.") from None

    def _write_new(self, wanted: str, content: bytes) -> str:
        stem, dot, ending = wanted.rpartition(".")
        number = 1
        name = wanted
        while True:
            try:
                with open(os.path.join(self._outbox, name), "xb") as file:
                    file.write(content)
                return name
            except FileExistsError:
                number += 1
                name = f"{stem}-{number}.{ending}" if dot and stem else f"{wanted}-{number}"


def is_file_name(name: str) -> bool:
    """Whether the host would take a name: one plain component of a path, printable and not too long."""
    return 1 <= len(name) <= NAME_CHARACTERS and name.isprintable() and "/" not in name and name not in (".", "..")
