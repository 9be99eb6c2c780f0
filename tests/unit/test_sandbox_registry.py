"""Which runtime a group's boxes get, and what is looked at before it is chosen."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from nanoclaw.domain.group import GroupConfig, Kernel
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.testing.scripted_runtime import ScriptedRuntime


class WithoutImage(ScriptedRuntime):
    """It works, and what boxes are made of is not there yet."""

    def check_image(self, image: str) -> None:
        raise SandboxError("There is no image yet.")


def spawn(work: Coroutine[Any, Any, None], name: str) -> None:
    work.close()


def runtimes(override: str = "") -> Runtimes:
    return Runtimes({"docker": lambda _: WithoutImage(spawn), "bubblewrap": lambda _: ScriptedRuntime(spawn)}, override)


async def test_a_runtime_without_its_image_is_not_chosen_and_one_that_was_chosen_stays() -> None:
    config = GroupConfig(runtime="docker")
    with pytest.raises(SandboxError, match="no image yet"):
        await runtimes().try_out(config)
    await runtimes().choose(config)


async def test_a_kernel_that_is_required_is_never_traded_for_what_overrides_it() -> None:
    config = GroupConfig(runtime="docker", require_kernel=Kernel.SEPARATE)
    with pytest.raises(SandboxError, match="requires a kernel of its own, and bubblewrap shares"):
        await runtimes("bubblewrap").choose(config)
