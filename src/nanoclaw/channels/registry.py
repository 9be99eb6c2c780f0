"""Which channels there are: built-in ones, and those of packages somebody installed. Installed is not enabled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points

from nanoclaw.channels.base import Channel
from nanoclaw.errors import PlatformError

BUILTIN = ("terminal",)
ENTRY_POINTS = "nanoclaw.channels"  # the group under which a package names its channels


class Channels:
    """The channels this host runs, by name."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._by_name = {channel.name: channel for channel in channels}

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Channel:
        """Return a channel. Raises PlatformError (permanent) for one that this host does not run."""
        channel = self._by_name.get(name)
        if channel is None:
            raise PlatformError(f"the channel {name} is not switched on here", permanent=True)
        return channel


def list_installed() -> tuple[str, ...]:
    """Return the names of every channel that could be switched on."""
    return BUILTIN + tuple(sorted(point.name for point in entry_points(group=ENTRY_POINTS)))
