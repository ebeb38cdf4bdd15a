"""What does AdapterHub's `BatchSplit` cost over its own bare backbone, in the environment that it needs?

    OMP_NUM_THREADS=1 python benchmarks/host_adapterhub.py        # half a minute; the first time 1.5 GB more

`adapters` 1.3 wants an older transformers, so it gets an environment of its own under adapterkit's cache folder, made
the first time, with the torch of the constraints. Its ratio stands beside the host's, each over its own bare backbone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from host_adapters import write

from adapterkit.own_folder import cache_folder

HERE = Path(__file__).resolve().parent
PINS = ("transformers==4.57.6", "adapters==1.3.0")


def environment() -> Path:
    """The environment's Python; made where it is not there yet. Raises CalledProcessError where that fails."""
    folder = cache_folder() / "adapterhub-1.3.0"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        lines = (HERE.parent / "constraints.txt").read_text().splitlines()
        pins = [line for line in lines if line.startswith(("torch==", "numpy=="))]
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *pins], check=True)
        subprocess.run([*install, *pins, *PINS], check=True)
        ready.touch()
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    try:
        python = environment()
    except (OSError, subprocess.CalledProcessError) as error:
        write("host_adapterhub", {"skipped": f"its environment cannot be made here: {error}"})
        return
    sizes = [str(options.width), str(options.tokens), str(options.repeats)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = str(HERE / "adapterhub_side.py")
    done = subprocess.run([str(python), script, *sizes], capture_output=True, text=True, env=clean, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    write("host_adapterhub", {"adapterhub": found})


if __name__ == "__main__":
    main()
