"""An adapter of one domain answering another with its own head, where both speak of the same labels."""

from adapterkit.data import as_rows
from adapterkit.evaluation.evaluating import SEED
from adapterkit.evaluation.outcome import answer_rows
from adapterkit.evaluation.probing.side_by_side import Looked
from adapterkit.records import MetricRecord


def answers_to(looked: Looked) -> dict[str, dict[str, MetricRecord]]:
    """Adapter -> the main metric of its own answers to the rows, of those that know all of their labels."""
    asked, found = looked.asked, {}
    for subject in looked.subjects:
        artifact = subject.artifact
        if artifact is None:
            continue
        task = artifact.task
        same = (task.kind, task.problem) == (asked.task.kind, asked.task.problem)
        if not same or not set(asked.task.labels) <= set(task.labels):
            continue
        usable = as_rows(task.check_rows(asked.rows, "score").rows)
        metrics = answer_rows(artifact, usable, subject.backbone).metrics(seed=SEED)
        found[subject.name] = {task.main_metric: MetricRecord.of(metrics[task.main_metric])}
    return found
