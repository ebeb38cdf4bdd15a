"""What differs between methods, or between heads, is a row of one table: nobody else decides by kind.

The law reads the sources. Rows stand in `methods/` and `heads/`, settings in `recipe/`, and packing has a table of its
own. Everywhere else a method's or a head's settings may be named, made and handed on, and never compared.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from adapterkit.recipe.head import HEAD_SETTINGS
from adapterkit.recipe.methods import METHOD_SETTINGS
from tests.test_architecture import PACKAGE, ROOT, source_files

ROOMS = ("methods", "heads", "recipe", "host/packing")
METHODS = frozenset(METHOD_SETTINGS.own)
HEADS = frozenset(HEAD_SETTINGS.own) - {"auto"}
UNMISTAKABLE = METHODS - {"none"}
"""Words that mean a method wherever they stand; sites, schedules and progress displays have the others too."""
SETTINGS = frozenset(block.__name__ for block in METHOD_SETTINGS.own.values())
OWNERS = frozenset({"method", "head"})


def decisions(source: str) -> Iterator[tuple[int, str]]:
    """Where a source decides by a method's or a head's kind: (line, code)."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                sides = [node.left, *node.comparators]
                words = {word for side in sides for word in words_of(side)}
                owners = {owner for side in sides for owner in owners_of(side)}
                if owners & OWNERS or words & UNMISTAKABLE or (owners and words & (METHODS | HEADS)):
                    yield node.lineno, ast.unparse(node)
            case ast.Match():
                words = {word for case in node.cases for word in words_of(case.pattern)}
                if words & UNMISTAKABLE or (owners_of(node.subject) and words & (METHODS | HEADS)):
                    yield node.lineno, ast.unparse(node.subject)
            case ast.Dict():
                words = {word for key in node.keys if key is not None for word in words_of(key)}
                if len(words & METHODS) > 1 or len(words & HEADS) > 1:
                    yield node.lineno, "a table of its own: " + ", ".join(sorted(words))
            case ast.Name(id=name) if name in SETTINGS and not is_named_only(node, parents):
                yield node.lineno, ast.unparse(parents[node])


def words_of(node: ast.AST) -> Iterator[str]:
    """The words that stand in a value or a pattern itself, in a tuple or a set of them too."""
    match node:
        case ast.Constant(value=str(word)):
            yield word
        case ast.Tuple(elts=inner) | ast.List(elts=inner) | ast.Set(elts=inner):
            for element in inner:
                yield from words_of(element)
        case ast.MatchValue(value=value):
            yield from words_of(value)
        case ast.MatchOr(patterns=patterns):
            for pattern in patterns:
                yield from words_of(pattern)


def owners_of(node: ast.AST) -> Iterator[str]:
    """Whose kind a value is: `a.method.kind`, `a["method"]["kind"]` and `a.method.get("kind")` are of "method"."""
    match node:
        case ast.Attribute(attr="kind", value=owner) | ast.Subscript(slice=ast.Constant(value="kind"), value=owner):
            yield name_of(owner)
        case ast.Call(func=ast.Attribute(attr="get", value=owner), args=[ast.Constant(value="kind"), *_]):
            yield name_of(owner)


def name_of(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
    return ""


def is_named_only(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a class is called, stands in an annotation, or is the parameter of a type."""
    child, parent = node, parents[node]
    if isinstance(parent, ast.Call):
        return parent.func is node
    while not isinstance(parent, ast.stmt):
        if isinstance(parent, ast.Subscript) and parent.slice is child:
            return True
        if isinstance(parent, ast.arg):
            return True
        child, parent = parent, parents[parent]
    match parent:
        case ast.AnnAssign(annotation=annotation):
            return annotation is child
        case ast.FunctionDef(returns=returns) | ast.AsyncFunctionDef(returns=returns):
            return returns is child
    return False


BAD = [
    "if adapted.method.kind == 'mine': ...",
    "same = a.method.kind != b.method.kind",
    "own = manifest.head.kind != 'family'",
    "if content['method']['kind'] in ('none', 'other'): ...",
    "if raw['head'].get('kind') == 'mlp': ...",
    "if facts.what == 'ia3': ...",
    "if facts.kind == 'attention': ...",
    "match settings.kind:\n    case 'linear': ...",
    "match chosen:\n    case LoraMethod(): ...",
    "if isinstance(method, LoraMethod): ...",
    "if isinstance(method, LoraMethod | Ia3Method): ...",
    "if type(method) is BottleneckMethod: ...",
    "linear = (LoraMethod, Ia3Method)",
    "WORDS = {'lora': 'a', 'bottleneck': 'b'}",
    "WORDS = {'linear': 'a', 'mlp': 'b'}",
]
GOOD = [
    "method: LoraMethod = LoraMethod(rank=8)",
    "def pack(given: Unpacked[LoraMethod], more: Sequence[LoraMethod] = ()) -> LoraMethod | None: ...",
    "if task.kind == 'causal-lm' and settings.schedule == 'linear': ...",
    "if sublayer.name == 'attention' or progress == 'none': ...",
    "row = METHODS[method.kind]",
    "text = f'{method.kind}'",
    "WORDS = {'attention.query': 'attention'}",
]


@pytest.mark.parametrize("source", BAD)
def test_the_law_finds_a_decision(source: str) -> None:
    assert list(decisions(source))


@pytest.mark.parametrize("source", GOOD)
def test_the_law_lets_settings_be_named_made_and_looked_up(source: str) -> None:
    assert list(decisions(source)) == []


def test_nobody_else_decides_by_a_method_or_a_head() -> None:
    rooms = tuple(PACKAGE / room for room in ROOMS)
    found = [
        f"{file.relative_to(ROOT)}:{line}: {code}"
        for file in source_files()
        if not any(file.is_relative_to(room) for room in rooms)
        for line, code in decisions(file.read_text(encoding="utf-8"))
    ]
    assert found == []
