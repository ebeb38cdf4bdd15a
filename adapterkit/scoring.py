"""Score an adapter on rows, exactly, on one process or many: no row is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from adapterkit.adapted import Adapted
from adapterkit.data import shard
from adapterkit.metrics import Metric
from adapterkit.tasks.protocol import Feature, GeneratingTask, Row

if TYPE_CHECKING:
    from accelerate import Accelerator


def outputs_of(
    adapted: Adapted, features: Sequence[Feature], *, batch_size: int, accelerator: Accelerator | None = None
) -> list[Any]:
    """The task's output of every feature, in their order; each process computes its share and all get everything."""
    return share_out(features, lambda chosen: adapted.outputs(chosen, batch_size=batch_size), accelerator)


def score(
    adapted: Adapted,
    rows: Sequence[Row],
    features: Sequence[Feature] | None = None,
    *,
    batch_size: int = 64,
    resamples: int = 1000,
    generated: bool = True,
    outputs: Sequence[Any] | None = None,
    accelerator: Accelerator | None = None,
) -> dict[str, Metric]:
    """Metrics over usable rows, with 95 % bootstrap intervals.

    Args:
        features: of `encode(rows, …, "score")`, where they are at hand.
        resamples: of the bootstrap; 0 for none (low = high = value).
        generated: whether metrics of generated text are wanted too; they take a generation for every prompt.
        outputs: of `features`, where they are at hand.
    """
    task = adapted.task
    if features is None:
        features = task.encode(rows, adapted.vocabulary, "score").features
    if outputs is None:
        outputs = outputs_of(adapted, features, batch_size=batch_size, accelerator=accelerator)
    metrics = task.score(rows, features, outputs, resamples=resamples)
    if generated and isinstance(task, GeneratingTask) and task.generated_metrics:
        texts = texts_of(adapted, rows, batch_size=batch_size, accelerator=accelerator)
        metrics = {**task.score_texts(rows, texts, resamples=resamples), **metrics}
    return metrics


def texts_of(
    adapted: Adapted, rows: Sequence[Row], *, batch_size: int, accelerator: Accelerator | None = None
) -> list[str]:
    """The generated text of every group of rows (`GeneratingTask.groups`), as `outputs_of` shares work out."""
    task = adapted.task
    if not isinstance(task, GeneratingTask):
        return []
    first = [rows[group[0]] for group in task.groups(rows)]
    prompts = task.encode(first, adapted.vocabulary, "predict").features
    if adapted.sharded:  # texts end at different lengths, and all processes have to compute as often
        return adapted.generate(prompts, batch_size=batch_size)
    return share_out(prompts, lambda chosen: adapted.generate(chosen, batch_size=batch_size), accelerator)


def share_out(
    items: Sequence[Any], compute: Callable[[Sequence[Any]], Sequence[Any]], accelerator: Accelerator | None
) -> list[Any]:
    """Let every process compute its share of the items, and give all results, in order, to all."""
    if accelerator is None or accelerator.num_processes == 1 or not items:
        return list(compute(items))
    from accelerate.utils import gather_object

    count = accelerator.num_processes
    indices = shard(range(len(items)), accelerator.process_index, count)
    # All shares are made equally long, so that every process computes as often.
    asked = [*indices, *[0] * (-(-len(items) // count) - len(indices))]
    results = compute([items[index] for index in asked])[: len(indices)]
    gathered = gather_object([list(zip(indices, results, strict=True))])
    return [result for _, result in sorted((pair for some in gathered for pair in some), key=lambda pair: pair[0])]
