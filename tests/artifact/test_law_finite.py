"""Weights that are finite and too large: nobody saves, imports or verifies them, and no row is answered by them."""

from __future__ import annotations

import pytest
import torch

from adapterkit.artifact import load, open_artifact, verify
from adapterkit.artifact.tensors import LARGEST, dump_tensors
from adapterkit.errors import ArtifactError, NotFiniteError
from adapterkit.host import Host
from adapterkit.host.bank import mounting
from adapterkit.recipe import LoraMethod
from tests.artifact.conftest import ROWS, make, write
from tests.artifact.mutations import TENSORS, pack, resign, unpack
from tests.laws import worlds
from tests.tasks.conftest import ROWS as OF_KINDS

KINDS = {
    "text-classification": "bert",
    "token-classification": "bert",
    "question-answering": "bert",
    "multiple-choice": "bert",
    "masked-lm": "bert",
    "causal-lm": "llama",
    "seq2seq-lm": "t5",
}


def overgrown(folder, state, factor):
    """An artifact with the same tensors, many times as large, well signed."""
    (folder / TENSORS).write_bytes(dump_tensors({name: (t * factor).bfloat16() for name, t in state.items()}))
    resign(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def world(request, tmp_path_factory, tiny_backbones):
    """A host of a sound adapter and of one that has grown out of all numbers; and rows for both."""
    kind, backbone = request.param, tiny_backbones[KINDS[request.param]]
    folders = [tmp_path_factory.mktemp("finite") / name for name in ("sound", "overgrown")]
    with worlds.adapter(backbone, kind, LoraMethod(rank=2, sites="all-linear")) as adapted:
        worlds.disturb(adapted)
        for folder in folders:
            worlds.write(folder, adapted, golden=OF_KINDS[kind])
        overgrown(folders[1], adapted.state(), 1e17)
    with Host(backbone) as host, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mounting, "PROVEN_ABOVE", LARGEST)  # so that there is something to ask
        for name, folder in zip(("sound", "overgrown"), folders, strict=True):
            host.mount(name, folder)
        yield host, folders, [dict(row) for row in OF_KINDS[kind][:2]]


def test_verify_names_the_rows_that_have_no_answer(world):
    host, (sound, other), _ = world
    assert verify(sound, host.backbone)
    report = verify(other, host.backbone)
    assert [check.name for check in report.checks if not check.ok] == ["golden rows"]
    assert "golden row 1: what the adapter computes is not finite" in str(report)


def test_mount_refuses_what_has_no_answer_to_its_golden_rows(world, monkeypatch):
    host, (sound, other), _ = world
    monkeypatch.setattr(mounting, "PROVEN_ABOVE", 1e6)
    with pytest.raises(ArtifactError, match="golden row 1: what the adapter computes is not finite"):
        host.mount("again", other)
    with pytest.raises(ArtifactError, match=r"weights of up to .* not proven"):
        host.swap("sound", other)
    assert "again" not in host
    monkeypatch.setattr(mounting, "PROVEN_ABOVE", 0.0)
    host.mount("again", sound)
    host.unmount("again")


def test_a_row_is_answered_by_a_number_or_named_and_its_neighbours_are_answered(world):
    host, (sound, other), rows = world
    with load(sound, host.backbone) as adapted:
        expected = adapted.predict(rows)
    asked = [("sound", rows[0]), ("overgrown", rows[0]), ("sound", rows[1])]
    with pytest.raises(NotFiniteError, match=r"row 2 \(overgrown\)"):
        host.predict(asked)
    first, lost, last = host.predict(asked, errors="return")
    assert isinstance(lost, NotFiniteError)
    assert str(first)[:20] == str(expected[0])[:20]
    assert str(last)[:20] == str(expected[1])[:20]
    with load(other, host.backbone) as adapted:
        with pytest.raises(NotFiniteError, match="1 row has no answer"):
            adapted.predict(rows[:1])
        assert [error.code for error in adapted.predict(rows, errors="return")] == ["not_finite"] * 2


def test_what_answers_with_no_number_is_not_saved(tiny_backbones, tmp_path):
    with make(tiny_backbones["bert"]) as adapted:
        adapted.load_state({name: tensor * 1e17 for name, tensor in adapted.state().items()})
        with pytest.raises(ArtifactError, match="golden row 4: what the adapter computes is not finite"):
            write(tmp_path / "out", adapted)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [2 * LARGEST, -2 * LARGEST, 3e38])
def test_a_weight_of_which_no_product_is_a_number_is_refused(saved, tiny_backbones, value):
    header, data = unpack((saved / TENSORS).read_bytes())
    raw = torch.tensor([value]).bfloat16().view(torch.uint8).numpy().tobytes()
    (saved / TENSORS).write_bytes(pack(header, raw + data[2:]))
    resign(saved)
    with pytest.raises(ArtifactError, match=r"holds values up to .*, expected at most 1e\+18"):
        open_artifact(saved)
    with make(tiny_backbones["bert"]) as adapted:
        state = adapted.state()
        name = min(state)
        adapted.load_state({**state, name: state[name] + value})
        with pytest.raises(ArtifactError, match=r"holds values up to .*, expected at most 1e\+18"):
            write(saved.parent / "other", adapted, golden=ROWS)
