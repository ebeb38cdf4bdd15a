"""The layout is the architecture: imports only go down, and no file is a catch-all.

Every import counts: lazy ones inside functions, type-only ones, and `import_module("…")` with a literal name.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import pytest

from adapterkit.recipe.kinds import KINDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adapterkit"

FLOORS: dict[str, int] = {
    **dict.fromkeys(("errors", "glance", "harmless", "lazy", "own_folder"), 0),
    "signing": 1,
    "recipe": 1,
    "metrics": 1,
    "manifest": 2,
    "records": 3,
    "backbone": 2,
    "data": 2,
    "heads": 3,
    "methods": 3,
    "report": 4,
    "survey": 3,
    "tasks": 3,
    "adapted": 4,
    "artifact": 5,
    "compose": 6,
    "scoring": 6,
    "host": 7,
    "training": 7,
    "evaluation": 8,
    "planning": 8,
    "sweeping": 8,
    "registry": 9,
    "stages": 9,
    "traffic": 9,
    **dict.fromkeys(("board", "serving"), 10),
    "cli": 11,
    "demo": 12,
    "__init__": 13,
    "__main__": 14,
}
"""Room of the package (a folder or a file right under adapterkit/) -> its floor."""

SIDEWAYS: frozenset[tuple[str, str]] = frozenset()
"""(who imports, what) on the same floor. Anything else on one floor does not know of each other."""

WITHOUT_MODELS: dict[str, set[str]] = {
    "errors": set(),
    "harmless": set(),
    "lazy": set(),
    "recipe": {"pydantic", "pydantic_core", "yaml"},
    "metrics": {"numpy", "scipy"},
    "manifest": {"fsspec", "numpy", "pydantic"},
    "records": {"pydantic"},
}
"""Parts that know of no model -> what they may import besides the standard library, lazily or not."""

SCORERS = {"sacrebleu", "seqeval", "rouge_score", "sklearn"}
"""What metrics/ may import besides, inside functions: each of them is slow, and few tasks need it."""

BROUGHT_ALONG = {"accelerate", "bitsandbytes", "datasets", "pandas", "peft", "pyarrow", "sklearn", "torchao"}
"""What other libraries bring with them wherever it is installed."""

HEAVY = {"torch", "transformers", "scipy", "matplotlib"} | BROUGHT_ALONG
"""What `import adapterkit` and `adapterkit --help` must not pay for."""

COSTS: dict[str, set[str]] = {
    "adapterkit.cli": HEAVY | {"numpy", "pydantic"},
    "adapterkit.recipe": HEAVY | {"numpy"},
    "adapterkit.manifest": HEAVY | {"numpy"},
    "adapterkit.report": HEAVY | {"numpy"},
    "adapterkit.metrics": HEAVY | SCORERS,
    "adapterkit.records": HEAVY | SCORERS,
    "adapterkit.training": HEAVY,
    "adapterkit.sweeping": HEAVY,
    "adapterkit.host": BROUGHT_ALONG,
    "adapterkit.training.run": BROUGHT_ALONG - {"accelerate"},
    "adapterkit.evaluation": BROUGHT_ALONG - {"accelerate"},
}
"""Module -> what is not in memory when it and those above it are imported, one after the other."""

READ_SOURCES = {"test_architecture.py", "test_private_names.py", "test_wheel.py", "test_words.py"}
"""Tests that are about the sources of the package and not about what it does."""

CATCH_ALLS = {"utils", "util", "common", "misc", "helpers", "helper", "manager", "managers", "tools"}
LONGEST_FILE_LINES = 400
LONGEST_MEDIAN_LINES = 110
MOST_LINES = 58_600
"""Of the whole package. 48,000 is wanted, which one person can keep in mind: older rooms have to become smaller yet."""
HOST_FLOORS = ("engine", "packing", "bank", "answers")
"""Folders in host/ from the lowest up; the files right under host/ stand above them all."""


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands and what it names, the longest dotted name that is a module."""

    file: Path
    line: int
    module: str
    lazy: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(dotted: str) -> str:
    """The room of adapterkit that a dotted module name lies in: "adapterkit.tasks.table" -> "tasks"."""
    pieces = dotted.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def module_name(file: Path) -> str:
    pieces = ["adapterkit", *file.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(pieces[:-1] if pieces[-1] == "__init__" else pieces)


def own_room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_module(dotted: str) -> bool:
    return (path := PACKAGE.parent.joinpath(*dotted.split("."))).is_dir() or path.with_suffix(".py").is_file()


def named_by(node: ast.AST) -> Iterator[str]:
    """The modules that a node imports: `from a import b` names a.b where that is a module, else a."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=str(module), names=names, level=0):
            for alias in names:
                yield f"{module}.{alias.name}" if is_module(f"{module}.{alias.name}") else module
        case ast.Call(func=ast.Name(id="import_module" | "__import__"), args=[ast.Constant(value=str(name)), *_]):
            yield name
        case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
            yield name


def is_conditional(node: ast.AST) -> bool:
    """An `if` for type checkers, or for a library that is in memory already: neither loads anything heavy."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith(("TYPE_CHECKING", "in sys.modules"))


def walk(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_conditional(child)
        yield child, inside
        yield from walk(child, inside)


@cache
def imports_of(file: Path) -> tuple[Import, ...]:
    """Every import of a file. `lazy` marks those that do not run when the module is imported."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return tuple(
        Import(file, getattr(node, "lineno", 0), module, lazy)
        for node, lazy in walk(tree, False)
        for module in named_by(node)
    )


def all_imports() -> list[Import]:
    return [found for file in source_files() for found in imports_of(file)]


def inner(found: Import) -> bool:
    return found.module.split(".")[0] == "adapterkit"


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if FLOORS[importer] == FLOORS[imported]:
        return (importer, imported) in SIDEWAYS
    return FLOORS[importer] > FLOORS[imported]


def test_every_python_file_of_the_package_was_read() -> None:
    walked = [Path(folder) / name for folder, _, names in os.walk(PACKAGE) for name in names if name.endswith(".py")]
    assert sorted(walked) == source_files()
    assert PACKAGE / "errors.py" in source_files()
    assert all_imports()


def test_every_room_of_the_package_has_a_floor() -> None:
    assert sorted({own_room(file) for file in source_files()} - set(FLOORS)) == []


def test_the_tour_for_contributors_shows_every_room_on_its_floor() -> None:
    tour = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[3]
    told, floor = {}, 0
    for number, rooms in re.findall(r"^ ?(\d+)? +([a-z_]+(?:, [a-z_]+)*)", tour, flags=re.MULTILINE):
        floor = int(number or floor)
        told |= dict.fromkeys(rooms.split(", "), floor)
    assert told == {room: floor for room, floor in FLOORS.items() if not room.startswith("__")}


def test_imports_only_go_down() -> None:
    wrong = [
        f"{found} (floor {FLOORS[own_room(found.file)]} -> {FLOORS[room_of(found.module)]})"
        for found in all_imports()
        if inner(found) and not may_import(own_room(found.file), room_of(found.module))
    ]
    assert wrong == []


def host_floor(module: str) -> int:
    """The floor of a module within host/."""
    pieces = module.split(".")
    return HOST_FLOORS.index(pieces[2]) if len(pieces) > 2 and pieces[2] in HOST_FLOORS else len(HOST_FLOORS)


def test_inside_the_host_imports_only_go_down_too() -> None:
    assert {path.parent.name for path in (PACKAGE / "host").glob("*/__init__.py")} == set(HOST_FLOORS)
    wrong = [
        str(found)
        for found in all_imports()
        if own_room(found.file) == room_of(found.module) == "host"
        and host_floor(module_name(found.file)) < host_floor(found.module)
    ]
    assert wrong == []


def test_every_sideways_permission_is_on_one_floor() -> None:
    assert [pair for pair in sorted(SIDEWAYS) if FLOORS[pair[0]] != FLOORS[pair[1]]] == []


def test_no_import_is_relative() -> None:
    relative = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in source_files()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert relative == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module_name(file): {found.module for found in imports_of(file) if inner(found)} - {module_name(file)}
        for file in source_files()
    }
    finished: set[str] = set()

    def circle_from(module: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if module in path:
            return (*path[path.index(module) :], module)
        if module in finished:
            return ()
        for imported in sorted(graph.get(module, ())):
            if circle := circle_from(imported, (*path, module)):
                return circle
        finished.add(module)
        return ()

    assert [circle for module in sorted(graph) if (circle := circle_from(module, ()))] == []


def test_what_knows_of_no_model_imports_no_library_of_models() -> None:
    outside = []
    for found in all_imports():
        library, room = found.module.split(".")[0], own_room(found.file)
        allowed = {"adapterkit", *WITHOUT_MODELS.get(room, {library}), *sys.stdlib_module_names}
        if library not in allowed and not (room == "metrics" and found.lazy and library in SCORERS):
            outside.append(str(found))
    assert outside == []


@pytest.mark.parametrize("room", ["cli", "__init__", "__main__"])
def test_the_front_door_imports_heavy_libraries_only_inside_functions(room: str) -> None:
    heavy = [
        str(found)
        for found in all_imports()
        if own_room(found.file) == room
        and not found.lazy
        and (found.module.split(".")[0] in HEAVY or (inner(found) and FLOORS[room_of(found.module)] in range(1, 7)))
    ]
    assert heavy == []


def test_an_import_costs_what_is_used() -> None:
    code = [f"import {module}; print(*sorted({left_out!r} & set(sys.modules)))" for module, left_out in COSTS.items()]
    # Whatever the others bring along, they have nothing to say to a user.
    code = ["import sys", *code, "import transformers.modeling_utils, peft"]
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=True)
    assert dict(zip(COSTS, done.stdout.splitlines(), strict=True)) == dict.fromkeys(COSTS, "")
    assert done.stderr == ""


def test_what_is_tidied_up_at_the_end_asks_whose_it_is() -> None:
    """A forked child runs its parent's finalizers: what touches a file has to ask; counts of memory need not."""
    own = {"backbone/own_process.py", "planning/dry_step.py"}
    asking = {
        str(file.relative_to(PACKAGE))
        for file in source_files()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and (ast.unparse(node) == "weakref.finalize" or node.attr == "finalize")
    }
    assert asking == own


def test_no_module_is_a_catch_all() -> None:
    names = [file for file in source_files() if CATCH_ALLS & {*file.relative_to(PACKAGE).with_suffix("").parts}]
    assert names == []


def length_lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_no_file_is_longer_than_one_idea() -> None:
    files = [*source_files(), *sorted((ROOT / "tests").rglob("*.py"))]
    lengths = {str(file.relative_to(ROOT)): length_lines(file) for file in files}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE_LINES} == {}


def test_the_package_stays_small_and_so_does_its_usual_file() -> None:
    lengths = [length_lines(file) for file in source_files()]
    assert median(lengths) <= LONGEST_MEDIAN_LINES
    assert sum(lengths) <= MOST_LINES


def test_no_other_test_reads_the_packages_sources() -> None:
    """So the tests say the same of an installed wheel."""
    reading = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        if file.name not in READ_SOURCES
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"\b(ROOT|__file__)\b.* / \"adapterkit\b", line)
    ]
    assert reading == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in source_files()
        if file.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert silent == []


KNOW_KINDS = ("recipe", "survey", "tasks", "demo")
"""Who may name a kind: their table, the survey that guesses one, the tasks, and the demo, whose jobs are recipes."""


def kinds_named_by(file: Path) -> list[str]:
    """Every literal that is a kind's name and no docstring."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        f"{file.relative_to(ROOT)}:{node.lineno} names {node.value}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in KINDS and id(node) not in statements
    ]


def test_only_the_table_of_kinds_and_the_tasks_know_a_kind_by_its_name() -> None:
    named = [line for file in source_files() if own_room(file) not in KNOW_KINDS for line in kinds_named_by(file)]
    assert named == []
    assert kinds_named_by(PACKAGE / "recipe/kinds.py")


def test_kinds_stand_in_tuples_only_in_their_table() -> None:
    """Elsewhere what differs is asked of the task, or of the facts about its kind."""
    listed = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in source_files()
        if file != PACKAGE / "recipe" / "kinds.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Tuple | ast.List | ast.Set)
        and any(isinstance(item, ast.Constant) and item.value in KINDS for item in node.elts)
    ]
    assert listed == []
