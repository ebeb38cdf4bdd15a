from __future__ import annotations

import json

import pytest

from adapterkit.artifact import open_artifact
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CARD, CONFIG, MANIFEST, TENSORS, open_manifest
from tests.artifact.mutations import resign


def test_a_manifest_is_read_from_its_folder(saved):
    assert open_manifest(saved).model_dump(mode="json", exclude_unset=True) == json.loads(
        (saved / MANIFEST).read_bytes()
    )


def test_a_card_may_be_edited(saved):
    (saved / CARD).write_text("My own words.", encoding="utf-8")
    assert open_manifest(saved).kind == "text-classification"


def change(file, old, new):
    raw = file.read_bytes()
    assert old in raw
    file.write_bytes(raw.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / TENSORS).unlink(), "adapter_model.safetensors: missing"),
        (
            lambda folder: change(folder / TENSORS, b'"format":"pt"', b'"format":"tf"'),
            "adapter_model.safetensors: its SHA-256 is not the one in",
        ),
        (
            lambda folder: change(folder / CONFIG, b'"r": 2', b'"r": 3'),
            "adapter_config.json: its SHA-256 is not the one in",
        ),
        (lambda folder: (folder / CONFIG).write_bytes(b"{}"), "adapter_config.json: 2 bytes, expected"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"{"), "adapterkit.json: not JSON"),
        (lambda folder: (folder / "evil.py").touch(), "evil.py: not a file of an artifact"),
    ],
)
def test_what_is_damaged_is_refused_in_the_words_of_the_whole_artifact(saved, damage, words):
    damage(saved)
    refusals = []
    for read in (open_manifest, open_artifact):
        with pytest.raises(ArtifactError) as caught:
            read(saved)
        refusals.append(caught.value)
    mine, whole = refusals
    assert mine.problems[0].startswith(words)
    assert set(mine.problems) <= set(whole.problems)
    assert mine.summary.partition(" (")[0] == whole.summary.partition(" (")[0]
    assert mine.remedy == whole.remedy


def test_a_kind_that_nobody_knows_is_refused(saved):
    content = json.loads((saved / MANIFEST).read_bytes())
    content["task"]["kind"] = "mind-reading"
    resign(saved, content)
    with pytest.raises(ArtifactError, match=r"task\.kind: found 'mind-reading', expected one of text-classification"):
        open_manifest(saved)
