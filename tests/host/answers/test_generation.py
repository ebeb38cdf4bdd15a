"""Generation: every row continues as its adapter alone would, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from adapterkit.adapted import build
from adapterkit.backbone import Backbone
from adapterkit.errors import GenerationError
from adapterkit.host import HeadState, Host, MethodState, Mountable
from adapterkit.host.answers.decoding import Decoding, GumbelNoise
from adapterkit.recipe import BottleneckMethod, HeadSettings, LoraMethod, NoMethod
from tests.laws.worlds import disturb, make_talkative, prepared

FAMILIES = ("gpt2", "llama", "t5", "bart")
METHODS: dict[str, Any] = {
    "none": NoMethod(),
    "lora": LoraMethod(sites="all-linear", rank=4),
    "houlsby": BottleneckMethod(placement="houlsby", width=4),
    "another lora": LoraMethod(rank=2),
}
CROSSING = {"parallel-cross": BottleneckMethod(placement="parallel", width=4, cross_attention=True)}
TEXTS = ("the quick brown fox", "Ada", "please play some quiet music in the kitchen", "we walk ,")


@dataclass(frozen=True)
class InMemory:
    """An adapter that no file holds, to be mounted."""

    made: Mountable

    def build(self, find: Any, backbone: Any) -> Mountable:
        return self.made


@dataclass(frozen=True)
class World:
    """Adapters of one backbone, and what each continues every text with by itself."""

    host: Host
    alone: dict[tuple[str, str], str]

    def texts(self, pairs: Sequence[tuple[str, str]], **settings: Any) -> list[str]:
        return self.host.generate(pairs, **settings)


def world(backbone: Backbone, beams: int = 1) -> World:
    kind = "seq2seq-lm" if backbone.is_encoder_decoder else "causal-lm"
    task, head = prepared(kind, beams=beams), HeadSettings(kind="family")
    host, alone = Host(backbone), {}
    talk: Any = host._mounting.templates.get(kind, 0, head)._module
    column = next(iter(task.columns))
    for name, method in (METHODS | CROSSING if backbone.is_encoder_decoder else METHODS).items():
        with build(backbone, task, method, head, 0) as adapted:
            disturb(adapted, 0.3)
            make_talkative(adapted)
            talk.generation_config = adapted.module.generation_config
            states = MethodState(method, adapted.attachment.config(), adapted.state())
            host.mount(name, InMemory(Mountable((states,), {"": HeadState(task, head, {})})))
            features = task.encode([{column: text} for text in TEXTS], adapted.vocabulary, "predict").features
            for text, feature in zip(TEXTS, features, strict=True):
                alone[name, text] = adapted.generate([feature])[0]
    return World(host, alone)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 3])
def test_every_row_of_a_mixed_batch_continues_as_its_adapter_alone(tiny_backbones, family, beams):
    found = world(tiny_backbones[family], beams)
    pairs = list(found.alone)
    assert found.texts(pairs, batch_size=7) == list(found.alone.values())
    assert len(set(found.alone.values())) > len(METHODS), "adapters that all say the same prove nothing"


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_every_row_has_its_own_length(tiny_backbones, family):
    found = world(tiny_backbones[family])
    pair = "lora", TEXTS[0]
    texts = found.texts([pair] * 3, max_new_tokens=[1, 8, 3])
    assert texts[1] == found.alone[pair]
    tokenizer = found.host.backbone.tokenizer
    assert [text.replace(" ", "") for text in texts] == [
        texts[1].replace(" ", "")[: len(text.replace(" ", ""))] for text in texts
    ]
    counts = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert counts[0] <= counts[2] <= counts[1]
    assert counts[0] < counts[1]


def test_a_row_ends_before_its_own_stop_and_no_other_row_does(tiny_backbones):
    found = world(tiny_backbones["llama"])
    pair = "lora", TEXTS[0]
    whole = found.alone[pair]
    stop = whole[len(whole) // 2 :][:2]
    texts = found.texts([pair] * 3, stop=[[stop], [], ["\x00", stop]])
    assert texts == [whole[: whole.find(stop)].strip(), whole, whole[: whole.find(stop)].strip()]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_stops_are_sought_in_the_answer_alone(tiny_backbones, family):
    found = world(tiny_backbones[family])
    pair = "lora", TEXTS[0]
    whole, tokenizer = found.alone[pair], found.host.backbone.tokenizer
    # Texts that begin in the prompt and end in the answer, and texts of the prompt itself.
    both = tokenizer.decode(
        [*tokenizer(pair[1])["input_ids"], *tokenizer(whole, add_special_tokens=False)["input_ids"]],
        skip_special_tokens=True,
    )
    at = both.rfind("fox") + 3
    stops = [[both[at - 2 : at + length]] for length in (0, 1, 2)]
    assert found.texts([pair] * 3, stop=stops) == [whole] * 3


def test_a_row_draws_the_same_whatever_stands_beside_it(tiny_backbones):
    found = world(tiny_backbones["gpt2"])
    pairs = list(found.alone)
    hot = {"temperature": 1.5, "seed": 7}
    mixed = found.texts(pairs, **hot)
    assert found.texts(pairs, **hot, batch_size=3) == mixed
    assert found.texts(pairs[:1], **hot) == mixed[:1]
    assert found.texts(pairs, temperature=1.5, seed=8) != mixed
    assert found.texts(pairs, temperature=1.5) != found.texts(pairs, temperature=1.5)
    assert found.texts(pairs, temperature=1.5, top_k=1) == list(found.alone.values())


def test_the_noise_draws_from_the_softmax():
    probability = torch.tensor([0.5, 0.3, 0.15, 0.05])
    noise = GumbelNoise([1], torch.device("cpu"))
    scores = probability.log()[None]
    counts = torch.bincount(torch.stack([noise(None, scores).argmax() for _ in range(4000)]), minlength=4)
    # Four standard deviations of a share of 4,000 draws.
    assert torch.allclose(counts / 4000, probability, atol=4 * (0.25 / 4000) ** 0.5)


def test_settings_that_cannot_be_honoured_are_refused_all_at_once(tiny_backbones):
    with pytest.raises(GenerationError) as caught:
        Decoding(beams=0, temperature=-1, top_k=0, top_p=2.0, seed=-1)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "num_beams",
        "temperature",
        "top_k",
        "top_p",
        "seed",
    ]
    with pytest.raises(GenerationError, match="cannot be honoured") as caught:
        Decoding(top_k=3, seed=1)
    assert len(caught.value.problems) == 2
    with pytest.raises(GenerationError, match="cannot be honoured"):
        Decoding(beams=2, temperature=1.0)
    found = world(tiny_backbones["gpt2"])
    with pytest.raises(GenerationError, match="cannot be continued") as caught:
        found.texts([("lora", TEXTS[0])] * 2, max_new_tokens=[0, 8], stop=[[], [""]])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["row 1", "row 2"]


def test_a_long_prompt_beside_it_does_not_cut_a_short_one(tiny_backbones):
    found = world(tiny_backbones["gpt2"])
    pairs = [("lora", "the quick brown fox " * 100), ("lora", TEXTS[1])]
    mixed = found.texts(pairs, max_new_tokens=40)
    alone = [found.texts([pair], max_new_tokens=40)[0] for pair in pairs]
    assert mixed == alone
    assert len(alone[1]) > len(alone[0]) > 0
