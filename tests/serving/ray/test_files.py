"""A file answered by a pool of hosts: the same lines as without Ray, in order, and on from where it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas
import pytest
from typer.testing import CliRunner

from adapterkit.cli import app
from adapterkit.errors import DataError, OutputError
from adapterkit.serving.ray import files
from adapterkit.serving.ray.files import CHUNK_ROWS, Hosting, answer_file

ROWS = [{"task": ("intent", "other")[n % 2], "text": f"my card {n}", "note": n} for n in range(2 * CHUNK_ROWS + 100)]


@pytest.fixture
def hosting(tiny_folders: Any, folders: Mapping[str, Path]) -> Hosting:
    """Two adapters, which rows name."""
    settings = {"backbone": str(tiny_folders["bert"]), "dtype": "float32", "slots": None}
    return Hosting({task: str(folders[task]) for task in ("intent", "other")}, settings=settings)


def without_ray(hosting: Hosting, file: Path) -> list[Any]:
    """What `adapterkit predict` prints, in one process."""
    mounts = [word for name, folder in hosting.sources.items() for word in ("--mount", f"{name}={folder}")]
    own = ["--backbone", hosting.settings["backbone"], "--backbone-dtype", "float32", "--errors", "skip", "--json"]
    done = CliRunner().invoke(app, ["predict", *mounts, str(file), *own])
    assert done.exit_code in (0, 3), done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def lines_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_row_of_a_parquet_file_is_answered_in_its_place(cluster: None, hosting: Hosting, tmp_path: Path) -> None:
    file, output = tmp_path / "rows.parquet", tmp_path / "answers.jsonl"
    pandas.DataFrame(ROWS).to_parquet(file)
    found = answer_file(hosting, file, output)
    assert (found.rows, found.bad, found.problems) == (len(ROWS), 0, ())
    expected = without_ray(hosting, file)
    answers = lines_of(output)
    assert [one["label"] for one in answers] == [one["label"] for one in expected]
    assert [one["score"] for one in answers] == pytest.approx([one["score"] for one in expected], rel=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "rows.parquet"]
    with pytest.raises(OutputError, match="exists"):
        answer_file(hosting, file, output)


def test_what_was_begun_is_gone_on_with_and_ends_with_the_same_bytes(
    cluster: None, hosting: Hosting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, whole, output = tmp_path / "rows.csv", tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    pandas.DataFrame(ROWS).to_csv(file, index=False)
    answer_file(hosting, file, whole, actors=1)

    class EnoughError(Exception):
        pass

    def stop(rows: int) -> None:
        if rows:
            raise EnoughError

    with pytest.raises(EnoughError):
        answer_file(hosting, file, output, progress=stop)
    part = tmp_path / "answers.jsonl.part"
    with part.open("ab") as torn:
        torn.write(b'{"label": "half a li')
    told: list[int] = []
    with pytest.raises(OutputError, match="begun otherwise") as other:
        answer_file(Hosting({"intent": hosting.sources["intent"]}, settings=hosting.settings), file, output)
    assert other.value.problems == ("sources: other than when it was begun",)
    answer_file(hosting, file, output, progress=told.append)
    assert told == [CHUNK_ROWS, CHUNK_ROWS, 100]
    assert output.read_bytes() == whole.read_bytes()
    assert not part.exists()


def test_bad_rows_leave_no_output_and_skipping_them_keeps_what_was_answered(
    cluster: None, hosting: Hosting, tmp_path: Path
) -> None:
    file, output = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    rows = [json.dumps(row) for row in ROWS[:4]]
    file.write_text("\n".join([rows[0], '{"task": "nobody", "text": "a"}', "{broken", *rows[1:]]) + "\n")
    with pytest.raises(DataError) as refused:
        answer_file(hosting, file, output)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["row 2", "row 3"]
    assert not output.exists()
    found = answer_file(hosting, file, output, skip=True)
    assert (found.rows, found.bad) == (6, 2)
    expected = without_ray(hosting, file)
    assert [one.get("label") for one in lines_of(output)] == [one.get("label") for one in expected]
    assert [one.get("error", {}).get("code") for one in lines_of(output)] == [
        one.get("error", {}).get("code") for one in expected
    ]
