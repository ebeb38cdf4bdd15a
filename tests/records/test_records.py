"""Records are read as they were written, or refused with every field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from adapterkit.cli.schema import Schema
from adapterkit.errors import AdapterkitError, DataError
from adapterkit.metrics import Metric
from adapterkit.records import (
    RECORDS,
    EvaluationRecord,
    MetricRecord,
    figures_of,
    identity_of,
    read_record,
    record_schema,
)
from tests.records.made import made

DIGEST = "ab" * 32


def evaluation(**changed: Any) -> dict[str, Any]:
    """A whole record of an evaluation, in JSON values."""
    return {
        "schema": "adapterkit.evaluation/1",
        "made_with": {"python": "3.12.0"},
        "seed": 0,
        "answering": {
            "sha256": DIGEST,
            "kind": "regression",
            "version": 1,
            "parent": None,
            "backbone": "b",
            "revision": None,
            "fingerprint": DIGEST,
            "dtype": "float32",
        },
        "data": {"source": "test.jsonl", "rows": 2, "unusable": 0, "digest": DIGEST},
        "resamples": 1000,
        "metrics": {"mse": {"value": 0.5, "low": 0.25, "high": None, "higher_is_better": False, "how": ""}},
        "labels": {},
        "calibration": None,
        **changed,
    }


def write(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "record.json"
    file.write_text(json.dumps(content))
    return file


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(EvaluationRecord, write(tmp_path, evaluation())).to_dict() == evaluation()


def test_every_field_that_is_wrong_is_named(tmp_path: Path) -> None:
    wrong = evaluation(schema="adapterkit.evaluation/2", seed="x", more=1)
    with pytest.raises(DataError) as caught:
        read_record(EvaluationRecord, write(tmp_path, wrong))
    assert {problem.split(": ")[1] for problem in caught.value.problems} == {"schema", "seed", "more"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seed": NaN}', b'{"seed": 0, "seed": 1}'])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(content)
    with pytest.raises(AdapterkitError):
        read_record(EvaluationRecord, file)
    with pytest.raises(DataError, match="cannot be read"):
        read_record(EvaluationRecord, tmp_path / "missing.json")


def test_a_figure_that_is_not_defined_is_null() -> None:
    undefined = MetricRecord.model_validate(Metric(float("nan"), float("-inf"), float("inf")))
    assert (undefined.value, undefined.low, undefined.high) == (None, None, None)


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_has_a_schema_with_its_own_name(name: str) -> None:
    told = record_schema(name)
    assert told["properties"]["schema"]["const"].startswith(f"adapterkit.{name}/")
    assert {"seed", "made_with"} <= set(told["required"])


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_every_kind_is_read_and_fits_its_schema(name: str, tmp_path: Path) -> None:
    told = made(name)
    assert read_record(RECORDS[name], write(tmp_path, told)).to_dict() == told
    schema = record_schema(name)
    assert set(schema["required"]) <= told.keys() <= set(schema["properties"])
    assert name in get_args(Schema)


def test_trackers_get_every_figure_by_a_path_and_what_a_record_is_about() -> None:
    record = EvaluationRecord.model_validate(evaluation())
    assert figures_of(record) == {"metrics/mse/value": 0.5, "metrics/mse/low": 0.25}
    about = identity_of(record)
    assert (about["answering/sha256"], about["data/rows"], about["made_with/python"]) == (DIGEST, 2, "3.12.0")
    probe = figures_of(RECORDS["probe"].model_validate(made("probe")))
    assert probe["representations/run/layers/3/accuracy/value"] == 0.75
