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
from adapterkit.host.answers.generation import Decoding, GumbelNoise, Prompt, generate
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.heads import Templates
from adapterkit.host.packing.packers import pack
from adapterkit.recipe import BottleneckMethod, HeadSettings, LoraMethod, NoMethod
from adapterkit.tasks.protocol import GeneratingTask, Vocabulary
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


@dataclass(frozen=True, eq=False)
class World:
    """Adapters of one backbone, and what each continues every text with by itself."""

    engine: Engine
    vocabulary: Vocabulary
    prompts: dict[tuple[str, str], Prompt]
    adapters: dict[str, Any]
    alone: dict[tuple[str, str], str]

    def texts(self, pairs: Sequence[tuple[str, str]], decoding: Decoding, batch_size: int = 64) -> list[str]:
        return self.run([self.prompts[pair] for pair in pairs], decoding, batch_size)

    def run(self, prompts: Sequence[Prompt], decoding: Decoding, batch_size: int = 64) -> list[str]:
        def take(asked: Sequence[Prompt]) -> Any:
            return [(self.adapters[str(prompt.source)], {}) for prompt in asked]

        return generate(self.engine, prompts, self.vocabulary, take, decoding, batch_size=batch_size)


def world(backbone: Backbone, beams: int = 1) -> World:
    kind = "seq2seq-lm" if backbone.is_encoder_decoder else "causal-lm"
    task = prepared(kind, beams=beams)
    assert isinstance(task, GeneratingTask)
    head = HeadSettings(kind="family")
    template = Templates(backbone).get(kind, 0, head)
    talk: Any = template._module
    prompts, adapters, alone = {}, {}, {}
    for name, method in (METHODS | CROSSING if backbone.is_encoder_decoder else METHODS).items():
        with build(backbone, task, method, head, 0) as adapted:
            disturb(adapted, 0.3)
            make_talkative(adapted)
            talk.generation_config = adapted.module.generation_config
            packed = pack(method, adapted.attachment.config(), adapted.state(), backbone)
            adapters[name] = () if packed is None else (packed,)
            column = next(iter(task.columns))
            features = task.encode([{column: text} for text in TEXTS], adapted.vocabulary, "predict").features
            for text, feature in zip(TEXTS, features, strict=True):
                alone[name, text] = adapted.generate([feature])[0]
                prompts[name, text] = Prompt(task, feature, template, name)
            vocabulary = adapted.vocabulary
    return World(Engine(backbone), vocabulary, prompts, adapters, alone)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 3])
def test_every_row_of_a_mixed_batch_continues_as_its_adapter_alone(tiny_backbones, family, beams):
    found = world(tiny_backbones[family], beams)
    pairs = list(found.alone)
    assert found.texts(pairs, Decoding(), batch_size=7) == list(found.alone.values())
    assert len(set(found.alone.values())) > len(METHODS), "adapters that all say the same prove nothing"


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_every_row_has_its_own_length(tiny_backbones, family):
    found = world(tiny_backbones[family])
    pair = "lora", TEXTS[0]
    prompt = found.prompts[pair]
    lengths = [1, 8, 3]
    prompts = [Prompt(**{**vars(prompt), "new_tokens": length}) for length in lengths]
    texts = found.run(prompts, Decoding())
    assert texts[1] == found.alone[pair]
    tokenizer = found.vocabulary.tokenizer
    assert [text.replace(" ", "") for text in texts] == [
        texts[1].replace(" ", "")[: len(text.replace(" ", ""))] for text in texts
    ]
    counts = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert counts[0] <= counts[2] <= counts[1]
    assert counts[0] < counts[1]


def test_a_row_ends_before_its_own_stop_and_no_other_row_does(tiny_backbones):
    found = world(tiny_backbones["llama"])
    pair = "lora", TEXTS[0]
    whole, prompt = found.alone[pair], found.prompts[pair]
    stop = whole[len(whole) // 2 :][:2]
    prompts = [Prompt(**{**vars(prompt), "stop": (stop,)}), prompt, Prompt(**{**vars(prompt), "stop": ("\x00", stop)})]
    texts = found.run(prompts, Decoding())
    assert texts == [whole[: whole.find(stop)].strip(), whole, whole[: whole.find(stop)].strip()]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_stops_are_sought_in_the_answer_alone(tiny_backbones, family):
    found = world(tiny_backbones[family])
    pair = "lora", TEXTS[0]
    prompt, whole = found.prompts[pair], found.alone[pair]
    tokenizer = found.vocabulary.tokenizer
    # Texts that begin in the prompt and end in the answer, and texts of the prompt itself.
    both = tokenizer.decode(
        [*prompt.feature.inputs["input_ids"], *tokenizer(whole, add_special_tokens=False)["input_ids"]],
        skip_special_tokens=True,
    )
    at = both.rfind("fox") + 3
    stops = [(both[at - 2 : at + length],) for length in (0, 1, 2)]
    prompts = [Prompt(**{**vars(prompt), "stop": stop}) for stop in stops]
    assert found.run(prompts, Decoding()) == [whole] * 3


def test_a_row_draws_the_same_whatever_stands_beside_it(tiny_backbones):
    found = world(tiny_backbones["gpt2"])
    pairs = list(found.alone)
    hot = Decoding(temperature=1.5, seed=7)
    mixed = found.texts(pairs, hot)
    assert found.texts(pairs, hot, batch_size=3) == mixed
    assert found.texts(pairs[:1], hot) == mixed[:1]
    assert found.texts(pairs, Decoding(temperature=1.5, seed=8)) != mixed
    assert found.texts(pairs, Decoding(temperature=1.5)) != found.texts(pairs, Decoding(temperature=1.5))
    assert found.texts(pairs, Decoding(temperature=1.5, top_k=1)) == list(found.alone.values())


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
    prompt = found.prompts["lora", TEXTS[0]]
    bad = [Prompt(**{**vars(prompt), "new_tokens": 0}), Prompt(**{**vars(prompt), "stop": ("",)})]
    with pytest.raises(GenerationError, match="cannot be continued") as caught:
        found.run(bad, Decoding())
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["row 1", "row 2"]


def test_a_long_prompt_beside_it_does_not_cut_a_short_one(tiny_backbones):
    found = world(tiny_backbones["gpt2"])
    short = found.prompts["lora", TEXTS[1]]
    text = {"text": "the quick brown fox " * 100}
    long = short.task.encode([text], found.vocabulary, "predict").features[0]
    prompts = [
        Prompt(**{**vars(short), "feature": long, "new_tokens": 40}),
        Prompt(**{**vars(short), "new_tokens": 40}),
    ]
    mixed = found.run(prompts, Decoding())
    alone = [found.run([prompt], Decoding())[0] for prompt in prompts]
    assert mixed == alone
    assert len(alone[1]) > len(alone[0]) > 0
