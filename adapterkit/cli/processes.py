"""What `accelerate launch` was asked for and does not do is done here, or refused by name.

Accelerate starts several processes on CPUs only through MPI: it starts one, sets MASTER_ADDR and MASTER_PORT, and tells
nobody how many there should be. With --cpu it forgets a strategy that stands in its configuration file. So the
launcher's own command line is read, with Accelerate's parser.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterkit.errors import DeviceError
from adapterkit.training.launch import REFUSED, SHARDING, refused_launch

if TYPE_CHECKING:
    from accelerate import Accelerator

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Set in a process that a launcher started as one of several."""

LAUNCHERS = ("accelerate", "accelerate-launch", "torchrun")
"""Scripts that start processes."""

FSDP_SETTINGS = (
    "fsdp_version", "fsdp_reshard_after_forward", "fsdp_offload_params", "fsdp_auto_wrap_policy",
    "fsdp_activation_checkpointing", "fsdp_activation_checkpointing_offload", "fsdp_ignored_modules",
)  # fmt: skip
"""Settings of FSDP that a run looks at; Accelerate hands them on as variables in capitals, and not with --cpu."""

MARK = "ACCELERATE_MIXED_PRECISION"
"""Set in every process that Accelerate starts."""

_STRATEGIES = {"use_fsdp": "FSDP", "use_deepspeed": "DEEPSPEED", "use_megatron_lm": "MEGATRON_LM"}


def is_only_one(environment: Mapping[str, str]) -> bool:
    """Whether this is the only process that Accelerate started."""
    return MARK in environment and not any(name in environment for name in LAUNCHED)


def all_processes() -> Accelerator | None:
    """The processes that a launcher has started, or was asked for; None where this one is alone."""
    end_with_launcher()
    become_all_processes(sys.argv[1:])
    if not any(name in os.environ for name in LAUNCHED):
        return None
    from adapterkit.training.environment import launched_processes

    return launched_processes()


def become_all_processes(arguments: Sequence[str]) -> None:
    """Start `adapterkit` with these arguments in as many processes as were asked for, in the place of this one.

    Does nothing where this process is not the only one that Accelerate started, or only one was asked for. Raises
    DeviceError: what was asked for cannot be had; names it.
    """
    if not is_only_one(os.environ):
        return
    import psutil

    parent: Any = psutil.Process(os.getppid())
    asked = launcher_settings(parent.cmdline())
    several = "MASTER_PORT" in os.environ
    if asked is None and several:
        raise DeviceError(
            "accelerate was asked for several processes on CPUs, and started one",
            ["found: a parent process that is not accelerate launch, so that nothing says how many"],
            "Start them with torchrun --nproc_per_node 2 -m adapterkit train RECIPE",
        )
    words = [] if asked is None else torchrun_words(asked)
    if words and asked is not None:
        launch = [sys.executable, "-m", "torch.distributed.run", *words, "-m", "adapterkit", *arguments]
        os.execve(sys.executable, launch, {**os.environ, **asked["fsdp"]})


def end_with_launcher() -> None:
    """Have a process that was launched asked to stop when its launcher ends, however that ends; on Linux.

    Accelerate leaves what it started alone when a signal reaches the launcher and nothing else.
    """
    if sys.platform == "linux" and (MARK in os.environ or any(name in os.environ for name in LAUNCHED)):
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def launcher_words(arguments: Sequence[str]) -> list[str]:
    """The command line of the launcher that has started `adapterkit` with these arguments; [] where there is none."""
    if MARK not in os.environ and not any(name in os.environ for name in LAUNCHED):
        return []
    import psutil

    found: list[str] = []
    parent = psutil.Process().parent()
    while parent is not None:
        words = parent.cmdline()
        launches = any(
            Path(word).name in LAUNCHERS or word.startswith(("accelerate.commands.", "torch.distributed."))
            for word in words
        )
        if words[-len(arguments) :] != [*arguments] or not launches:
            break
        found, parent = words, parent.parent()
    return found


def shown(words: Sequence[str]) -> str:
    """A command line as a person types it: a script by its name where a shell finds it."""
    if len(words) > 1 and shutil.which(Path(words[1]).name) == words[1]:
        words = [Path(words[1]).name, *words[2:]]
    return shlex.join(words)


def launcher_settings(words: Sequence[str]) -> Mapping[str, Any] | None:
    """What a launcher's command line and its configuration file ask for; None where this is no `accelerate launch`."""
    places = [
        place
        for place, word in enumerate(words)
        if Path(word).name in ("launch", "accelerate-launch", "launch.py") or word.endswith(".commands.launch")
    ]
    if not places:
        return None
    from accelerate.commands.config import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    given: Any = launch_command_parser().parse_args(list(words[places[0] + 1 :]))
    there = given.config_file is not None or (os.path.isfile(default_config_file) and not given.cpu)
    config: Any = load_config_from_file(given.config_file) if there else None
    names = ("num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port", "use_cpu")
    asked: dict[str, Any] = {
        name: found if (found := getattr(given, name, None)) not in (None, False) else getattr(config, name, None)
        for name in names
    }
    kind = str(getattr(getattr(config, "distributed_type", None), "value", ""))
    strategies = [kind for flag, kind in _STRATEGIES.items() if getattr(given, flag)]
    asked["cpu"] = bool(given.cpu or asked["use_cpu"])
    asked["strategy"] = next(iter(strategies), kind if kind in _STRATEGIES.values() else None)
    asked["fsdp"] = {}
    if asked["strategy"] == "FSDP":
        chosen = {**vars(given), **(getattr(config, "fsdp_config", None) or {})}
        spoken = {name: str(value).lower() for name in FSDP_SETTINGS if (value := chosen.get(name)) is not None}
        asked["fsdp"] = {SHARDING: "true", **{name.upper(): value for name, value in spoken.items()}}
    return asked


def torchrun_words(asked: Mapping[str, Any]) -> list[str]:
    """The words for torchrun that start what was asked for; none where that is one process.

    Raises DeviceError: a strategy that Accelerate has dropped, or numbers that contradict each other.
    """
    machines, processes = asked["num_machines"] or 1, asked["num_processes"] or 1
    problems = []
    if asked["strategy"] not in (None, "FSDP"):
        problems.append(f"distributed_type: {REFUSED['ACCELERATE_USE_' + asked['strategy']]}")
    if processes % machines:
        problems.append(f"num_processes: {processes} on {machines} machines; it counts those of all machines together")
    if max(machines, processes) > 1 and not asked["cpu"]:
        import torch

        if torch.cuda.is_available():
            problems.append(f"num_processes: {processes}, and {torch.cuda.device_count()} GPU for them on this machine")
    if machines > 1 and not (asked["main_process_ip"] and asked["main_process_port"]):
        problems.append("main_process_ip and main_process_port: the machines have to know where to meet")
    if problems:
        raise refused_launch(problems)
    if max(machines, processes) == 1:
        return []
    words = ["--nproc_per_node", str(processes // machines)]
    if machines > 1:
        words += ["--nnodes", str(machines), "--node_rank", str(asked["machine_rank"] or 0)]
        return [*words, "--master_addr", asked["main_process_ip"], "--master_port", str(asked["main_process_port"])]
    port = asked["main_process_port"]
    return [*words, "--master_port", str(port)] if port else ["--standalone", *words]
