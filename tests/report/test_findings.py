"""Records about runs: which are found, and the page about them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapterkit.cli import app
from adapterkit.errors import ArtifactError, DataError
from adapterkit.manifest import FINDINGS, open_manifest
from adapterkit.records import RECORDS, AblationRecord, ReportRecord
from adapterkit.report.finding import find_records
from adapterkit.report.judged import gains_picture, report_page
from tests.artifact.conftest import saved, saved_once
from tests.records.made import DIGEST, HOSTILE, OTHER, made
from tests.report.test_page import Tags

__all__ = ["saved", "saved_once"]

KINDS = [name for name in RECORDS if name not in ("report", "search")]


def write(file: Path, record: Any) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(record), encoding="utf-8")
    return file


def test_records_that_name_a_run_are_found_in_and_beside_it(saved: Path) -> None:
    own = open_manifest(saved).sha256
    inside = {kind for kind in KINDS if kind != "ablation"}  # which names no artifact
    for kind in KINDS:
        write(saved / "records" / f"{kind}.json", made(kind, own))
        write(saved.parent / f"{kind}.json", made(kind, OTHER if kind == "evaluation" else "ef" * 32))
    write(saved.parent / "again.json", made("evaluation", own))  # the same once more
    (saved.parent / "broken.json").write_text("{")
    write(saved.parent / "settings.json", {"schema": ["no record"]})
    found = find_records([saved])
    assert [record["schema"] for record in found.records] == [
        f"adapterkit.{kind}/1" for kind in KINDS if kind in inside
    ]
    assert (found.runs[0].name, found.runs[0].sha256) == (saved.name, own)
    assert ReportRecord.model_validate(json.loads(json.dumps(found.to_dict()))) == found


def test_records_that_are_named_count_whatever_they_are_about(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{kind}.json", made(kind)) for kind in KINDS]
    assert len(find_records([], files).records) == len(KINDS)
    (tmp_path / "none.json").write_text("{}")
    wrong = write(tmp_path / "wrong.json", {**made("probe"), "seed": "x"})
    with pytest.raises(DataError) as refused:
        find_records([], [tmp_path / "none.json", wrong, tmp_path / "missing.json"])
    assert len(refused.value.problems) == 3
    with pytest.raises(DataError, match="nothing is named"):
        find_records([])
    with pytest.raises(ArtifactError):
        find_records([tmp_path])


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_shows_every_kind_of_record_and_escapes_its_texts(kind: str) -> None:
    found = ReportRecord.model_validate({**made("report"), "records": [made(kind, name=HOSTILE)]})
    page = report_page(found, HOSTILE)
    tags = Tags(page)
    assert {tag for tag, _ in tags.found} & {"script", "img", "link", "iframe"} == set()
    assert not [attrs for _, attrs in tags.found if {"src", "href", "onerror"} & set(attrs)]
    assert HOSTILE in " ".join(tags.texts)
    assert "0.75" in page or "75.0%" in page
    assert page == report_page(found, HOSTILE)


def test_a_page_of_runs_says_what_they_are_and_where_nothing_was_found(saved: Path) -> None:
    page = report_page(find_records([saved]))
    assert "No record is about it" in page
    assert open_manifest(saved).sha256[:12] in page


def test_gains_are_drawn_over_parameters_and_over_milliseconds() -> None:
    record = made("ablation")
    more = {**record["groups"][0], "settings": {"head.kind": "mlp"}, "parameters": 3000, "mean": 0.875}
    picture = gains_picture(AblationRecord.model_validate({**record, "groups": [more, *record["groups"]]}))
    assert picture.count("<circle") == 4  # two settings in two pictures; the third has no score
    assert "trained parameters" in picture
    assert "milliseconds a step" in picture
    tops = [float(top) for top in re.findall(r'<svg y="([\d.]+)"', picture)]
    assert tops == [0.0, 240.0]


def test_the_command_writes_a_page_beside_the_card_that_links_it(saved: Path, tmp_path: Path) -> None:
    write(saved / "records" / "attribution.json", made("attribution", open_manifest(saved).sha256))
    done = CliRunner().invoke(app, ["report", str(saved)])
    assert done.exit_code == 0, done.output
    assert "Where the gain is from" in (saved / FINDINGS).read_text(encoding="utf-8")
    open_manifest(saved)  # and it is an artifact still
    told = CliRunner().invoke(app, ["report", str(saved), "--json"])
    assert ReportRecord.model_validate(json.loads(told.stdout)).records[0]["metric"] == "accuracy"
    alone = write(tmp_path / "probe.json", made("probe"))
    assert CliRunner().invoke(app, ["report", "--record", str(alone)]).exit_code == 1
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", "--record", str(alone), "--output", str(page)]).exit_code == 0
    assert DIGEST[:12] in page.read_text(encoding="utf-8")
