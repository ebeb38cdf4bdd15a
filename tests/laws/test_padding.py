"""Law 14: padding never changes an answer, for every kind on every family, whatever stands beside a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from adapterkit.adapted import Adapted
from adapterkit.recipe import HeadSettings
from tests.laws.cases import HEADS, KINDS, METHODS, OTHERS, head_for
from tests.laws.worlds import adapter, disturb, features_of, make_talkative, prepared
from tests.tasks.conftest import ROWS

LONG = "the committee met on Tuesday ; nobody took notes . seven small boats sailed past the old harbour at dawn"
"""More tokens than any of the short rows have, in every tokenizer."""

NEIGHBOURS: dict[str, dict[str, Any]] = {
    "text-classification": {"text": LONG, "label": "card"},
    "token-classification": {"tokens": LONG.split(), "tags": ["O"] * len(LONG.split())},
    "question-answering": {
        "question": "when did the boats sail ?",
        "context": LONG,
        "answers": {"text": ["dawn"], "answer_start": [LONG.index("dawn")]},
    },
    "multiple-choice": {"question": LONG, "choices": ["quick", "lazy", "a small boat", "a fox", LONG], "label": 0},
    "masked-lm": {"text": LONG},
    "causal-lm": {"text": LONG},
    "seq2seq-lm": {"source": LONG, "target": LONG},
}
"""Kind -> a row that is longer than the others, and has more choices."""

PREDICTED = {"masked-lm": {"text": "the quick [MASK] fox"}, "causal-lm": {"text": "Ada lived in"}}
"""Kind -> a row as `predict` wants it, where that is another one."""

TOLERANCE = 2e-5
"""Longer rows are summed in another order; fp32 has 7 digits, and logits here are below 30."""


@dataclass(frozen=True)
class Cell:
    """A kind on a family with a head; the method is the one whose turn it is."""

    kind: str
    family: str
    head: str
    method: str

    def __str__(self) -> str:
        return f"{self.family}-{self.kind}-{self.head}-{self.method}"


def cells() -> list[Cell]:
    methods = [name for name in METHODS if name != "none"]
    found = []
    for kind, row in KINDS.items():
        for turn, family in enumerate(row.families):
            heads = {"family"} if family not in row.own_only else set()
            heads.add(head_for(kind, family, turn + 1))
            found += [
                Cell(kind, family, head, methods[(turn + place) % len(methods)])
                for place, head in enumerate(sorted(heads))
            ]
    return [*found, *(Cell(case.kind, case.family, case.head, case.method) for case in OTHERS)]


def test_every_kind_on_every_family_is_padded() -> None:
    assert {(cell.kind, cell.family) for cell in cells()} == {
        (kind, family) for kind, row in KINDS.items() for family in row.families
    } | {(case.kind, case.family) for case in OTHERS}
    pooled = {HEADS[cell.head].kind for cell in cells() if cell.kind in ("text-classification", "multiple-choice")}
    assert pooled == {"family", "linear", "mlp", "attention"}
    assert NEIGHBOURS.keys() == KINDS.keys()


def trained(backbone: Any, cell: Cell, **settings: Any) -> Any:
    return adapter(
        backbone, cell.kind, METHODS[cell.method].settings, HEADS[cell.head], task=prepared(cell.kind, **settings)
    )


def close(found: Any, expected: Any) -> bool:
    """Equal, but for numbers that padding rounds in another way."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, float):
        return bool(found == pytest.approx(expected, rel=1e-4, abs=1e-4))
    return bool(found == expected)


def own_logits(adapted: Adapted, features: list[Any]) -> list[torch.Tensor]:
    """Logits of every feature of a batch, without those of padding and of choices that it does not have."""
    batch = adapted.task.collate(features, adapted.vocabulary)
    with torch.inference_mode():
        logits = adapted(batch.inputs)
    own = []
    for feature, row in zip(features, logits, strict=True):
        if adapted.task.kind == "text-classification":
            own.append(row)
        else:  # tokens of the target, else tokens or choices of the input
            sequence = feature.labels if adapted.task.kind == "seq2seq-lm" else feature.inputs["input_ids"]
            own.append(row[: len(sequence)])
    return own


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_a_row_has_the_same_logits_and_loss_alone_and_beside_longer_ones(
    tiny_backbones: Mapping[str, Any], cell: Cell
) -> None:
    with trained(tiny_backbones[cell.family], cell) as adapted:
        disturb(adapted)
        features = features_of(adapted, [*ROWS[cell.kind], NEIGHBOURS[cell.kind]])
        together = own_logits(adapted, features)
        task = adapted.task
        losses = []
        for feature, logits in zip(features, together, strict=True):
            (alone,) = own_logits(adapted, [feature])
            assert alone.shape == logits.shape
            assert torch.allclose(logits, alone, rtol=0, atol=TOLERANCE)
            batch = task.collate([feature], adapted.vocabulary)
            losses.append(task.loss(alone[None], batch))
        batch = task.collate(features, adapted.vocabulary, multiple=16)
        with torch.inference_mode():
            loss = task.loss(adapted(batch.inputs), batch)
        assert loss.weight == sum(each.weight for each in losses)
        assert loss.total.item() == pytest.approx(sum(each.total.item() for each in losses), rel=1e-5)


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_a_row_gets_the_same_answer_alone_and_beside_longer_ones(tiny_backbones: Mapping[str, Any], cell: Cell) -> None:
    with trained(tiny_backbones[cell.family], cell) as adapted:
        disturb(adapted)
        if adapted.task.generates:
            make_talkative(adapted)
        first = [PREDICTED[cell.kind]] if cell.kind in PREDICTED else []
        rows = [*first, *ROWS[cell.kind], NEIGHBOURS[cell.kind]]
        together = adapted.predict(rows)
        assert len(together) == len(rows)
        for row, answer in zip(rows, together, strict=True):
            assert close(adapted.predict([row])[0], answer)
        # In another order, and in other batches.
        assert close(adapted.predict(rows[::-1], batch_size=2)[::-1], together)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", KINDS["causal-lm"].families)
def test_a_prompt_that_leaves_little_room_takes_none_from_a_short_one(
    tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, family: str, beams: int
) -> None:
    """The backbone takes 128 tokens: a long prompt is cut to 64, and 65 more can be generated after it."""
    long = {"text": " ".join([LONG] * 6)}
    task = prepared("causal-lm", max_new_tokens=100, beams=beams)
    with adapter(tiny_backbones[family], "causal-lm", METHODS["lora"].settings, task=task) as adapted:
        disturb(adapted)
        make_talkative(adapted)
        generator: Any = adapted.module
        rooms = []

        def noting(generate: Any = generator.generate, **arguments: Any) -> Any:
            rooms.extend(arguments["stopping_criteria"][0]._limits)
            return generate(**arguments)

        monkeypatch.setattr(generator, "generate", noting)
        together = adapted.predict([PREDICTED["causal-lm"], long])
        assert sorted(rooms) == [65, 100]
        assert together == [adapted.predict([row])[0] for row in (PREDICTED["causal-lm"], long)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("masked-lm", "seq2seq-lm")])
def test_the_side_on_which_the_tokenizer_would_pad_plays_no_part(
    tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str, side: str
) -> None:
    backbone = tiny_backbones["llama"]
    head = HeadSettings() if kind == "multiple-choice" else HEADS["family"]
    answers = []
    for padding_side in (backbone.tokenizer.padding_side, side):
        monkeypatch.setattr(backbone.tokenizer, "padding_side", padding_side)
        with adapter(backbone, kind, METHODS["lora"].settings, head) as adapted:
            disturb(adapted)
            answers.append(adapted.predict([*ROWS[kind], NEIGHBOURS[kind]]))
    assert answers[0] == answers[1]
