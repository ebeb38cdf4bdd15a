"""Records are read as they were written, or refused with every field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit.errors import AdapterkitError, DataError
from adapterkit.metrics import Metric
from adapterkit.records import RECORDS, EvaluationRecord, MetricRecord, read_record, record_schema

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
    undefined = MetricRecord.of(Metric(float("nan"), float("-inf"), float("inf")))
    assert (undefined.value, undefined.low, undefined.high) == (None, None, None)


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_has_a_schema_with_its_own_name(name: str) -> None:
    told = record_schema(name)
    assert told["properties"]["schema"]["const"].startswith(f"adapterkit.{name}/")
    assert {"seed", "made_with"} <= set(told["required"])
