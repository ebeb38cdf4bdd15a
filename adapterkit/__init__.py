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

    from adapterkit import compose
    from adapterkit.artifact import (
        export,
        import_adapterhub,
        import_peft,
        import_sentence_transformers,
        load,
        pull,
        push,
        verify,
    )
    from adapterkit.backbone import Backbone
    from adapterkit.evaluation import (
        attribute,
        calibrate,
        compact,
        compare,
        diff,
        evaluate,
        nearest,
        probe,
        transfer,
        upgrade,
    )
    from adapterkit.evaluation.starting import train
    from adapterkit.host import Host
    from adapterkit.planning import plan
    from adapterkit.recipe import Recipe, load_recipe
    from adapterkit.registry import Registry
    from adapterkit.stages.streaming import stream
    from adapterkit.sweeping import sweep
    from adapterkit.training import AdapterTrainer, build, save

__version__ = "0.1.0"

_NAMES = {
    "adapterkit.artifact": "export import_adapterhub import_peft import_sentence_transformers load pull push verify",
    "adapterkit.backbone": "Backbone",
    "adapterkit.compose": "compose",
    "adapterkit.evaluation": "attribute calibrate compact compare diff evaluate nearest probe transfer upgrade",
    "adapterkit.evaluation.starting": "train",
    "adapterkit.host": "Host",
    "adapterkit.planning": "plan",
    "adapterkit.recipe": "Recipe load_recipe",
    "adapterkit.registry": "Registry",
    "adapterkit.stages.streaming": "stream",
    "adapterkit.sweeping": "sweep",
    "adapterkit.training": "AdapterTrainer build save",
}
_ROOMS = {name: room for room, names in _NAMES.items() for name in names.split()}
"""Name -> the module that it is in, imported when it is first used."""

__all__ = [
    "AdapterTrainer", "Backbone", "Host", "Recipe", "Registry", "__version__", "attribute", "build", "calibrate",
    "compact", "compare", "compose", "diff", "errors", "evaluate", "export", "import_adapterhub", "import_peft",
    "import_sentence_transformers", "load", "load_recipe", "nearest", "plan", "probe", "pull", "push", "save", "stream",
    "sweep", "train", "transfer", "upgrade", "verify",
]  # fmt: skip

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
