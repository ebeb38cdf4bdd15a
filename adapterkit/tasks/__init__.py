"""Tasks: seven kinds of rows, labels, encodings, losses, metrics and answers, behind one protocol."""

from adapterkit.metrics import Metric as Metric
from adapterkit.recipe.columns import Column as Column
from adapterkit.tasks.protocol import GeneratingTask as GeneratingTask
from adapterkit.tasks.protocol import Task as Task
from adapterkit.tasks.table import TASKS as TASKS
from adapterkit.tasks.values import Batch as Batch
from adapterkit.tasks.values import Checked as Checked
from adapterkit.tasks.values import Encoded as Encoded
from adapterkit.tasks.values import Feature as Feature
from adapterkit.tasks.values import Loss as Loss
from adapterkit.tasks.values import Truncation as Truncation
from adapterkit.tasks.values import Vocabulary as Vocabulary
