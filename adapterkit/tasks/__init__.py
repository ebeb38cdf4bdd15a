"""Tasks: seven kinds of rows, labels, encodings, losses, metrics and answers, behind one protocol."""

from adapterkit.metrics import Metric
from adapterkit.recipe.columns import Column
from adapterkit.tasks.protocol import GeneratingTask, Task
from adapterkit.tasks.table import TASKS
from adapterkit.tasks.values import Batch, Checked, Encoded, Feature, Loss, Truncation, Vocabulary

__all__ = [
    "TASKS",
    "Batch",
    "Checked",
    "Column",
    "Encoded",
    "Feature",
    "GeneratingTask",
    "Loss",
    "Metric",
    "Task",
    "Truncation",
    "Vocabulary",
]
