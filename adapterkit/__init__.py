"""adapterkit: one frozen backbone, many small adapters.

The front door is lazy: `import adapterkit` imports no torch; a name imports what it needs when it is first used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from adapterkit import errors
from adapterkit.harmless import leave_out_harmless_lines
from adapterkit.lazy import lazily

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from adapterkit import compose as compose
    from adapterkit.artifact import export as export
    from adapterkit.artifact import import_adapterhub as import_adapterhub
    from adapterkit.artifact import import_peft as import_peft
    from adapterkit.artifact import import_sentence_transformers as import_sentence_transformers
    from adapterkit.artifact import load as load
    from adapterkit.artifact import pull as pull
    from adapterkit.artifact import push as push
    from adapterkit.artifact import verify as verify
    from adapterkit.backbone import Backbone as Backbone
    from adapterkit.evaluation import attribute as attribute
    from adapterkit.evaluation import calibrate as calibrate
    from adapterkit.evaluation import compact as compact
    from adapterkit.evaluation import compare as compare
    from adapterkit.evaluation import diff as diff
    from adapterkit.evaluation import evaluate as evaluate
    from adapterkit.evaluation import nearest as nearest
    from adapterkit.evaluation import probe as probe
    from adapterkit.evaluation import transfer as transfer
    from adapterkit.evaluation import upgrade as upgrade
    from adapterkit.evaluation.starting import train as train
    from adapterkit.host import Host as Host
    from adapterkit.planning import plan as plan
    from adapterkit.recipe import Recipe as Recipe
    from adapterkit.recipe import load_recipe as load_recipe
    from adapterkit.registry import Registry as Registry
    from adapterkit.stages.streaming import stream as stream
    from adapterkit.sweeping import sweep as sweep
    from adapterkit.training import AdapterTrainer as AdapterTrainer
    from adapterkit.training import build as build
    from adapterkit.training import save as save

__version__ = "0.1.0"

_ROOMS = {
    "AdapterTrainer": "adapterkit.training",
    "Backbone": "adapterkit.backbone",
    "Host": "adapterkit.host",
    "Recipe": "adapterkit.recipe",
    "Registry": "adapterkit.registry",
    "attribute": "adapterkit.evaluation",
    "build": "adapterkit.training",
    "calibrate": "adapterkit.evaluation",
    "compact": "adapterkit.evaluation",
    "compare": "adapterkit.evaluation",
    "compose": "adapterkit.compose",
    "diff": "adapterkit.evaluation",
    "evaluate": "adapterkit.evaluation",
    "export": "adapterkit.artifact",
    "import_adapterhub": "adapterkit.artifact",
    "import_peft": "adapterkit.artifact",
    "import_sentence_transformers": "adapterkit.artifact",
    "load": "adapterkit.artifact",
    "load_recipe": "adapterkit.recipe",
    "nearest": "adapterkit.evaluation",
    "plan": "adapterkit.planning",
    "probe": "adapterkit.evaluation",
    "pull": "adapterkit.artifact",
    "push": "adapterkit.artifact",
    "save": "adapterkit.training",
    "stream": "adapterkit.stages.streaming",
    "sweep": "adapterkit.sweeping",
    "train": "adapterkit.evaluation.starting",
    "transfer": "adapterkit.evaluation",
    "upgrade": "adapterkit.evaluation",
    "verify": "adapterkit.artifact",
}
"""Name -> the module that it is in, imported when it is first used."""

__all__ = ["__version__", "errors", *_ROOMS]

__getattr__, __dir__ = lazily(__name__, _ROOMS)

leave_out_harmless_lines()


class _AfterPeft:
    """Tells PEFT of the bottleneck method as soon as PEFT has been imported, by whomever.

    `PeftModel.from_pretrained` then reads bottleneck artifacts after a mere `import adapterkit`, which imports neither.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "peft":
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec("peft")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register_bottleneck()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register_bottleneck() -> None:
    if "adapterkit.methods.bottleneck" not in sys.modules:  # else it is what imports PEFT, and registers by itself
        import_module("adapterkit.methods.bottleneck")


if "peft" in sys.modules:
    _register_bottleneck()
else:
    sys.meta_path.insert(0, _AfterPeft())
