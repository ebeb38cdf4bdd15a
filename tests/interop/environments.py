"""Environments of the neighbours, each made once in adapterkit's cache folder, with the torch of the constraints."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from adapterkit.own_folder import cache_folder

ROOT = Path(__file__).resolve().parents[2]
LLAMA_CPP = "llama-cpp-python==0.3.36"
VLLM = "vllm==0.33.0"
SENTENCE = ("setfit==1.2.0", "sentence-transformers==6.2.0", "transformers==5.23.0", "peft==0.21.2")
ADAPTERHUB = ("adapters==1.3.0", "transformers==4.57.6")


class MissingError(Exception):
    """An environment that cannot be made here, and why."""


def python_with(name: str, packages: Sequence[str]) -> Path:
    """The Python of an environment with these packages; made where it is not there yet."""
    folder = cache_folder() / name
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists():
        return python
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line.startswith(("torch==", "numpy=="))]
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([*install, *pins], check=True)
        subprocess.run([*install, *pins, *packages], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingError(f"its environment cannot be made here: {error}") from error
    ready.touch()
    return python


def sources(package: str, kept: str, tools: Sequence[str] = (), **settings: str) -> Path:
    """Python files of a package's source distribution, in a folder; fetched where they are not there yet.

    Args:
        kept: what their paths begin with, below the distribution's own folder.
        tools: packages with which pip looks at the distribution, where those that it asks for itself are too many.
        settings: environment variables that its setup reads.
    """
    folder = cache_folder() / package.replace("==", "-")
    if not (folder / "ready").exists():
        pip, quiet = [sys.executable, "-m", "pip"], ["--quiet", "--disable-pip-version-check"]
        command = [*pip, "download", *quiet, "--no-deps", "--no-binary", ":all:", "--dest", str(folder), package]
        try:
            if tools:
                subprocess.run([*pip, "install", *quiet, "--target", str(folder / "tools"), *tools], check=True)
                settings["PYTHONPATH"] = str(folder / "tools")
                command.append("--no-build-isolation")
            subprocess.run(command, check=True, env={**os.environ, **settings})
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingError(f"the sources of {package} cannot be fetched here: {error}") from error
        (archived,) = folder.glob("*.tar.gz")
        with tarfile.open(archived) as archive:
            members = [each for each in archive.getmembers() if each.name.partition("/")[2].startswith(kept)]
            archive.extractall(folder, [each for each in members if each.name.endswith(".py")], filter="data")
        archived.unlink()
        (folder / "ready").touch()
    return next(each for each in folder.glob("*/") if (each / kept).exists())


def run(python: Path | str, script: Path, *arguments: str) -> list[str]:
    """What a script prints, line by line, without adapterkit on its path. Raises RuntimeError with its last words."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), "-P", str(script), *arguments], capture_output=True, text=True, env=clean, cwd="/", check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout.splitlines()
