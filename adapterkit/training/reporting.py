"""The report of a run: what `report.page` draws, taken from the job, its journal and its scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterkit.metrics import Metric
from adapterkit.recipe.yaml_text import write_yaml
from adapterkit.report.page import render
from adapterkit.training.job import Job
from adapterkit.training.journal import read_journal
from adapterkit.training.row_notes import in_order

BARS = 24


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
