"""`ncl groups config add-package` and `ncl groups builds`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw.errors import Refused
from tests.unit.office import Office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.close()


def test_packages_are_ordered_and_the_builds_are_listed(office: Office) -> None:
    answer = office.ncl("groups config add-package main --apt jq --pip requests==2.32.0 --npm @a/b")
    assert "being built now" in answer.note
    assert office.after.build
    (build,) = office.table("groups builds main")
    assert (build["state"], build["change"]) == ("queued", "add apt: jq; npm: @a/b; pip: requests==2.32.0")
    assert office.row("groups config get main")["packages"] == "nothing"
    assert ("packages.ordered", "operator") in office.events()


@pytest.mark.parametrize("word", ["; rm -rf /", "$(id)", "--option", "../x", "https://x.test/y.whl"])
def test_what_is_no_name_is_refused_and_nothing_is_queued(office: Office, word: str) -> None:
    with pytest.raises(Refused, match="is not what pip calls a package"):
        office.ncl("groups", "config", "add-package", "main", f"--pip={word}")
    assert office.table("groups builds main") == []


def test_what_is_not_installed_cannot_be_removed(office: Office) -> None:
    with pytest.raises(Refused, match="Not installed: jq"):
        office.ncl("groups config remove-package main --apt jq")
    with pytest.raises(Refused, match="No package was named"):
        office.ncl("groups config add-package main")
