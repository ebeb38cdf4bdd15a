"""Before the first step processes agree on recipe, rows, labels, backbone, versions, checkpoint and weights.

The weights of all processes begin equal because everything that they come from is: none has to be sent.
"""

import json
from hashlib import sha256
from typing import Any

from accelerate.utils import gather_object

from adapterkit.artifact.saving import package_versions
from adapterkit.artifact.tensors import dump_tensors
from adapterkit.errors import TrainingError
from adapterkit.training.job import Job
from adapterkit.training.standing import INDEX, Progress, by_path

MOST_SHOWN = 200
"""Characters of a value that an error shows."""


def check_agreement(job: Job, progress: Progress) -> None:
    """Compare what the processes of a run have. Every process calls this.
    Raises TrainingError: in every process, with all that differs and which process has what."""
    accelerator = job.accelerator
    if accelerator.num_processes == 1:
        return
    index = job.checkpoint / INDEX
    own: dict[str, Any] = {
        **by_path(job.made_of()),
        "labels": sha256(repr(job.adapted.task.labels).encode()).hexdigest(),
        **{f"versions.{name}": version for name, version in package_versions().items()},
        "checkpoint": sha256(index.read_bytes()).hexdigest() if progress.steps else "none",
        "weights before the first step": sha256(dump_tensors(job.adapted.state())).hexdigest(),
    }
    every: list[dict[str, Any]] = gather_object([own])
    problems = []
    for path in dict.fromkeys(path for facts in every for path in facts):
        holders: dict[str, list[str]] = {}
        for process, facts in enumerate(every):
            holders.setdefault(json.dumps(facts.get(path), ensure_ascii=False), []).append(str(process))
        if len(holders) > 1:
            parts = [f"{value[:MOST_SHOWN]} on process {', '.join(processes)}" for value, processes in holders.items()]
            problems.append(f"{path}: {'; '.join(parts)}")
    if problems:
        error = TrainingError(
            f"the processes of this run do not train the same ({len(problems)} differences)",
            problems,
            "Give all of them the same recipe, files, backbone and packages.",
        )
        error.shared = not accelerator.is_main_process
        raise error
