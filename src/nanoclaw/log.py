"""One event a line: `turn.finished session=... attempt=2 took_ms=...`, to stderr, where the host's log file reads it.

Events are `noun.past_verb`, listed in docs/reference/events.md. Bodies of messages are never above debug.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import TextIO, cast

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Log:
    """The host's log, passed in where it is needed; `bind` names what a line is about."""

    def __init__(self, logger: structlog.typing.FilteringBoundLogger) -> None:
        self._logger = logger

    def bind(self, **about: str | int) -> Log:
        """Return a log whose every line carries these fields."""
        return Log(self._logger.bind(**about))

    def debug(self, event: str, **fields: object) -> None:
        """Write for whoever debugs this program."""
        self._logger.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Write what happened."""
        self._logger.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write what went wrong and was mended."""
        self._logger.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Write what went wrong and needs a person."""
        self._logger.error(event, **fields)


CONTROL = {code: "?" for code in (*range(32), *range(127, 160)) if code != 10}  # a log is read on a terminal


class _Patient(io.TextIOBase):
    """A stream that loses a line rather than its writer: a log on a full disk must not stop the host."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text.translate(CONTROL))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def open_log(level: str = "info", stream: TextIO | None = None) -> Log:
    """Return a log that writes logfmt lines to `stream` (stderr)."""
    renderer = structlog.processors.LogfmtRenderer(key_order=["at", "level", "event"], bool_as_flag=False)
    logger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", _Patient(stream or sys.stderr))),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.ExceptionRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(level, logging.INFO)),
    )
    return Log(logger)
