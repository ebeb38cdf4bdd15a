"""Whatever other libraries bring along, they have nothing to say to a user who trains, mounts and predicts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

USE = """
import contextlib, logging, sys
import adapterkit.training.run
with contextlib.suppress(ImportError):  # what would speak, where it is installed
    import torchao.quantization
with contextlib.suppress(ImportError):
    import bitsandbytes
logging.basicConfig(level=logging.WARNING)  # as a program does that wants to hear what is said
import adapterkit as ak, adapterkit.host
tiny, out = sys.argv[1:]
backbone = ak.Backbone.load(tiny, dtype="float32", device="cpu")
rows = [{"text": f"sentence {n}", "label": ("no", "yes")[n % 2]} for n in range(16)]
recipe = {"task": {"kind": "text-classification"}, "backbone": {"name": tiny}, "training": {"epochs": 1}, "output": out}
result = ak.train(recipe, data={"train": rows}, backbone=backbone, quiet=True)
with ak.Host(backbone) as host:
    host.mount("intent", result.artifact)
    host.predict([("intent", "sentence 1")])
assert ak.verify(result.artifact, backbone)
import peft, transformers
"""


def test_training_and_answering_say_nothing_on_their_own(tiny_folders: Mapping[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", USE, str(tiny_folders["bert"]), str(tmp_path / "run")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "default::UserWarning"}
    )
    assert (done.returncode, done.stderr) == (0, "")
