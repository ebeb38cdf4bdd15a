"""`import adapterkit`: every name is there, nothing heavy is, and PEFT learns of the bottleneck."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest

ORDERS = (
    "import adapterkit; import peft",
    "import peft; import adapterkit",
    "import adapterkit.methods.bottleneck.config",
    "import adapterkit.methods.fused.layers",
    "import adapterkit.methods.fused; import peft",
    "import adapterkit.host; import peft",
)
IN_EVERY_ORDER = f"""
import contextlib, importlib, os, sys
for needed in ("torch", "transformers.modeling_utils", "accelerate", "bitsandbytes", "torchao"):
    with contextlib.suppress(ImportError):
        importlib.import_module(needed)  # which both import, and which take most of the time
assert "peft" not in sys.modules and "adapterkit" not in sys.modules
for order in {ORDERS!r}:
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, order
        continue
    exec(order)
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    os._exit(["BOTTLENECK"] != [kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING if "BOTTLENECK" in kind])
print("known")
"""


def test_peft_knows_the_bottleneck_whichever_is_imported_first() -> None:
    done = subprocess.run([sys.executable, "-c", IN_EVERY_ORDER], capture_output=True, text=True)
    assert done.stdout == "known\n", done.stderr


def test_every_name_on_the_front_door_can_be_reached() -> None:
    import adapterkit

    assert {*adapterkit.__all__} == {"__version__", "errors", *adapterkit._ROOMS}  # one for type checkers, one for use
    reached: dict[str, Any] = {name: getattr(adapterkit, name) for name in adapterkit.__all__}
    assert reached.keys() <= set(dir(adapterkit))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = adapterkit.nothing


@pytest.mark.parametrize(
    ("gpu", "told"), [(False, ["int8 is slow here"]), (True, ["Failed to load x.so: y", "int8 is slow here"])]
)
def test_of_other_libraries_lines_only_the_harmless_ones_are_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gpu: bool, told: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    for line in ("Failed to load x.so: y", "int8 is slow here"):
        logging.getLogger("torchao").warning(line)
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load CPU gemm_4bit_forward: %s", "none")
    assert caplog.messages == told
