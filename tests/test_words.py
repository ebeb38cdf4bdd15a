"""One word, one meaning: what is called how, and where. The table of words is docs/concepts/words.md."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adapterkit"

ROOMS: dict[str, tuple[str, ...]] = {
    "part": ("methods/fusion", "recipe", "manifest", "artifact", "backbone/checkpoint.py"),
    "place": ("backbone", "heads", "host", "tasks", "data"),
    "split": ("data", "demo", "tasks", "training", "traffic"),
    "step": ("training", "planning", "sweeping"),
    "job": ("training",),
    "stack": ("compose",),
    "plan": ("planning", "cli/plan.py"),
    "console": ("cli",),
    "segment": ("training/trunk_cache",),
    "lane": ("backbone/packed_rows.py", "heads", "training/together"),
}
"""Words that could mean much -> where classes, functions and modules may be called by them."""


def word_of(piece: str) -> str:
    """Part, Parts, PART -> part."""
    word = piece.lower()
    return word[:-1] if word.endswith("s") and word[:-1] in ROOMS else word


def words_of(name: str) -> set[str]:
    """The words of a name in either spelling: `read_parts`, `PartFacts`."""
    return {word_of(piece) for piece in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@cache
def definitions() -> tuple[tuple[str, str, bool, bool], ...]:
    """Of every class, function and module: its file, its name, whether it is a class, whether it stands by itself."""

    def found(file: Path) -> Iterator[tuple[str, str, bool, bool]]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        where, alone = file.relative_to(PACKAGE).as_posix(), set(tree.body)
        yield where, file.stem, False, False
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield where, node.name, isinstance(node, ast.ClassDef), node in alone

    return tuple(one for file in sorted(PACKAGE.rglob("*.py")) for one in found(file))


def test_definitions_are_found() -> None:
    assert {("methods/fusion/part.py", "Part", True, True), ("compose/__init__.py", "stack", False, True)} <= {
        *definitions()
    }
    assert words_of("read_parts") == {"read", "part"}
    assert words_of("StepNeeds") == {"step", "needs"}


@pytest.mark.parametrize("word", ROOMS)
def test_a_word_that_could_mean_much_is_used_where_it_means_one_thing(word: str) -> None:
    named = {(where, name) for where, name, _, _ in definitions() if word in words_of(name)}
    inside = {(where, name) for where, name in named if where.startswith(ROOMS[word])}
    assert inside, "nothing is called so any more: take it out of the table"
    assert sorted(named - inside) == []


def test_every_such_word_stands_in_the_table_of_words() -> None:
    table = (ROOT / "docs" / "concepts" / "words.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| ([a-z]+) \|", table, flags=re.MULTILINE))
    assert {word for word in ROOMS if word != "console"} - told == set()


def test_no_two_classes_have_one_name() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for where, name, is_class, alone in definitions():
        if is_class and alone and not name.startswith("_"):
            files[name].append(where)
    assert {name: where for name, where in files.items() if len(where) > 1} == {}


def test_no_module_is_called_as_its_function() -> None:
    """`from adapterkit.x import y` would give one or the other. A verb's file on the command line is the verb's."""
    ambiguous = [
        where
        for where, name, is_class, alone in definitions()
        if alone and not is_class and Path(where).stem == name and not where.startswith("cli/")
    ]
    assert ambiguous == []
