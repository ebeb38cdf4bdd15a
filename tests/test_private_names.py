"""What adapterkit uses of other libraries beyond what they promise: each name in one file, and a sentence for each.

An upgrade that drops a name fails here, with the sentence that says what it is for. The names are found by reading the
sources: attributes and strings that begin with an underscore and are not adapterkit's own, methods of other libraries'
classes that are overridden, imports from modules that no reference page has, and tables in capitals.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest

from tests.private_names import PRIVATE, PROMISED, PROMISED_NAMES, Private

PACKAGE = Path(__file__).resolve().parents[1] / "adapterkit"

STANDARD = {"_asdict", "_replace", "_fields", "_make"}
"""Names of the standard library that begin with an underscore and are documented: named tuples'."""

NO_NAMES = {"_id", "_gate", "_recipes"}
"""Strings that are endings of names, or adapterkit's own folders."""


@dataclass(frozen=True)
class Use:
    """One use of a name, in a file under the package."""

    name: str
    file: str
    line: int


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def is_private(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"_[a-zA-Z]\w*", name) is not None


def _targets(node: ast.AST) -> Iterator[str]:
    """Names that a node gives to something of its own: a class's or a module's attribute, a method, or self's."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
            yield name
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.arg(arg=name):
            yield name


def nodes_of(source: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(source)))


def own_names(nodes: Iterable[ast.AST]) -> frozenset[str]:
    return frozenset(name for node in nodes for name in _targets(node) if is_private(name))


def imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that an import takes from a library of the list."""
    match node:
        case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in PROMISED:
            yield from (f"{module}.{alias.name}" for alias in names)
        case ast.Import(names=names):
            yield from (f"{alias.name}." for alias in names if alias.name.split(".")[0] in PROMISED)
        case ast.Attribute() if (dotted := _chain(node)).split(".")[0] in PROMISED.keys() - {"torch"}:
            yield dotted


def _chain(node: ast.expr) -> str:
    """a.b.c as a text; "" for what does not begin with a name."""
    if isinstance(node, ast.Attribute):
        root = _chain(node.value)
        return root and f"{root}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def promised(dotted: str) -> bool:
    """Whether a reference page has what an import takes: a public name of a documented module."""
    module, _, name = dotted.rpartition(".")
    if dotted in PROMISED_NAMES or dotted in PROMISED[module.split(".")[0]]:
        return True
    return (
        module in PROMISED[module.split(".")[0]]
        and not is_private(name)
        and not name.endswith(("_MAPPING", "_FUNCTIONS"))
    )


def base_classes(nodes: list[ast.AST]) -> Iterator[tuple[ast.ClassDef, type]]:
    """Classes with a base that a library of the list gives."""
    modules = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in nodes:
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            root, _, attribute = _chain(base).partition(".")
            module, given = modules.get(root) or ("", "")
            if module and module.split(".")[0] in PROMISED:
                found = getattr(importlib.import_module(module), given)
                found = getattr(found, attribute) if attribute else found
                if isinstance(found, type):
                    yield node, found


def uses_in(file: str, nodes: list[ast.AST], own: frozenset[str]) -> Iterator[Use]:
    """Every use of a name that no library promises.

    Args:
        own: names that the package gives to its own things. Self's may come from a base class in another file; those
            of other objects only from this one.
    """
    here = own_names(nodes)
    pieces = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    inside = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        line = getattr(node, "lineno", 0)
        if id(node) not in inside:
            yield from (Use(name, file, line) for name in imported(node) if not promised(name))
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if is_private(name) and name not in own:
                yield Use(name, file, line)
            case ast.Attribute(value=value, attr=name) if is_private(name) and name not in here | STANDARD:
                if not (isinstance(value, ast.Name) and value.id in ("self", "cls")):
                    yield Use(name, file, line)
            case ast.Constant(value=str(name)) if is_private(name) and name not in here | NO_NAMES:
                if id(node) not in pieces:
                    yield Use(name, file, line)
            case ast.Constant(value=str(name)) if re.fullmatch("[A-Z_]+_MAPPING", name):
                yield Use(f"transformers.{name}", file, line)
    for node, base in base_classes(nodes):
        for method in ast.walk(node):
            name = method.name if isinstance(method, ast.FunctionDef) else ""
            if is_private(name) and (hasattr(base, name) or name in listed()):
                yield Use(name, file, getattr(method, "lineno", 0))


@cache
def all_uses() -> tuple[Use, ...]:
    sources = {str(file.relative_to(PACKAGE)): nodes_of(file.read_text(encoding="utf-8")) for file in source_files()}
    own = own_names(chain.from_iterable(sources.values()))
    return tuple(use for file, nodes in sources.items() for use in uses_in(file, nodes, own))


def listed() -> list[str]:
    return [name for private in PRIVATE for name in private.names]


@pytest.mark.parametrize("private", PRIVATE, ids=lambda private: " ".join(private.names))
def test_what_a_library_does_not_promise_is_still_there(private: Private) -> None:
    gone = [name for name in private.names if not _is_there(private, name)]
    installed = f"{private.library} {version(private.library.replace('_', '-'))}"
    assert gone == [], f"{installed} has no {', '.join(gone)}: {private.what}"


def _is_there(private: Private, name: str) -> bool:
    if private.owner is None:
        module, _, attribute = name.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
    owner = private.owner()
    return name in owner if isinstance(owner, str) else hasattr(owner, name)


def test_every_name_that_no_library_promises_has_its_sentence() -> None:
    assert sorted(f"{use.file}:{use.line} uses {use.name}" for use in all_uses() if use.name not in listed()) == []


def test_every_such_name_is_used_in_one_file() -> None:
    files: defaultdict[str, set[str]] = defaultdict(set)
    for use in all_uses():
        files[use.name].add(use.file)
    assert {name: sorted(found) for name, found in files.items() if len(found) > 1} == {}


def test_every_sentence_is_of_names_that_are_used() -> None:
    assert sorted(set(listed()) - {use.name for use in all_uses()}) == []
    assert [name for name, count in Counter(listed()).items() if count > 1] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(layer): return layer._scaling", "_scaling"),
        ("def f(layer): layer._scaling = 1", "_scaling"),
        ("def f(layer): return getattr(layer, '_scaling')", "_scaling"),
        ("import torch\ntorch._fused_adam_", "_fused_adam_"),
        ("from torch import _dynamo", "torch._dynamo"),
        ("from torch._inductor import config", "torch._inductor.config"),
        ("import transformers\ntransformers.cache_utils.Cache", "transformers.cache_utils.Cache"),
        ("from transformers import CONFIG_MAPPING_NAMES, MODEL_MAPPING", "transformers.MODEL_MAPPING"),
        ("import peft.tuners.mixed", "peft.tuners.mixed."),
        (
            "from peft.tuners.tuners_utils import BaseTuner\nclass A(BaseTuner):\n def _pre_injection_hook(self): ...",
            "_pre_injection_hook",
        ),
    ],
)
def test_a_new_name_is_found(source: str, expected: str) -> None:
    assert [use.name for use in uses_in("new.py", nodes_of(source), frozenset())] == [expected]


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n def __init__(self): self._x = 1\n def f(self, other): return other._x",
        "import torch\ntorch.nn.functional.gelu",
        "from torch import nn\nnn.Module",
        "from peft.tuners.tuners_utils import BaseTunerLayer",
        "x = '__dict__', '_', 'a_b'",
    ],
)
def test_what_is_promised_or_adapterkits_own_needs_no_sentence(source: str) -> None:
    nodes = nodes_of(source)
    assert list(uses_in("new.py", nodes, own_names(nodes))) == []
