from __future__ import annotations

import json

import pytest
import torch

from adapterkit.artifact import verify
from adapterkit.artifact.golden import TOLERANCE
from adapterkit.artifact.verification import NAMES
from tests.artifact.mutations import CONFIG, MANIFEST, resign


def outcomes(report):
    return {check.name: check.ok for check in report.checks}


def test_a_whole_artifact_passes_every_check(saved, tiny_backbones):
    report = verify(saved, tiny_backbones["bert"])
    assert outcomes(report) == dict.fromkeys(NAMES, True)
    assert report.ok
    assert "4 answered as when they were saved" in str(report)


def test_the_backbone_can_be_named(saved, tiny_folders):
    assert verify(saved, tiny_folders["bert"]).ok
    assert verify(saved).ok


def test_a_damaged_file_stops_the_other_checks(saved, tiny_backbones):
    (saved / CONFIG).unlink()
    report = verify(saved, tiny_backbones["bert"])
    assert not any(outcomes(report).values())
    assert list(outcomes(report)) == list(NAMES)
    assert report.checks[0].detail == "adapter_config.json: missing"
    assert report.checks[1].detail == "not looked at, since files failed"


def test_what_is_no_folder_fails_as_files(tmp_path, tiny_backbones):
    assert not verify(tmp_path / "nowhere", tiny_backbones["bert"]).checks[0].ok


def test_an_edited_card_fails_alone(saved, tiny_backbones):
    (saved / "README.md").write_text("# Mine")
    report = verify(saved, tiny_backbones["bert"])
    assert outcomes(report) == {**dict.fromkeys(NAMES, True), "card": False}
    assert not report


def test_another_backbone_fails_as_contract(saved, tiny_backbones):
    report = verify(saved, tiny_backbones["bert-plain"])
    assert outcomes(report) == {"files": True, "card": True, "contract": False, "tensors": False, "golden rows": False}
    assert "fingerprint" in report.checks[2].detail


@pytest.mark.parametrize("edit", ["number", "prediction", "missing number", "no rows"])
def test_another_answer_than_the_stored_one_fails_as_golden_rows(saved, tiny_backbones, edit):
    manifest = json.loads((saved / MANIFEST).read_bytes())
    row = manifest["golden"]["rows"][0]
    if edit == "number":
        row["numbers"][0] += 10 * TOLERANCE["float32"] * max(1, *map(abs, row["numbers"]))
    elif edit == "prediction":
        row["prediction"]["label"] = "something else"
    elif edit == "missing number":
        row["numbers"].pop()
    else:
        manifest["golden"]["rows"] = []
    resign(saved, manifest)
    report = verify(saved, tiny_backbones["bert"])
    assert outcomes(report) == {**dict.fromkeys(NAMES, True), "golden rows": False}


def test_golden_rows_pass_on_the_same_backbone_in_another_dtype(saved, fresh_backbone):
    assert verify(saved, fresh_backbone("bert", dtype="bfloat16")).ok


def test_verifying_leaves_the_backbone_as_it_was(saved, tiny_backbones):
    backbone = tiny_backbones["bert"]
    before = {name: tensor.clone() for name, tensor in backbone.trunk.state_dict().items()}
    verify(saved, backbone)
    after = backbone.trunk.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
