"""`import adapterkit`: every name is there, nothing heavy is, and PEFT learns of the bottleneck."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

PEFT_KNOWS = (
    "from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as M; print([k.value for k in M if 'BOTTLENECK' in k])"
)


@pytest.mark.parametrize(
    "order", ["import adapterkit; import peft", "import peft; import adapterkit", "import adapterkit.methods"]
)
def test_peft_knows_the_bottleneck_whichever_is_imported_first(order: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"{order}; {PEFT_KNOWS}"], capture_output=True, text=True, check=True)
    assert done.stdout == "['BOTTLENECK']\n"


def test_every_name_on_the_front_door_can_be_reached() -> None:
    import adapterkit

    reached: dict[str, Any] = {name: getattr(adapterkit, name) for name in adapterkit.__all__}
    assert reached.keys() <= set(dir(adapterkit))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = adapterkit.nothing
