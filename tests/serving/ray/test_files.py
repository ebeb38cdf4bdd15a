"""A file answered by a pool of hosts: the same lines as without Ray, in order, and on from where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from typer.testing import CliRunner

from adapterkit.cli import app
from adapterkit.errors import DataError, OutputError
from adapterkit.serving.ray import files
from adapterkit.serving.ray.files import Hosting, answer_file
from tests.serving.ray.test_replicas import near

CHUNK = 32
ROWS = [{"task": ("intent", "other")[n % 2], "text": f"my card {n}", "note": n} for n in range(2 * CHUNK + 10)]
BAD = (3, 2 * CHUNK + 1)


@pytest.fixture
def hosting(tiny_folders: Any, folders: Mapping[str, Path]) -> Hosting:
    """Two adapters, which rows name."""
    settings = {"backbone": str(tiny_folders["bert"]), "dtype": "float32", "slots": None}
    return Hosting({task: str(folders[task]) for task in ("intent", "other")}, settings=settings, cpus=0.5)


def test_a_file_is_answered_in_order_and_on_from_where_it_was_stopped_with_the_same_bytes(
    cluster: None, hosting: Hosting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_ROWS", CHUNK)
    file, output, part = (tmp_path / name for name in ("rows.parquet", "answers.jsonl", "answers.jsonl.part"))
    rows = [{**row, "task": "nobody"} if n in BAD else row for n, row in enumerate(ROWS)]
    pandas.DataFrame(rows).to_parquet(file)
    told: list[int] = []
    with pytest.raises(DataError) as bad:
        answer_file(hosting, file, output, progress=told.append)
    assert told == [0, CHUNK, CHUNK, 10]
    assert [problem.partition(":")[0] for problem in bad.value.problems] == [f"row {n + 1}" for n in BAD]
    assert not output.exists()
    whole = part.read_bytes()
    part.write_bytes(b"".join(whole.splitlines(keepends=True)[: CHUNK + 5]) + b'{"label": "half a li')  # as a kill does
    fewer = Hosting({"intent": hosting.sources["intent"]}, settings=hosting.settings)
    with pytest.raises(OutputError, match="begun otherwise") as refused:
        answer_file(fewer, file, output)
    assert refused.value.problems == ("sources: other than when it was begun",)
    told.clear()
    found = answer_file(replace(hosting, actors=1), file, output, skip=True, progress=told.append)
    assert told == [CHUNK, CHUNK, 10]
    assert (found.rows, found.bad) == (len(rows), 2)
    assert output.read_bytes() == whole
    assert {path.name for path in tmp_path.glob("answers*")} == {"answers.jsonl"}
    mounts = [word for name, folder in hosting.sources.items() for word in ("--mount", f"{name}={folder}")]
    own = ["--backbone", hosting.settings["backbone"], "--backbone-dtype", "float32", "--errors", "skip", "--json"]
    without_ray = CliRunner().invoke(app, ["predict", *mounts, str(file), *own])
    assert near(
        *([json.loads(line) for line in text.splitlines()] for text in (output.read_text(), without_ray.stdout))
    )


def test_what_cannot_be_begun_is_refused_before_ray_is_started(hosting: Hosting, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an extra")
    there, rows = tmp_path / "there.jsonl", tmp_path / "rows.jsonl"
    there.touch()
    with pytest.raises(OutputError, match="exists"):
        answer_file(hosting, rows, there)
    with pytest.raises(DataError, match="is no file"):
        answer_file(hosting, rows, tmp_path / "new.jsonl")
    rows.write_text("{}\n")
    with pytest.raises(DataError, match="cannot be told how to read"):
        answer_file(hosting, rows, tmp_path / "new.jsonl", reading={"delimiters": ";"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "there.jsonl"]
    for words in (["--ray"], ["--ray-actors", "2"], ["--output", "a.jsonl"]):
        assert CliRunner().invoke(app, ["predict", hosting.sources["intent"], str(rows), *words]).exit_code == 2
