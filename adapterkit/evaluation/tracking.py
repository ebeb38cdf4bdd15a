"""Records of evaluations for trackers: TensorBoard, Weights & Biases, MLflow and whatever else Accelerate knows."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from adapterkit.errors import OutputError
from adapterkit.records import Record, figures_of, identity_of
from adapterkit.training.standing import RUN_FOLDER
from adapterkit.training.trackers import tracker_names


def track(record: Record, names: Sequence[str], folder: str | Path | None = None) -> None:
    """Hand a record to trackers, as a recipe names them: its figures as values, and what it is about as the run's
    configuration. What is written to the disk goes to the folder of a run, or to the working folder.

    Raises RecipeError: a tracker that is not installed; OutputError: a tracker cannot write.
    """
    tracker_names(names)
    place = Path(folder or ".") / RUN_FOLDER
    kind = record.form.partition("/")[0].rpartition(".")[2]
    accelerator = Accelerator(mixed_precision="no", cpu=True, log_with=list(names), project_dir=str(place))
    try:
        accelerator.init_trackers(kind, config=identity_of(record))
        accelerator.log({f"{kind}/{name}": value for name, value in figures_of(record).items()}, step=0)
        for tracker in accelerator.trackers:
            tracker.finish()
    except OSError as error:
        raise OutputError(f"{place} cannot be written by trackers", [error.strerror or str(error)]) from error
