"""An agent without a model, for tests: it answers each message with the message's own text, in order.

Words it obeys: `silent` ends the turn without text, `exit` ends the agent, `hang` never answers, `sleep: S` answers
after S seconds, `fail: WORDS` ends in a final error. What carries no `<message>` (a nudge) is answered with nothing.
Pushes that come while it sleeps are answered together with what it sleeps for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from nanoclaw.runner.answer import unescape
from nanoclaw.runner.providers.base import Aborted, Began, Event, Exited, Failure, Init, Result

MESSAGE = re.compile(r"<message [^>]*>(?:\n  <quoted_message .*?</quoted_message>\n)?(.*?)</message>", re.DOTALL)


class EchoProvider:
    """Answers with what it was told; its session id is the one it resumes, or `echo`."""

    covers = True
    commands = frozenset({"/echo"})

    def __init__(self, continuation: str | None) -> None:
        self._continuation = continuation or "echo"
        self._pushes: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()
        self._interrupted = asyncio.Event()

    async def start(self) -> None:
        """Nothing to make ready."""

    def push(self, prompt: str, uuid: str) -> None:
        """Queue one message."""
        self._pushes.put_nowait((said(prompt), uuid))

    async def events(self) -> AsyncIterator[Event]:
        """Answer what was pushed, in order, until closed or told to exit."""
        yield Init(self._continuation)
        while (item := await self._pushes.get()) is not None:
            text, uuid = item
            yield Began((uuid,))
            if text == "exit":
                break
            event = await self._answer(text, uuid)
            if event is None:
                break
            yield event
        yield Exited("the echo agent ended")

    def interrupt(self) -> None:
        """End a sleep."""
        self._interrupted.set()

    async def close(self, grace_seconds: float) -> None:
        """End the events."""
        self._interrupted.set()
        self._pushes.put_nowait(None)

    async def _answer(self, text: str, uuid: str) -> Event | None:
        word, _, rest = text.partition(":")
        if text == "hang":
            await self._interrupted.wait()
            return Aborted((uuid,))
        if word == "sleep":
            return await self._sleep(float(rest), text, uuid)
        if word == "fail":
            return Failure(rest.strip(), retryable=False, covers=(uuid,))
        return Result("" if text == "silent" else text, (uuid,))

    async def _sleep(self, seconds: float, text: str, uuid: str) -> Event:
        try:
            async with asyncio.timeout(seconds):
                await self._interrupted.wait()
            return Aborted((uuid,))
        except TimeoutError:
            texts, uuids = [text], [uuid]
        while not self._pushes.empty():
            item = self._pushes.get_nowait()
            if item is None:
                self._pushes.put_nowait(None)
                break
            texts.append(item[0])
            uuids.append(item[1])
        return Result("\n".join(texts), tuple(uuids))


def said(prompt: str) -> str:
    """The text of the last message in a prompt, empty when there is none; what follows its command `/echo`."""
    if prompt.startswith("/echo"):
        return prompt.removeprefix("/echo").strip()
    found = MESSAGE.findall(prompt)
    return unescape(found[-1]) if found else ""
