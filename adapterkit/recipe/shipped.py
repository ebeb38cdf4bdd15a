"""The recipes that ship with adapterkit: in an installed package, an editable install and a source checkout."""

from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent
IN_THE_PACKAGE = PACKAGE / "_recipes"
IN_A_CHECKOUT = PACKAGE.parent / "recipes"
SUFFIXES = (".yaml", ".yml")
LAUNCHES = "accelerate"
"""The folder of configurations for `accelerate launch`, which are no recipes."""


class ShippedRecipe(NamedTuple):
    """A recipe that ships with adapterkit."""

    name: str
    path: Path
    headline: str


def shipped_recipes() -> list[ShippedRecipe]:
    """What ships, by name. The headline is the first comment of the file."""
    folder = recipes_folder()
    if folder is None:
        return []
    launches = folder / LAUNCHES
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and launches not in path.parents)
    return [ShippedRecipe(path.relative_to(folder).with_suffix("").as_posix(), path, _headline(path)) for path in files]


def recipes_folder() -> Path | None:
    """Where the shipped recipes lie, or None in an installation without them."""
    if IN_THE_PACKAGE.is_dir():
        return IN_THE_PACKAGE
    checkout = (IN_A_CHECKOUT.parent / "pyproject.toml").is_file() and IN_A_CHECKOUT.is_dir()
    return IN_A_CHECKOUT if checkout else None


def _headline(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and line.strip("# "):
            return line.strip("# ")
        if line.strip() and not line.startswith("#"):
            break
    return ""
