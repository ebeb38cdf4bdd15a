"""What is said of a run: in a few lines before it begins, and in its report: what `report.page` draws, taken from the
job, its journal and its scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from adapterkit.metrics import Metric
from adapterkit.recipe.yaml_text import write_yaml
from adapterkit.report.page import render
from adapterkit.training.job import Job
from adapterkit.training.journal import read_journal
from adapterkit.training.row_notes import in_order

BARS = 24
SHOWN = 10
"""Labels that are counted one by one; of more, the most and the least frequent."""


def header_of(job: Job) -> list[str]:
    """What a run is about to do, in a few lines: its rows, labels, lengths and parameters."""
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


def report_of(job: Job, metrics: Mapping[str, Mapping[str, Metric]], looked: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of a run that has ended.
    `metrics`: split -> metric -> value with its interval. `looked`: split -> what `look_at` found."""
    adapted, facts = job.adapted, job.rows.facts
    trained = sum(p.numel() for p in (*adapted.method_parameters().values(), *adapted.head_parameters().values()))
    name = "/".join(Path(job.recipe.backbone.name).parts[-2:])  # of a long path, what tells it apart
    labels: dict[str, dict[str, int]] = {}
    for split, counts in facts.label_counts.items():
        for label, count in counts.items():
            if adapted.task.is_countable(label):
                labels.setdefault(label, {})[split] = count
    return render(
        {
            "title": f"{job.output.name}: {adapted.task.kind} on {name}",
            "lead": f"{trained:,} trained parameters on a frozen backbone; the state with the best {job.rows.metric}",
            "command": job.command,
            "facts": [
                ["backbone", f"{job.recipe.backbone.name}, fingerprint {adapted.backbone.fingerprint[:12]}"],
                ["method", job.recipe.method.words],
                ["data", f"{facts.source}, digest {facts.digests.get('train', '–')[:12]}"],
                ["seed", str(job.recipe.training.seed)],
            ],
            "splits": [
                {**looked[split], "split": split, "metrics": {m: one.to_dict() for m, one in metrics[split].items()}}
                for split in ("test", "validation")
                if split in metrics
            ],
            "curve": _curve(job),
            "data": {
                "rows": [[split, count, facts.unusable.get(split, 0)] for split, count in in_order(facts.rows)],
                "labels": labels,
                "lengths": _lengths([feature.length_tokens for feature in job.features.get("train", ())]),
                "notes": job.rows.notes,
            },
            "recipe": write_yaml(job.recipe.to_dict()),
        }
    )


def _curve(job: Job) -> dict[str, Any]:
    metric, losses, validations = job.rows.metric, [], []
    for event in read_journal(job.folder / "journal.jsonl"):
        if event["event"] == "step" and event["loss"] is not None:
            losses.append((event["step"], event["loss"]))
        value = event["metrics"].get(metric) if event["event"] == "validation" else None
        if value is not None:  # not one that was NaN
            low, high = event.get("intervals", {}).get(metric, (None, None))
            validations.append({"step": event["step"], "value": value, "low": low, "high": high, "kept": event["kept"]})
    return {"metric": metric, "losses": losses, "validations": validations}


def _lengths(tokens: list[int]) -> list[tuple[float, float, int]]:
    """Rows by their length, in bars of equal width."""
    if not tokens:
        return []
    least, most = min(tokens), max(tokens)
    width = max(1, -(-(most - least + 1) // BARS))
    counts: dict[int, int] = {}
    for length in tokens:
        counts[(length - least) // width] = counts.get((length - least) // width, 0) + 1
    return [(least + k * width, least + (k + 1) * width, counts.get(k, 0)) for k in range(max(counts) + 1)]
