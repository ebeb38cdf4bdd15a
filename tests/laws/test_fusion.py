"""Laws 2 to 6 and 9 for fusions, which need parts: every family, every placement and every kind.

Law 1 has another form for them: at birth a fusion adds the mean of what its parts add (tests/methods/fusion).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapterkit.adapted import PREFIX, Adapted, build
from adapterkit.artifact import load, read_parts, verify
from adapterkit.errors import ArtifactError, ContractError, MergeError
from adapterkit.recipe import FusionMethod, HeadSettings
from tests import tiny
from tests.laws.cases import HEADS, KINDS, head_for
from tests.laws.worlds import adapter, batch_of, disturb, features_of, logits_of, prepared, write
from tests.methods.cases import bits
from tests.methods.fusion.worlds import PLACEMENTS, settings_of
from tests.tasks.conftest import ROWS


@dataclass(frozen=True)
class Case:
    kind: str
    family: str
    placement: str
    head: str

    def __str__(self) -> str:
        return f"{self.family}-{self.kind}-{self.placement}-{self.head}"


def table() -> list[Case]:
    """Every family once, with placements and kinds in turn, and the kinds that are missing then."""
    cases = []
    for turn, family in enumerate(tiny.FAMILIES):
        kinds = [kind for kind, row in KINDS.items() if family in row.families]
        kind = kinds[turn % len(kinds)]
        cases.append(Case(kind, family, PLACEMENTS[turn % 3], head_for(kind, family, turn)))
    for turn, (kind, row) in enumerate(KINDS.items()):
        if kind not in {case.kind for case in cases}:
            family = row.families[-1]
            cases.append(Case(kind, family, PLACEMENTS[turn % 3], head_for(kind, family, turn)))
    return cases


CASES = table()
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_family_placement_and_kind_is_there() -> None:
    assert {case.family for case in CASES} == set(tiny.FAMILIES)
    assert {case.placement for case in CASES} == set(PLACEMENTS)
    assert {case.kind for case in CASES} == set(KINDS)


def write_parts(folder: Path, backbone: Any, kind: str, placement: str) -> FusionMethod:
    """Two artifacts in a folder, and the settings of their fusion."""
    for number, method in enumerate(settings_of(placement, cross_attention=kind == "seq2seq-lm")):
        with adapter(backbone, kind, method, HeadSettings(), seed=number) as part:
            disturb(part, 0.2, number)
            write(folder / f"part{number}", part)
    return FusionMethod(parts=(str(folder / "part0"), str(folder / "part1")))


@contextmanager
def built(backbone: Any, case: Case, method: FusionMethod, seed: int = 0) -> Iterator[Adapted]:
    parts = read_parts(method, backbone)
    with build(backbone, prepared(case.kind), method, HEADS[case.head], seed, parts=parts) as adapted:
        yield adapted


def trained(adapted: Adapted) -> dict[str, torch.nn.Parameter]:
    return {**adapted.method_parameters(), **adapted.head_parameters()}


def backward(adapted: Adapted) -> None:
    batch = batch_of(adapted)
    adapted.task.loss(adapted(batch.inputs), batch).mean.backward()


@every_case
def test_a_fusion_keeps_the_laws(tiny_backbones: Any, tmp_path: Path, case: Case) -> None:
    """One world for all of them, since it takes longer to make than to look at."""
    backbone = tiny_backbones[case.family]
    # The parts need not have learned the fusion's own kind of task.
    other = "text-classification" if case.kind != "seq2seq-lm" else case.kind
    if case.family in tiny.ENCODER_DECODERS:
        other = case.kind  # classes of another kind may hold one stack only
    method = write_parts(tmp_path, backbone, other, case.placement)
    flat = KINDS[case.kind].flat
    expected = []
    for folder in ("first", "second"):
        with built(backbone, case, method) as adapted:
            declared = trained(adapted)
            ids = {id(parameter) for parameter in declared.values()}
            frozen = {name: p for name, p in adapted.module.named_parameters() if id(p) not in ids}
            before = {name: bits(parameter) for name, parameter in frozen.items()}
            start = {name: parameter.detach().clone() for name, parameter in declared.items()}

            # Exactly the declared parameters get gradients; those of the parts are none of them.
            disturb(adapted)
            backward(adapted)
            silent = [n for n, p in declared.items() if p.grad is None or not p.grad.any()]
            assert [name for name in silent if not name.endswith(flat)] == []
            assert [name for name, parameter in frozen.items() if parameter.grad is not None] == []
            assert [name for name in declared if ".parts." in name] == []

            # A step changes all of them and no bit of the backbone or of a part.
            optimizer = torch.optim.AdamW(declared.values(), lr=1e-2)
            adapted.train()
            optimizer.step()
            optimizer.zero_grad()
            assert {name: bits(parameter) for name, parameter in frozen.items()} == before
            assert [n for n, p in declared.items() if torch.equal(start[n], p) and not n.endswith(flat)] == []

            # It cannot be merged.
            adapted.eval()
            with pytest.raises(MergeError, match="cannot be merged"):
                adapted.merge()
            write(tmp_path / folder, adapted, golden=ROWS[case.kind])
            expected.append(logits_of(adapted))
    assert torch.equal(*expected)

    # Saving twice gives the same bytes, which hold the fusion and the head and nothing else.
    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == files
    saved = load_file(tmp_path / "first" / "adapter_model.safetensors")
    assert saved.keys() == {f"{PREFIX}{name}" for name in declared}

    # Loading gives the same logits, and the golden rows the same answers.
    with load(tmp_path / "first", backbone) as loaded:
        assert torch.equal(logits_of(loaded), expected[0])
    assert verify(tmp_path / "first", backbone)


def test_on_a_backbone_in_bf16_a_fusion_stays_in_float32_and_its_parts_stay_as_they_are(
    fresh_backbone: Any, tmp_path: Path
) -> None:
    backbone = fresh_backbone("bert", dtype="bfloat16")
    case = Case("text-classification", "bert", "pfeiffer", "linear-mean")
    method = write_parts(tmp_path, backbone, case.kind, case.placement)
    with built(backbone, case, method) as adapted:
        disturb(adapted, 0.1)
        adapted.train()
        backward(adapted)
        adapted.eval()
        assert {parameter.dtype for parameter in trained(adapted).values()} == {torch.float32}
        assert all(parameter.grad is not None for parameter in trained(adapted).values())
        write(tmp_path / "fused", adapted)
        expected = logits_of(adapted)
    with load(tmp_path / "fused", backbone) as loaded:
        assert torch.equal(logits_of(loaded), expected)


def test_a_part_of_another_backbone_is_refused_naming_both_sides(tiny_backbones: Any, tmp_path: Path) -> None:
    mine, theirs = tiny_backbones["bert"], tiny_backbones["bert-plain"]
    method = write_parts(tmp_path, mine, "text-classification", "pfeiffer")
    with pytest.raises(ContractError) as caught:
        read_parts(method, theirs)
    assert mine.fingerprint[:4] in str(caught.value)
    assert theirs.fingerprint[:4] in str(caught.value)


def test_another_part_under_the_same_name_is_refused_naming_both_sides(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    case = Case("text-classification", "bert", "pfeiffer", "linear-mean")
    method = write_parts(tmp_path, backbone, case.kind, case.placement)
    with built(backbone, case, method) as adapted:
        write(tmp_path / "fused", adapted)
        digest = adapted.parts[0].sha256
    shutil.rmtree(tmp_path / "part0")
    with adapter(backbone, case.kind, settings_of("pfeiffer", 1)[0], HeadSettings()) as other:
        disturb(other, 0.3)
        assert features_of(other)
        write(tmp_path / "part0", other)
    with pytest.raises(ArtifactError, match="not those it was trained with") as caught:
        load(tmp_path / "fused", backbone)
    (problem,) = caught.value.problems
    assert problem.startswith(f"part0: trained with tensors {digest[:8]}…{digest[-4:]} (pfeiffer, relu, scale 1.0), ")
    assert "holds" in problem
