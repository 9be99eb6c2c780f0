"""What the builder in its box says of pip's failures."""

from __future__ import annotations

import pytest

from nanoclaw.runner.install import _explain_pip

NONE = "ERROR: Could not find a version of six\nERROR: No matching distribution found for six\n"


def test_what_has_no_wheel_is_said_to_need_docker() -> None:
    assert "use docker for this group" in _explain_pip(NONE)


@pytest.mark.parametrize(
    "log",
    [
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError('Tunnel connection failed: 403')'\n",
        "ERROR: HTTP error 403 while getting https://pypi.org/simple/six/\n",
        "WARNING: 403 Client Error: Forbidden for url: https://pypi.org/simple/six/\n",
    ],
)
def test_a_package_is_not_blamed_for_an_index_that_was_not_reached(log: str) -> None:
    assert _explain_pip(log + NONE) == ""
