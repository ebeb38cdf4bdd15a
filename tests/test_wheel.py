"""What is installed is what the tests ran on: the wheel, in an environment of its own, outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling, of the dev extra, builds the wheel")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the tests stand outside a checkout, so there is nothing to build")
    folder = tmp_path_factory.mktemp("dist")
    run(ROOT, sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    (found,) = folder.glob("*.whl")
    return found


def run(folder: Path, *command: str) -> str:
    """What a command prints that finds adapterkit, if at all, in its own environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def install(wheel: Path, folder: Path) -> Path:
    """An environment with adapterkit from the wheel, and everything else from where these tests run. Its programs."""
    venv.create(folder, with_pip=False, symlinks=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    # Before the other packages are seen: there may be another adapterkit among them.
    pip = ("-m", "pip", "--python", str(programs / "python"), "install", "--quiet", "--no-deps", "--no-index")
    run(folder, sys.executable, *pip, str(wheel))
    site = Path(
        run(folder, str(programs / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    libraries = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    # A line of a .pth puts a folder on the path, behind the environment's own, and reads no .pth in it: what is
    # installed there as editable is not found.
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    return programs


def test_a_wheel_lists_its_recipes_prints_its_schema_and_trains(wheel: Path, tiny_folders, tmp_path: Path) -> None:
    programs, here = install(wheel, tmp_path / "environment"), tmp_path / "elsewhere"
    here.mkdir()
    where = "import adapterkit; print(adapterkit.__file__)"
    assert Path(run(here, str(programs / "python"), "-c", where).strip()).is_relative_to(tmp_path)

    listed = run(here, str(programs / "adapterkit"), "recipes")
    assert [file.stem for file in RECIPES.glob("*.yaml") if file.stem not in listed.split()] == []
    assert json.loads(run(here, str(programs / "adapterkit"), "schema"))["title"] == "adapterkit recipe"

    rows = [{"text": text, "label": label} for text, label in (("good", "yes"), ("bad", "no"))] * 4
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = {
        "task": {"kind": "text-classification"},
        "backbone": {"name": str(tiny_folders["bert"])},
        "method": {"kind": "lora", "rank": 2},
        "head": {"kind": "linear"},
        "data": {"train": "rows.jsonl", "validation": "rows.jsonl"},
        "training": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
        "output": "run",
    }
    (here / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    run(here, str(programs / "adapterkit"), "train", "recipe.yaml")
    assert {"adapter_model.safetensors", "adapterkit.json"} <= {file.name for file in (here / "run").iterdir()}


def test_a_wheel_holds_the_package_its_recipes_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    sources = {f"adapterkit/{file.relative_to(ROOT / 'adapterkit')}" for file in (ROOT / "adapterkit").rglob("*.py")}
    recipes = {f"adapterkit/_recipes/{file.relative_to(RECIPES)}" for file in RECIPES.rglob("*.yaml")}
    of = {
        "artifact": ("card.md",),
        "board": ("board.css", "board.js", "page.html"),
        "demo": ("grammar.yaml",),
        "report": ("figures.css", "figures.html", "page.html"),
        "survey": ("recipe.yaml.txt",),
    }
    files = {"adapterkit/py.typed", *(f"adapterkit/{room}/{name}" for room, held in of.items() for name in held)}
    assert set(names) == sources | recipes | files
