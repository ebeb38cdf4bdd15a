"""Generated answers on a host: rows of many adapters in one batch, each token by its row's own adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adapterkit.backbone import Backbone
from adapterkit.data import plan_batches
from adapterkit.host.batching import Forwards
from adapterkit.host.engine import Engine
from adapterkit.host.jobs import Job
from adapterkit.host.residency import Loaded
from adapterkit.tasks.protocol import GeneratingTask, Vocabulary

Take = Callable[[Sequence[Job], Sequence[int]], list[Loaded]]
"""Jobs, and how many rows of each are about to be answered -> their tensors."""


def generate(
    jobs: Sequence[Job],
    *,
    backbone: Backbone,
    engine: Engine,
    forwards: Forwards,
    vocabulary: Vocabulary,
    take: Take,
    batch_size: int,
) -> None:
    """Fill in the generated text of every feature of the jobs. Runs without gradients.

    Rows share a batch where they share the head, the number of beams and the room for new tokens, as one adapter's rows
    do in `Adapted.generate`.
    """
    groups: dict[tuple[Any, ...], list[tuple[Job, int]]] = {}
    for job in jobs:
        task = _task(job)
        for index, feature in enumerate(job.features):
            room = task.new_tokens(task.collate_prompts([feature], vocabulary))
            # A head that is trained belongs to one adapter; a borrowed one to all.
            owner = id(job) if job.head.template.shapes else 0
            key = (id(job.head.template), owner, task.settings.beams, room)
            groups.setdefault(key, []).append((job, index))
    for (_, _, beams, room), members in groups.items():
        lengths = [job.features[index].length_tokens for job, index in members]
        for part in plan_batches(lengths, batch_size=batch_size, shuffle=False):
            chosen = [members[place] for place in part]
            asked = list(dict.fromkeys(job for job, _ in chosen))
            counts = [sum(other is job for other, _ in chosen) for job in asked]
            loaded = dict(zip(asked, take(asked, counts), strict=True))
            order = engine.order([loaded[job].layers for job, _ in chosen])
            chosen = [chosen[place] for place in order]
            first = chosen[0][0]
            features = [job.features[index] for job, index in chosen]
            prompts = _task(first).collate_prompts(features, vocabulary).to(backbone.device)
            with engine.routed([loaded[job].layers for job, _ in chosen]) as trunk, forwards.narrow():
                model: Any = first.head.template.model(loaded[first].heads[first.name].tensors, trunk)
                ids_BT = model.generate(**prompts.inputs, max_new_tokens=room, num_beams=beams, do_sample=False)
            start = 0 if backbone.is_encoder_decoder else prompts.inputs["input_ids"].shape[1]
            for (job, index), ids in zip(chosen, ids_BT[:, start:].tolist(), strict=True):
                job.outputs[index] = _task(job).decode([ids], vocabulary)[0]


def _task(job: Job) -> GeneratingTask:
    task = job.head.task
    if not isinstance(task, GeneratingTask):
        raise TypeError(f"{task.kind} does not generate text")
    return task
