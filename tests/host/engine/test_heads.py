"""Heads at run time answer as the headed model of training does, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertForSequenceClassification

from adapterkit.adapted import PREFIX, Adapted
from adapterkit.errors import ArtifactError, HeadError
from adapterkit.host.answers.batching import Forwards, Piece
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.heads import States, Templates, logits_on_own_rows
from adapterkit.recipe import HeadSettings
from tests.laws import cases, worlds

OWN = ("bert", "llama", "t5")
"""Own heads read states in the same way everywhere: one family of each build is enough."""
CASES = [
    (kind, family, head)
    for kind, row in cases.KINDS.items()
    for family in row.families
    for head in dict.fromkeys(row.heads)
    if (family in OWN if head != "family" else family not in row.own_only)
]


def shifted(ids_BT: Tensor, start: int) -> Tensor:
    """What an encoder-decoder's classification classes feed their decoder."""
    return torch.cat([torch.full_like(ids_BT[:, :1], start), ids_BT[:, :-1]], dim=1)


def states_of(adapted: Adapted, inputs: Mapping[str, Tensor], reads: str) -> States:
    """What the trunk computes for a batch, by calling it as transformers' classes do."""
    backbone = adapted.backbone
    flat = {name: tensor.flatten(0, -2) for name, tensor in inputs.items()}
    with torch.inference_mode(), adapted.autocast():
        if reads == "encoder":
            output = backbone.trunk.get_submodule("encoder")(**flat)
        else:
            if backbone.is_encoder_decoder and "decoder_input_ids" not in flat:
                flat["decoder_input_ids"] = shifted(flat["input_ids"], backbone.config.decoder_start_token_id)
            output = backbone.trunk(**flat)
    return States.of(output)


def narrow(backbone: Any) -> torch.autocast:
    """The formats in which adapters answer above a trunk in bfloat16."""
    is_narrow = backbone.dtype != torch.float32
    return torch.autocast("cpu", backbone.dtype if is_narrow else None, enabled=is_narrow)


def both(backbone: Any, kind: str, head: HeadSettings) -> tuple[Tensor, Tensor]:
    """Logits of a random head: from the headed model, and from computed states."""
    with worlds.adapter(backbone, kind, None, head) as adapted:
        worlds.disturb(adapted, size=0.3)
        batch = worlds.batch_of(adapted)
        with torch.inference_mode(), narrow(adapted.backbone):
            # Padding included: without it the trunk's products round otherwise.
            expected = adapted.headed.logits(batch.inputs)
        templates = Templates(backbone)
        answering = templates.head(kind, adapted.task.classes, adapted.head, adapted.state())
        states = states_of(adapted, batch.inputs, answering.template.reads)
        with torch.inference_mode(), adapted.autocast():
            return expected, answering.logits(states, batch.inputs)


@pytest.mark.parametrize(("kind", "family", "head"), CASES, ids=["-".join(case) for case in CASES])
def test_a_head_above_computed_states_gives_the_very_logits(
    kind: str, family: str, head: str, tiny_backbones: Mapping[str, Any]
) -> None:
    expected, found = both(tiny_backbones[family], kind, cases.HEADS[head])

    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("variant", "kind"),
    [
        ("bert-without-pooler", "text-classification"),
        ("bert-without-pooler", "multiple-choice"),
        ("bert-plain", "masked-lm"),
        ("bert-plain", "text-classification"),
        ("t5-gated", "seq2seq-lm"),
        ("mistral", "causal-lm"),
    ],
)
def test_other_checkpoints_of_a_family_do_too(variant: str, kind: str, tiny_backbones: Mapping[str, Any]) -> None:
    expected, found = both(tiny_backbones[variant], kind, worlds.FAMILY)

    assert torch.equal(found, expected)


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "t5"])
def test_heads_compute_in_float32_above_a_trunk_in_bfloat16(family: str, fresh_backbone: Any) -> None:
    backbone = fresh_backbone(family, dtype="bfloat16")

    for head in ("family", "mlp-first", "attention"):
        expected, found = both(backbone, "text-classification", cases.HEADS[head])
        assert found.dtype == torch.float32
        assert torch.equal(found, expected), head


def test_heads_of_equal_settings_share_their_modules_and_keep_their_tensors_apart(
    tiny_backbones: Mapping[str, Any],
) -> None:
    backbone = tiny_backbones["bert"]
    templates = Templates(backbone)
    with worlds.adapter(backbone, "text-classification") as adapted:
        worlds.disturb(adapted, seed=1)
        first = templates.head("text-classification", 2, adapted.head, adapted.state())
        before = {name: tensor.clone() for name, tensor in first.tensors.items()}
        worlds.disturb(adapted, seed=2)
        second = templates.head("text-classification", 2, adapted.head, adapted.state())

    assert first.template is second.template
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], before[name]) for name in before)
    assert not any(torch.equal(first.tensors[name], second.tensors[name]) for name in before)


def test_a_template_is_built_while_somebody_trains_on_the_backbone(fresh_backbone: Any) -> None:
    backbone = fresh_backbone("bert")
    templates = Templates(backbone)
    with worlds.adapter(backbone, "text-classification", cases.METHODS["lora-all-linear"].settings) as adapted:
        adapted.train()
        trained = [name for name, p in adapted.module.named_parameters() if p.requires_grad]
        template = templates.get("token-classification", 3, worlds.FAMILY)

        assert [name for name, p in adapted.module.named_parameters() if p.requires_grad] == trained
        assert not any("lora" in name for name, _ in template._module.named_modules())


def test_tensors_that_are_not_the_heads_are_all_named(tiny_backbones: Mapping[str, Any]) -> None:
    backbone = tiny_backbones["bert"]
    templates = Templates(backbone)
    state = {
        f"{PREFIX}classifier.weight": torch.zeros(3, 32),
        f"{PREFIX}classifier.bias": torch.full((2,), float("nan")),
        f"{PREFIX}bert.embeddings.word_embeddings.weight": torch.zeros(1),
    }

    with pytest.raises(ArtifactError) as caught:
        templates.head("text-classification", 2, worlds.FAMILY, state)

    assert caught.value.problems == (
        "bert.embeddings.word_embeddings.weight: this head has no such tensor",
        "classifier.bias: holds values that are not finite",
        "classifier.weight: shape (3, 32), expected (2, 32)",
    )


def test_a_head_that_the_family_lacks_is_refused(tiny_backbones: Mapping[str, Any]) -> None:
    backbone = tiny_backbones["llama"]

    with pytest.raises(HeadError, match="no multiple-choice class"):
        Templates(backbone).get("multiple-choice", 1, worlds.FAMILY)


JOINED = [(kind, family, head) for kind, family, head in CASES if head == "family" or family == "bert"]


@pytest.mark.parametrize(("kind", "family", "head"), JOINED, ids=["-".join(case) for case in JOINED])
def test_heads_of_one_template_answer_together_as_each_alone(
    kind: str, family: str, head: str, tiny_backbones: Mapping[str, Any]
) -> None:
    backbone, heads = tiny_backbones[family], []
    templates = Templates(backbone)
    with worlds.adapter(backbone, kind, None, cases.HEADS[head]) as adapted:
        for seed in range(3):
            worlds.disturb(adapted, size=0.3, seed=seed)
            heads.append(templates.head(kind, adapted.task.classes, adapted.head, adapted.state()))
        inputs = {name: torch.cat([tensor[:2]] * 2) for name, tensor in worlds.batch_of(adapted).inputs.items()}
        states = states_of(adapted, inputs, heads[0].template.reads)
        copies = len(states.last) // 4
        with torch.inference_mode(), adapted.autocast():
            together = logits_on_own_rows(heads, (1, 2, 1), states, inputs)
            alone = [
                answering.logits(
                    states.rows(slice(copies * own.start, copies * own.stop)), {n: t[own] for n, t in inputs.items()}
                )
                for answering, own in zip(heads, (slice(0, 1), slice(1, 3), slice(3, 4)), strict=True)
            ]

    assert heads[0].template.joins
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # MKL rounds by where a row stands in memory
    assert not heads[0].tensors or not torch.equal(together[0], together[2])


def test_of_a_host_the_class_of_many_heads_is_called_once(
    tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones["bert"]
    templates = Templates(backbone)
    forwards = Forwards(Engine(backbone), backbone)
    with worlds.adapter(backbone, "text-classification") as adapted:
        inputs = worlds.batch_of(adapted).inputs
        pieces = []
        for seed in range(2):
            worlds.disturb(adapted, size=0.3, seed=seed)
            answering = templates.head("text-classification", adapted.task.classes, adapted.head, adapted.state())
            pieces.append(Piece((), answering, {name: tensor[seed : seed + 1] for name, tensor in inputs.items()}))
    alone = [forwards.logits([piece])[0] for piece in pieces]
    calls: list[int] = []
    forward = BertForSequenceClassification.forward
    monkeypatch.setattr(
        BertForSequenceClassification, "forward", lambda *args, **more: calls.append(1) or forward(*args, **more)
    )

    together = forwards.logits(pieces)

    assert calls == [1]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
