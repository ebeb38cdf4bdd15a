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


def llama_cpp() -> Path:
    """llama.cpp's converters, out of the sources of its Python binding; fetched where they are not there yet."""
    folder = cache_folder() / LLAMA_CPP.replace("==", "-")
    if not (folder / "ready").exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        try:
            subprocess.run([*command, "--no-binary", ":all:", "--dest", str(folder), LLAMA_CPP], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingError(f"llama.cpp's sources cannot be fetched here: {error}") from error
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            sources = [each for each in archive.getmembers() if "/vendor/llama.cpp/" in each.name]
            archive.extractall(folder, [each for each in sources if each.name.endswith(".py")], filter="data")
        (folder / "ready").touch()
    return next(folder.glob("*/vendor/llama.cpp"))


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
