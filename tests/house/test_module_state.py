"""Nothing is built, kept or done at import: no mutable module state, no singletons, no work."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.source import Module, dotted, hold, planted, product

# Calls at the top of a module whose value cannot change, or is a constant by its name and never changed in the file.
# Classes of ours that are frozen, or enumerations, are added to them.
PURE = {
    "NewType", "TypeVar", "ParamSpec", "MappingProxyType", "types.MappingProxyType", "re.compile", "struct.Struct",
    "struct.calcsize", "timedelta", "Path", "os.path.join", "os.path.dirname", "os.path.abspath", "ctypes.CDLL",
    "msgspec.json.Decoder", "msgspec.json.Encoder", "bytes.fromhex", "get_args", "ip_network", "ipaddress.ip_network",
    "ContextVar", "click.option", "click.argument", "operator.attrgetter", "ctypes.sizeof", "os.fsencode",
    "frozenset", "tuple", "bytes", "str", "int", "float", "range", "len", "max", "min", "sum", "sorted", "ord", "chr",
    "object", "zip", "enumerate", "list", "dict", "set",
}  # fmt: skip
METHODS = {
    "join", "encode", "decode", "split", "format", "lower", "upper", "strip", "replace", "items", "values", "keys",
    "with_name", "with_suffix", "resolve",
}  # fmt: skip
MUTABLE = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter"}
CHANGES = {"append", "extend", "insert", "add", "update", "pop", "popitem", "remove", "discard", "clear", "setdefault"}


def state_offences(module: Module, constant_classes: set[str]) -> Iterator[str]:
    for statement in module.tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            yield from value_offences(module, statement, constant_classes)
        elif does_work(module, statement):
            yield module.at(statement, "work at import")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            yield module.at(node, f"global {', '.join(node.names)}")


def does_work(module: Module, statement: ast.stmt) -> bool:
    if module.path.endswith("__main__.py"):
        return False
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.For | ast.While | ast.With | ast.Delete)


def value_offences(module: Module, statement: ast.Assign | ast.AnnAssign, classes: set[str]) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    name, value = dotted(targets[0]), statement.value
    if value is None or name == "__all__" or module.path.endswith("__main__.py"):
        return
    mutable = isinstance(value, MUTABLE) or (isinstance(value, ast.Call) and dotted(value.func) in MUTABLE_CALLS)
    if mutable and (not name.isupper() or name in changed_names(module)):
        yield module.at(statement, f"{name} is mutable state of the module")
    for call in (node for node in ast.walk(value) if isinstance(node, ast.Call)):
        if not makes_a_constant(call, classes):
            yield module.at(call, f"{name} = {dotted(call.func)}(...) is built at import")


def makes_a_constant(call: ast.Call, classes: set[str]) -> bool:
    callee = dotted(call.func)
    last = callee.split(".")[-1]
    return callee in PURE or last in classes or (isinstance(call.func, ast.Attribute) and call.func.attr in METHODS)


def changed_names(module: Module) -> set[str]:
    """Names whose container is changed somewhere in the file."""
    changed: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            changed.add(dotted(node.func.value))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            changed.add(dotted(node.value))
        elif isinstance(node, ast.AugAssign):
            changed.add(dotted(node.target))
    return changed


def constant_classes(modules: tuple[Module, ...]) -> set[str]:
    """Names of the product's frozen dataclasses, frozen structs and enumerations."""
    classes = (n for m in modules for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef))
    return {node.name for node in classes if is_constant_class(node)}


def is_constant_class(node: ast.ClassDef) -> bool:
    if any(dotted(base).endswith(("Enum", "NamedTuple", "Flag")) for base in node.bases):
        return True
    keywords = [*node.keywords]
    for decorator in node.decorator_list:
        keywords += decorator.keywords if isinstance(decorator, ast.Call) else []
    return any(k.arg == "frozen" and isinstance(k.value, ast.Constant) and k.value.value is True for k in keywords)


@pytest.mark.parametrize(
    "text",
    [
        "cache = {}",
        "seen: set[str] = set()",
        "SEEN = []\ndef f(x): SEEN.append(x)",
        "TABLE = {}\ndef f(x): TABLE[x] = 1",
        "store = Store(path)",
        "STORE = Store(path)",
        "register(handler)",
        "for name in NAMES: register(name)",
        "count = 0\ndef f():\n  global count\n  count += 1",
        "log = structlog.get_logger()",
    ],
)
def test_mutable_state_singletons_and_work_at_import_are_seen(text: str) -> None:
    assert list(state_offences(planted(text), set()))


@pytest.mark.parametrize(
    "text",
    [
        "NAMES = ('a', 'b')",
        "VERBS = {'list': list_groups}",
        "PATTERN = re.compile('a')",
        "LIMITS = Limits(memory_bytes=2 * GIB)",
        "SessionId = NewType('SessionId', str)",
        "__all__ = ['a']",
        '"""Only words."""',
        "if __name__ == '__main__':\n  main()",
    ],
)
def test_constants_of_a_module_are_silent(text: str) -> None:
    assert not list(state_offences(planted(text), {"Limits"}))


def test_no_module_keeps_state_or_works_at_import() -> None:
    constant = constant_classes(product())
    offences = (offence for module in product() for offence in state_offences(module, constant))
    hold(offences, "pass it in from host.py; a constant is UPPER_CASE and frozen")
