"""Import order and walls (architecture sections 4 and 5)."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

import pytest

from tests.house.source import PACKAGE, Module, dotted, hold, planted, product

# A part may import parts with a lower number, and itself. Equal numbers may not import each other, except at 0.
ORDER = {
    "errors": 0, "clock": 0, "ids": 0, "log": 0, "config": 1, "contract": 2, "domain": 3, "store": 4, "channels": 5,
    "sandbox": 6, "flow": 7, "admin": 8, "supervise": 9, "keyring": 9, "children": 10,
    "unlock": 10, "boxes": 11, "host": 12, "cli": 13,
}  # fmt: skip
SIBLINGS = {("channels", "sandbox"), ("sandbox", "channels")}

# Parts that live behind a wall: what of ours they may import, and which libraries.
WALLED = {
    "contract": ({"contract"}, set[str]()),
    "errors": ({"errors"}, set[str]()),
    "runner": ({"runner", "contract", "errors"}, set[str]()),
    "gateway": ({"gateway", "contract", "errors", "clock", "log"}, {"h11", "cryptography", "msgspec", "aiosql"}),
    "rehearsal": ({"rehearsal"}, {"h11"}),
}
# Files that are also started alone, before or without our package: the standard library only.
ALONE = {"sandbox/launch.py"}
# What the others may see of a walled part: nobody imports the runner, the rehearsal model or the fakes.
DOORS = {
    "gateway": {"client", "control", "admin_words", "egress_words"},
    "runner": set[str](),
    "rehearsal": set[str](),
    "testing": set[str](),
}

VAULT_FILES = re.compile(r"vault\.json|vault\.key|ledger\.db")

SQL_WORDS = re.compile(
    r"\s*(SELECT\s|INSERT\s+(OR|INTO)\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|REPLACE\s+INTO\s|CREATE\s+(TABLE|INDEX|UNIQUE)"
    r"|DROP\s+TABLE|ALTER\s+TABLE|PRAGMA\s|BEGIN\b|COMMIT\b|ROLLBACK\b|WITH\s+\w+\s+AS)"
)
SQL_HOMES = re.compile(r"store/|sandbox/(mailbox|inbound)\.py|(runner|contract)/mailbox\.py|gateway/ledger(_file)?\.py")
SQL_FILE_HOMES = re.compile(r"(store|store/migrations|gateway|contract)/[\w]+\.sql")


def imports(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield (node, dotted module) of every import; `from a import b` counts as `a.b`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)


def our_part(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "nanoclaw" and len(parts) > 1 else ""


def import_offences(module: Module) -> Iterator[str]:
    for node, name in imports(module):
        if name.startswith("."):
            yield module.at(node, f"relative import {name}")
            continue
        part = our_part(name)
        what = wrong_part(module, name, part) if part else wrong_library(module, name)
        if what:
            yield module.at(node, what)


def wrong_part(module: Module, name: str, part: str) -> str:
    here = module.folder
    if module.path in ALONE:
        return f"imports {name}, but is started alone with the standard library"
    if here in WALLED and part not in WALLED[here][0]:
        return f"imports {name}: {here} may import only {', '.join(sorted(WALLED[here][0]))}"
    if part in DOORS and part != here and here != "testing" and not (set(name.split(".")[2:3]) & DOORS[part]):
        return f"imports {name}: of {part} others may see {', '.join(sorted(DOORS[part])) or 'nothing'}"
    if here in ORDER and part in ORDER and here != part and not may_import(here, part):
        return f"imports {name}: {part} comes after {here} in the import order"
    return ""


def may_import(here: str, part: str) -> bool:
    if (here, part) in SIBLINGS:
        return False
    return ORDER[part] < ORDER[here] or ORDER[part] == ORDER[here] == 0


def wrong_library(module: Module, name: str) -> str:
    library = name.split(".")[0]
    if library in sys.stdlib_module_names or library == "nanoclaw":
        return ""
    if module.path in ALONE or (module.folder in WALLED and library not in WALLED[module.folder][1]):
        return f"imports {library}: not behind this wall"
    return ""


def vault_offences(module: Module) -> Iterator[str]:
    if module.folder == "gateway":
        return
    for node, text in module.strings():
        if VAULT_FILES.search(text):
            yield module.at(node, f"names the gateway's file {text!r}")


def sql_offences(module: Module) -> Iterator[str]:
    if SQL_HOMES.match(module.path):
        return
    for node, text in module.strings():
        if SQL_WORDS.match(text):
            yield module.at(node, f"holds SQL: {text.strip()[:40]!r}")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "sqlite3.connect":
            yield module.at(node, "opens a database")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("store/planted.py", "from nanoclaw.flow import wake"),
        ("channels/planted.py", "import nanoclaw.sandbox.spec"),
        ("sandbox/planted.py", "from nanoclaw.channels.base import Channel"),
        ("runner/planted.py", "from nanoclaw.store.db import Store"),
        ("runner/planted.py", "import msgspec"),
        ("runner/planted.py", "from nanoclaw.clock import Clock"),
        ("gateway/planted.py", "from nanoclaw import config"),
        ("gateway/planted.py", "import structlog"),
        ("rehearsal/planted.py", "from nanoclaw.errors import Refused"),
        ("contract/planted.py", "import msgspec"),
        ("host.py", "from nanoclaw.gateway.vault import Vault"),
        ("flow/planted.py", "from nanoclaw.testing.fakes import FakeBox"),
        ("flow/planted.py", "from nanoclaw.runner import loop"),
        ("flow/planted.py", "from .wake import Wake"),
        ("sandbox/launch.py", "from nanoclaw.errors import SandboxError"),
        ("errors.py", "from nanoclaw.config import Config"),
    ],
)
def test_an_import_against_the_order_or_through_a_wall_is_seen(path: str, line: str) -> None:
    assert list(import_offences(planted(line, path)))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("flow/planted.py", "from nanoclaw.store.db import Store"),
        ("flow/planted.py", "from nanoclaw.gateway.client import GatewayClient"),
        ("runner/planted.py", "from nanoclaw.contract.message import ChatOut"),
        ("gateway/planted.py", "import h11, ssl"),
        ("log.py", "from nanoclaw.errors import OperatorError"),
        ("cli/planted.py", "import click"),
        ("testing/planted.py", "from nanoclaw.sandbox.runtimes.base import Box"),
    ],
)
def test_an_import_that_keeps_the_order_is_silent(path: str, line: str) -> None:
    assert not list(import_offences(planted(line, path)))


def test_every_import_keeps_the_order_and_the_walls() -> None:
    offences = [offence for module in product() for offence in import_offences(module)]
    hold(offences, "the order and the walls are ORDER, WALLED and DOORS in this file")


def test_every_part_of_the_product_has_its_place_in_the_order() -> None:
    known = {*ORDER, *WALLED, *DOORS, "__init__", "__main__"}
    hold({m.path for m in product() if m.folder not in known}, "add the part to ORDER in this file")


def test_nothing_but_the_gateway_names_the_vaults_files() -> None:
    assert list(vault_offences(planted('path = home / "vault.json"', "host.py")))
    assert not list(vault_offences(planted('"""Never opens vault.json."""', "host.py")))
    offences = [offence for module in product() for offence in vault_offences(module)]
    hold(offences, "only gateway/ opens the vault and its ledger; ask it over its sockets")


def test_sql_lives_in_its_homes_only() -> None:
    assert list(sql_offences(planted('run("SELECT 1 FROM inbox")')))
    assert list(sql_offences(planted("connection = sqlite3.connect(path)")))
    assert not list(sql_offences(planted('say("Select a chat")')))
    assert not list(sql_offences(planted('Q = "SELECT 1"', "runner/mailbox.py")))
    offences = [offence for module in product() for offence in sql_offences(module)]
    hold(offences, "SQL lives in store/, and in the one home of each other database")


def test_sql_files_lie_beside_the_module_of_their_database() -> None:
    assert not SQL_FILE_HOMES.fullmatch("flow/wake.sql")
    paths = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.sql")]
    hold((p for p in paths if not SQL_FILE_HOMES.fullmatch(p)), "move it beside its database's module")
