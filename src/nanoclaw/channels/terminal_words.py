"""What a terminal client and the terminal channel say to each other: JSON lines on a unix socket.

The client says `hello` (which chat, what it has seen) and `say`; the channel answers `welcome`, `accepted`, `told`
or `refused`, and then `delivery`, `settled` and `typing` as things happen. A line that is not one of these is
answered by `refused`, and the connection stays up. `order` grows with every delivery of a home, over all its chats.
"""

from __future__ import annotations

import msgspec

TEXT_BYTES = 256 * 1024  # of one message
LINE_BYTES = 2 * 1024 * 1024  # a longer line closes the connection: where the next one begins is not known
ID_CHARACTERS = 128
CHAT_CHARACTERS = 64
REPLAY = 20  # deliveries shown to a client that has seen none
MOST_REPLAY = 200
DEFAULT_CHAT = "local"


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """Client: show me `chat` from after delivery `after` on; None: its last `recent` deliveries first."""

    chat: str = DEFAULT_CHAT
    after: int | None = None
    recent: int = REPLAY


class Say(msgspec.Struct, frozen=True, tag_field="type", tag="say"):
    """Client: a message. `client_id` is unique; said again after a reconnect it is accepted once."""

    client_id: str
    text: str


class Welcome(msgspec.Struct, frozen=True, tag_field="type", tag="welcome"):
    """Channel: the answer to hello; what follows has an `order` above `cursor`. Said again when `rehearsal` changes."""

    assistant: str
    rehearsal: bool
    cursor: int


class Accepted(msgspec.Struct, frozen=True, tag_field="type", tag="accepted"):
    """Channel: the message is in the store; `message` is its id."""

    client_id: str
    message: str


class Told(msgspec.Struct, frozen=True, tag_field="type", tag="told"):
    """Channel: the message was no message for the agent, it answered a question of the host; `words` answer it."""

    client_id: str
    words: str


class Refused(msgspec.Struct, frozen=True, tag_field="type", tag="refused"):
    """Channel: the message (or the line, when `client_id` is empty) was not taken, for this reason."""

    client_id: str
    reason: str


class Delivery(msgspec.Struct, frozen=True, tag_field="type", tag="delivery"):
    """Channel: somebody answered. `answers` are the messages it answers, `notice` marks the host's own words."""

    id: str
    order: int
    reply_to: str | None
    answers: tuple[str, ...]
    text: str
    notice: bool


class Settled(msgspec.Struct, frozen=True, tag_field="type", tag="settled"):
    """Channel: the message has ended, every delivery of it was shown before. replied, silent, refused or failed."""

    message: str
    outcome: str


class Typing(msgspec.Struct, frozen=True, tag_field="type", tag="typing"):
    """Channel: the agent is at work, or no longer."""

    active: bool


ClientWord = Hello | Say
ServerWord = Welcome | Accepted | Told | Refused | Delivery | Settled | Typing


class _Named(msgspec.Struct):
    client_id: str = ""


class WordError(ValueError):
    """A line that is not a word of this protocol; `client_id` of the message it was, when it can be told."""

    def __init__(self, reason: str, client_id: str = "") -> None:
        super().__init__(reason)
        self.client_id = client_id


def encode_word(word: ClientWord | ServerWord) -> bytes:
    """Return the line of a word, its newline included."""
    return msgspec.json.encode(word) + b"\n"


def parse_client_word(line: bytes) -> ClientWord:
    """Parse and check a client's line. Raises WordError with a plain sentence."""
    try:
        word = msgspec.json.decode(line, type=ClientWord)
    except UnicodeDecodeError:
        raise WordError("The message is not valid UTF-8 text.", _find_client_id(line)) from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise WordError(f"That is not a line of the terminal protocol: {error}.", _find_client_id(line)) from None
    return _check_hello(word) if isinstance(word, Hello) else _check_say(word)


def parse_server_word(line: bytes) -> ServerWord:
    """Parse a line of the channel. Raises WordError: the other side is not this version's."""
    try:
        return msgspec.json.decode(line, type=ServerWord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WordError(f"the host said something this version does not know ({error})") from None


def _check_hello(word: Hello) -> Hello:
    if not is_chat_name(word.chat):
        raise WordError(f"A chat's name is 1 to {CHAT_CHARACTERS} printable characters.")
    if (word.after is not None and not 0 <= word.after < 1 << 62) or not 0 <= word.recent <= MOST_REPLAY:
        raise WordError(f"`after` counts from 0, and `recent` is at most {MOST_REPLAY}.")
    return word


def _check_say(word: Say) -> Say:
    if not 1 <= len(word.client_id) <= ID_CHARACTERS or not word.client_id.isprintable():
        raise WordError(f"`client_id` is 1 to {ID_CHARACTERS} printable characters.")
    reason = find_text_fault(word.text)
    if reason:
        raise WordError(reason, word.client_id)
    return word


def find_text_fault(text: str) -> str:
    """Return why a message cannot be taken, in a plain sentence; '' when it can."""
    if not text.strip():
        return "The message is empty."
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TEXT_BYTES:
        return f"The message is too long: {size // 1024} KiB, and at most {TEXT_BYTES // 1024} KiB fit in one."
    if "\0" in text:
        return "The message holds a NUL character; it looks like a binary file. Send text."
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "The message is not valid UTF-8 text."
    return ""


def is_chat_name(name: str) -> bool:
    """Return whether a chat may have this name."""
    return 1 <= len(name) <= CHAT_CHARACTERS and name.isprintable() and name == name.strip()


def _find_client_id(line: bytes) -> str:
    """Return whose message a broken line was, when that can still be read."""
    try:
        found = msgspec.json.decode(line.decode("utf-8", "replace"), type=_Named).client_id
    except (msgspec.MsgspecError, RecursionError):
        return ""
    return found if len(found) <= ID_CHARACTERS and found.isprintable() else ""
