"""What builds a group's packages: the protocol, what is to be built, and how a set is known by its name.

A set is what was built of a group's packages: a folder of the home for bubblewrap, an image for runtimes that have
them. Its name stands in the group's config, changed in one step, so that a box has the old set whole or the new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nanoclaw.domain.group import GroupConfig, Packages
from nanoclaw.errors import SandboxError

BUILD_SECONDS = 900.0


class BuildFailed(SandboxError):
    """What was asked for cannot be installed; the message says why in plain words. Nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be built: the whole set, for the boxes of a group as `config` says. `id` is the build's own."""

    id: str
    group: str
    packages: Packages
    config: GroupConfig


@dataclass(frozen=True, slots=True)
class BuiltSet:
    """What was built and verified. `name` for `GroupConfig.packages_set`; `note` is what there is to know of it."""

    name: str
    note: str = ""


class PackageBuilder(Protocol):
    """Builds sets for one kind of runtime."""

    def owns(self, name: str) -> bool:
        """Whether a set is of its kind."""
        ...

    async def build(self, wanted: Wanted) -> BuiltSet:
        """Build and verify a set, in a box of its own, within `BUILD_SECONDS`. Raises BuildFailed, SandboxError,
        OSError; then, and when it is cancelled, nothing of it is left but what `remove_unused` finds."""
        ...

    async def remove_unused(self, group: str, used: frozenset[str]) -> None:
        """Remove every set of a group but those that are `used`. Raises OSError, SandboxError."""
        ...
