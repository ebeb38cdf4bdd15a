"""What a run is about to do, in a few lines: its rows, labels, lengths and parameters."""

from collections.abc import Mapping, Sequence
from statistics import median

from adapterkit.training.job import Job
from adapterkit.training.row_notes import in_order

SHOWN = 10
"""Labels that are counted one by one; of more, the most and the least frequent."""


def header_of(job: Job) -> list[str]:
    """The lines."""
    facts, task = job.rows.facts, job.adapted.task
    left_out = {split: f" ({count:,} left out)" for split, count in facts.unusable.items() if count}
    rows = [f"{split} {count:,}{left_out.get(split, '')}" for split, count in in_order(facts.rows)]
    kept = f"the state with the best {job.rows.metric}" if job.rows.validation else "the last state"
    lines = [f"rows: {', '.join(rows) or 'a stream'}; {kept} is kept"]
    if task.labels:
        lines.append(f"labels: {_counted(task.labels, facts.label_counts.get('train', {}))}")
    lengths = [feature.length_tokens for feature in job.features.get("train", ())]
    if lengths:
        lines.append(f"lengths: {min(lengths):,} to {max(lengths):,} tokens, median {median(lengths):,.0f}")
    learning = job.adapted.method_parameters(), job.adapted.head_parameters()
    method, head = (sum(parameter.numel() for parameter in each.values()) for each in learning)
    lines.append(f"trained: {method + head:,} parameters, {method:,} of the method and {head:,} of the head")
    return lines


def _counted(labels: Sequence[str], counts: Mapping[str, int]) -> str:
    """How many labels there are, and how often; of a stream, whose rows nobody has counted, their names."""
    names = sorted(labels, key=lambda label: (-counts[label], label)) if counts else list(labels)
    shown = [f"{label} {counts[label]:,}" if counts else label for label in names]
    if len(shown) > SHOWN:
        shown[SHOWN // 2 : -(SHOWN // 2)] = ["…"]
    return f"{len(labels):,} ({', '.join(shown)})"
