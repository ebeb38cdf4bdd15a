from __future__ import annotations

import json
import random
import shutil
from collections import Counter

import pytest
import torch

from adapterkit.artifact import load
from adapterkit.errors import AdapterkitError
from tests.artifact.conftest import ROWS, logits
from tests.artifact.mutations import ACTS, MANIFEST, mutate

PARTS, EACH = 10, 100


@pytest.mark.parametrize("part", range(PARTS))
def test_every_damaged_artifact_answers_the_same_or_is_refused(saved_once, tmp_path, tiny_backbones, part):
    """1,000 mutations, seeded. What loads says the same: the same logits, labels and predictions."""
    backbone = tiny_backbones["bert"]
    with load(saved_once, backbone) as whole:
        expected, predictions = logits(whole), whole.predict(ROWS[:3])
    outcomes = Counter()
    for number in range(part * EACH, (part + 1) * EACH):
        folder = tmp_path / str(number)
        shutil.copytree(saved_once, folder)
        done = mutate(folder, random.Random(number))
        try:
            adapted = load(folder, backbone)
        except AdapterkitError as error:
            outcomes["refused"] += 1
            outcomes["endless message"] += len(str(error)) > 20_000
        else:
            outcomes["loaded"] += 1
            with adapted:
                if not says_so_itself(folder, saved_once):
                    assert torch.equal(logits(adapted), expected), done
                    assert adapted.predict(ROWS[:3]) == predictions, done
        shutil.rmtree(folder)
    # Most are refused; what changes nothing (spaces, a golden row, a name of the data) loads.
    assert 0.75 * EACH <= outcomes["refused"] < EACH
    assert outcomes["refused"] + outcomes["loaded"] == EACH
    assert not outcomes["endless message"]


def says_so_itself(folder, original) -> bool:
    """Whether a manifest that somebody signed again states another alpha or other labels.

    That is an adapter of its own, honestly described; nobody could tell it from one that was trained so.
    """
    ours, theirs = (json.loads((where / MANIFEST).read_bytes()) for where in (folder, original))
    return ours["sha256"] != theirs["sha256"] and any(
        ours[field] != theirs[field] for field in ("method", "task", "head")
    )


def test_every_way_to_damage_an_artifact_is_tried():
    tried = Counter(random.Random(number).choice(ACTS) for number in range(PARTS * EACH))
    assert set(tried) == set(ACTS)
    assert min(tried.values()) >= 20
