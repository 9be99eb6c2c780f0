"""What a package may be called, and how a change is put to a set."""

from __future__ import annotations

import pytest

from nanoclaw.domain.group import Packages
from nanoclaw.domain.packages import PackageChange, describe, describe_change, merge, missing_of, parse_packages
from nanoclaw.errors import Refused

GOOD = {
    "apt": [
        "jq",
        "g++",
        "libstdc++6",
        "python3.11",
        "jq=1.6-2.1",
        "ripgrep=13.0.0-4+b2",
        "tzdata=2024a-0+deb12u1",
        "a2=1:2~3",
    ],
    "npm": [
        "left-pad",
        "left-pad@1.3.0",
        "@types/node",
        "@types/node@20.1.0-beta.1",
        "prettier@latest",
        "lodash.merge",
    ],
    "pip": [
        "requests",
        "requests==2.32.0",
        "requests[socks]==2.32.0",
        "ruamel.yaml",
        "zope.interface",
        "Pillow",
        "a[b,c-d]",
    ],
}
HOSTILE = [
    "; rm -rf /",
    "jq; rm -rf /",
    "$(id)",
    "`id`",
    "jq && id",
    "jq|id",
    "jq\nid",
    "jq id",
    " jq",
    "jq ",
    "",
    "-y",
    "--help",
    "-oDpkg::Options::=x",
    "../x",
    "/etc/passwd",
    "./x.deb",
    "file:///x",
    "git+https://x.test/y",
    "a@b@c/d",
    "https://x.test/a.whl",
    "pkg @ https://x.test/a.whl",
    "pkg>=1",
    "pkg~=1",
    "pkg;python_version<'4'",
    "jq=",
    "pkg==",
    "-r requirements.txt",
    "jq\0",
    "jq*",
    "jq?",
    "jq$",
    "^jq",
    "%0a",
    "\u202ejq",
    "ＪＱ",
    "jq/bookworm-backports",
    "user/repo",
    "github:user/repo",
    "npm:other",
    "pkg@npm:other@1",
    "pkg@>=1",
    "pkg@file:x",
    "a" * 215,
]


@pytest.mark.parametrize("manager", GOOD)
def test_names_and_versions_as_people_write_them_are_taken(manager: str) -> None:
    assert getattr(parse_packages(**{manager: GOOD[manager][:1]}), manager) == (GOOD[manager][0],)
    for word in GOOD[manager]:
        assert getattr(parse_packages(**{manager: [word]}), manager) == (word,)


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("manager", GOOD)
def test_what_is_no_name_is_refused_and_shown(manager: str, word: str) -> None:
    with pytest.raises(Refused, match=f"is not what {manager} calls a package"):
        parse_packages(**{manager: ["jq", word]})


@pytest.mark.parametrize("word", ["jq-", "jq+", "x", "Jq", "_jq"])
def test_a_name_that_apt_would_read_as_an_order_is_refused(word: str) -> None:
    with pytest.raises(Refused):
        parse_packages(apt=[word])


def test_nothing_and_too_many_are_refused() -> None:
    with pytest.raises(Refused, match="No package"):
        parse_packages()
    with pytest.raises(Refused, match="At most 60"):
        parse_packages(pip=[f"p{number}" for number in range(61)])


def test_a_change_keeps_one_version_of_each_name() -> None:
    have = Packages(apt=("jq",), pip=("Ruamel.Yaml==1", "requests"))
    change = PackageChange(parse_packages(pip=["ruamel_yaml==2"], npm=["@a/b"]), Packages(apt=("jq",)))
    assert merge(have, change) == Packages(npm=("@a/b",), pip=("requests", "ruamel_yaml==2"))
    assert missing_of(have, Packages(apt=("jq", "rg"), pip=("ruamel-yaml",))) == ["rg"]
    with pytest.raises(Refused, match="At most 60"):
        merge(Packages(apt=tuple(f"p{number}" for number in range(60))), PackageChange(Packages(apt=("jq",))))


def test_sets_and_changes_are_said_in_words() -> None:
    assert describe(Packages()) == "nothing"
    assert describe(Packages(apt=("jq", "rg"), pip=("x",))) == "apt: jq, rg; pip: x"
    change = PackageChange(Packages(npm=("a",)), Packages(apt=("jq",)))
    assert describe_change(change) == "add npm: a; remove apt: jq"
    assert describe_change(PackageChange()) == "build anew"
