"""`accelerate launch --cpu --num_processes N` starts one process, whatever N is; here it becomes N.

Accelerate starts several processes on CPUs only through MPI. It says that several were asked for by setting
MASTER_ADDR and MASTER_PORT, and tells nobody how many, so the number is read from its command line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from adapterkit.errors import DeviceError

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Set in a process that a launcher started as one of several."""


def is_alone_of_several(environment: Mapping[str, str]) -> bool:
    """Whether Accelerate was asked for several processes on CPUs, and this is the only one that it started."""
    on_cpu = environment.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes")
    return on_cpu and "MASTER_PORT" in environment and not any(name in environment for name in LAUNCHED)


def process_count(launcher: Sequence[str]) -> int | None:
    """The number of processes that a launcher's command line asks for; None where it says nothing."""
    found = re.search(r"--num[_-]processes[ =](\d+)", " ".join(launcher))
    return int(found.group(1)) if found else None


def become_all_processes(arguments: Sequence[str]) -> None:
    """Start `adapterkit` with these arguments in as many processes as were asked for, in the place of this one.

    Does nothing where this process is not alone of several.

    Raises:
        DeviceError: how many were asked for stands in a configuration file, where it is not looked for.
    """
    environment = os.environ
    if not is_alone_of_several(environment):
        return
    import psutil

    parent: Any = psutil.Process(os.getppid())
    count = process_count(parent.cmdline())
    if count is None:
        raise DeviceError(
            "accelerate was asked for several processes on CPUs, and started one",
            remedy="Say how many: accelerate launch --cpu --num_processes 2 -m adapterkit train RECIPE",
        )
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(count)]
    launch += ["--master_addr", environment["MASTER_ADDR"], "--master_port", environment["MASTER_PORT"]]
    os.execv(sys.executable, [sys.executable, *launch, "-m", "adapterkit", *arguments])
