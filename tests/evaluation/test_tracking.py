"""What trackers get of a record, read back from what TensorBoard wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adapterkit.errors import OutputError, RecipeError
from adapterkit.evaluation.tracking import track
from adapterkit.records import RECORDS, figures_of
from tests.records.made import made


def test_a_tracker_gets_every_figure_of_a_record(tmp_path: Path) -> None:
    record = RECORDS["attribution"].model_validate(made("attribution"))
    track(record, ["tensorboard"], tmp_path / "run")
    (events,) = (tmp_path / "run" / "training" / "attribution").glob("events*")
    read = EventAccumulator(str(events)).Reload()
    told = {name: read.Scalars(name)[0].value for name in read.Tags()["scalars"]}
    assert told == {f"attribution/{name}": value for name, value in figures_of(record).items()}
    assert told["attribution/gains/head/difference/b"] == 0.75


def test_a_tracker_that_is_not_there_or_cannot_write_is_named(tmp_path: Path) -> None:
    record = RECORDS["attribution"].model_validate(made("attribution"))
    with pytest.raises(RecipeError, match="found 'nobody'"):
        track(record, ["nobody"], tmp_path)
    (tmp_path / "training").write_text("")
    with pytest.raises(OutputError, match="cannot be written by trackers"):
        track(record, ["tensorboard"], tmp_path)
