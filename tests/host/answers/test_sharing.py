"""Many tasks on one input: what no adapter has touched is computed once, and every answer stays what it was."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BatchEncoding

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.backbone.cut import layers_of
from adapterkit.errors import SiteError
from adapterkit.host.answers.asked_rows import RememberingTokenizer
from adapterkit.host.answers.sharing import stretches_of
from adapterkit.recipe import BottleneckMethod, LoraMethod, NoMethod
from adapterkit.tasks.protocol import Vocabulary
from tests import tiny
from tests.host import artifacts
from tests.host.artifacts import differences
from tests.laws import cases
from tests.laws import worlds as laws

METHODS: dict[str, Any] = {
    "head": NoMethod(),
    "lora-top": LoraMethod(top=1, rank=2),
    "other-top": LoraMethod(top=1, rank=3, sites="all-linear"),
    "pfeiffer-top": BottleneckMethod(placement="pfeiffer", width=3, top=1),
    "middle": LoraMethod(layers=(1,), rank=2),
    "lora": LoraMethod(rank=2),
    "parallel": BottleneckMethod(placement="parallel", width=4),
    "second-head": NoMethod(),
}
OTHERS = ("deberta-v2", "electra", "bloom")
"""Rows that cannot share a forward, embeddings of another width, layers that give a tuple."""
KINDS = {"head": "token-classification", "middle": "question-answering", "parallel": "multiple-choice"}
TEXT = "my card was lost and the bank will send a new one"
ROW = {
    "text": TEXT,
    "tokens": TEXT.split(),
    "question": "where did Ada live ?",
    "context": TEXT,
    "choices": ["a fox", "the dog"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Mapping[str, Any]) -> Any:
    """`folders(family)`: name -> artifact, one for each method, of several kinds."""
    root = tmp_path_factory.mktemp("sharing")
    made: dict[str, dict[str, Path]] = {}

    def find(family: str) -> dict[str, Path]:
        if family not in made:
            made[family] = {}
            for seed, (name, method) in enumerate(METHODS.items()):
                kind = KINDS.get(name, "text-classification")
                head = cases.HEADS["linear" if family in OTHERS else cases.head_for(kind, family, seed)]
                task = laws.prepared(kind)
                with laws.adapter(tiny_backbones[family], kind, method, head, task=task, seed=seed) as adapted:
                    laws.disturb(adapted, size=0.2, seed=seed)
                    made[family][name] = laws.write(root / f"{family}-{name}", adapted)
        return made[family]

    return find


def mounted(backbone: Any, folders: Mapping[str, Path]) -> ak.Host:
    host = ak.Host(backbone)
    for name, folder in folders.items():
        host.mount(name, folder)
    return host


def count_rows(host: ak.Host) -> dict[int, int]:
    """Layer -> rows that have run through it from now on. Views copy the hooks, so none may have been made."""
    assert host._engine.can_be_cut  # tried once, on rows that do not count
    counts: dict[int, int] = {}

    def counted(number: int) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            states = args[0] if args else next(iter(kwargs.values()))
            counts[number] = counts.get(number, 0) + len(states)

        return hook

    for number, layer in enumerate(layers_of(host._engine._pristine)[1]):
        layer.register_forward_pre_hook(counted(number), with_kwargs=True)
    return counts


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *OTHERS])
def test_many_tasks_on_one_input_answer_as_each_adapter_alone(
    family: str, tiny_backbones: Mapping[str, Any], folders: Any
) -> None:
    backbone, made = tiny_backbones[family], folders(family)
    short = {**ROW, "text": "a fox", "tokens": ["a", "fox"], "context": "a fox"}
    with mounted(backbone, made) as host:
        found = host.predict_all([ROW, short])

    for name, folder in made.items():
        alone = artifacts.alone(folder, backbone, [ROW, short])
        assert differences([answers[name] for answers in found], alone) == [], name


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_logits_of_one_text_for_many_tasks_are_those_of_each_adapter(
    family: str, tiny_backbones: Mapping[str, Any], folders: Any
) -> None:
    backbone = tiny_backbones[family]
    made = {name: folder for name, folder in folders(family).items() if name not in KINDS}
    batch = dict(backbone.tokenizer([TEXT] * len(made), return_tensors="pt"))
    with mounted(backbone, made) as host:
        found = host.logits(batch, tasks=list(made))

    for logits, folder in zip(found, made.values(), strict=True):
        with open_artifact(folder).adapted(backbone) as adapted, torch.inference_mode():
            expected = adapted({name: tensor[:1] for name, tensor in batch.items()})[0]
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_what_no_adapter_touches_runs_once(tiny_backbones: Mapping[str, Any], folders: Any) -> None:
    made = folders("bert")
    tops = ["lora-top", "other-top", "pfeiffer-top", "second-head"]
    with mounted(tiny_backbones["bert"], {name: made[name] for name in tops}) as host:
        counts = count_rows(host)
        host.predict_all(TEXT)
    assert counts == {0: 1, 1: 1, 2: 4}

    mixed = ["lora", "lora-top", "other-top", "second-head"]
    with mounted(tiny_backbones["bert"], {name: made[name] for name in mixed}) as host:
        counts = count_rows(host)
        host.predict_all(TEXT)
    # One row for `lora` from the bottom on, and one for the other three.
    assert counts == {0: 2, 1: 2, 2: 4}


def test_different_texts_share_nothing(tiny_backbones: Mapping[str, Any], folders: Any) -> None:
    made = folders("bert")
    with mounted(tiny_backbones["bert"], {name: made[name] for name in ("lora-top", "other-top")}) as host:
        counts = count_rows(host)
        host.predict([("lora-top", "a fox"), ("other-top", "the dog"), ("other-top", "a fox")])
    assert counts == {0: 2, 1: 2, 2: 3}


def test_threads_share_layers_without_sharing_states(tiny_backbones: Mapping[str, Any], folders: Any) -> None:
    texts = [{**ROW, "text": " ".join(artifacts.WORDS[: 2 + number])} for number in range(6)]
    with mounted(tiny_backbones["gpt2"], folders("gpt2")) as host, ThreadPoolExecutor(4) as pool:
        expected = [host.predict_all(text) for text in texts]
        found = list(pool.map(host.predict_all, texts * 3))
    assert differences(found, expected * 3) == []


def test_rows_leave_where_they_must_or_nobody_else_is_left() -> None:
    tops = stretches_of(texts=[0, 0, 0, 1], lowest=[4, 4, 6, 2])
    assert [(stretch.low, stretch.high, stretch.runners) for stretch in tops] == [
        (0, 4, ((0, False), (3, True))),
        (4, None, ((0, True), (1, True), (2, True), (3, True))),
    ]
    in_turn = stretches_of(texts=[0, 0, 0], lowest=[1, 3, 5])
    assert [(stretch.low, stretch.high, stretch.runners) for stretch in in_turn] == [
        (0, 1, ((0, False),)),
        (1, 3, ((0, True), (1, False))),
        (3, None, ((0, True), (1, True), (2, True))),
    ]
    assert len(stretches_of(texts=[0, 0, 1], lowest=[0, 6, 6])) == 1
    assert len(stretches_of(texts=[0, 0], lowest=[-1, 3])) == 1


LAYERS = 5


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, LAYERS)), min_size=1, max_size=8))
def test_every_row_passes_every_layer_once_and_carries_its_adapter_where_it_counts(rows: list[tuple[int, int]]) -> None:
    texts, lowest = [text for text, _ in rows], [layer for _, layer in rows]
    # A state is the text, and for every layer passed whose adapter was there: a row's, or nobody's.
    states: list[list[Any]] = [[text, "bare" if layer >= 0 else row] for row, (text, layer) in enumerate(rows)]
    cost = 0
    for stretch in stretches_of(texts, lowest):
        high = LAYERS if stretch.high is None else stretch.high
        ran = []
        for row, own in stretch.runners:
            passed = [row if own and number >= lowest[row] else "bare" for number in range(stretch.low, high)]
            ran.append([*states[row], *passed])
        cost += (high - stretch.low) * len(ran)
        states = [ran[place] for place in stretch.runner_of]

    for row, (text, layer) in enumerate(rows):
        embedded = "bare" if layer >= 0 else row
        assert states[row] == [text, embedded, *("bare" if n < layer else row for n in range(LAYERS))]
    # At every layer: the rows that it is adapted for, and at most one for all others of a text.
    least = sum(
        sum(layer <= number for layer in lowest) + len({text for text, layer in rows if layer > number})
        for number in range(LAYERS)
    )
    assert cost == least


@pytest.mark.parametrize("kind", cases.KINDS)
def test_what_is_read_to_predict_does_not_depend_on_what_was_learned(
    kind: str, tiny_backbones: Mapping[str, Any]
) -> None:
    backbone = tiny_backbones[cases.KINDS[kind].families[0]]
    vocabulary = Vocabulary.of(backbone.tokenizer, backbone.max_tokens)
    rows = [artifacts.row_of(kind, artifacts.WORDS[:length]) for length in (3, 9)]
    learned = laws.prepared(kind)
    other = replace(learned, labels=tuple(f"other {label}" for label in learned.labels)) if learned.labels else learned
    found = [task.encode(rows, vocabulary, "predict").features for task in (learned, other)]

    assert found[0] == found[1]
    batches = [task.collate(features, vocabulary) for task, features in zip((learned, other), found, strict=True)]
    assert all(torch.equal(tensor, batches[1].inputs[name]) for name, tensor in batches[0].inputs.items())


def test_one_call_reads_a_text_once_and_no_asker_changes_what_others_get() -> None:
    asked: list[Any] = []

    def tokenizer(text: Any, text_pair: Any = None, **_: Any) -> BatchEncoding:
        asked.append(text)
        return BatchEncoding({"input_ids": [[1, 2]], "offset_mapping": [[(0, 1), (1, 2)]]})

    once = RememberingTokenizer(tokenizer)
    first = once(["ab"], truncation=False)
    first.pop("offset_mapping")
    again = once(["ab"], truncation=False)
    once(["ab"], truncation=True)
    assert set(again) == {"input_ids", "offset_mapping"}
    assert asked == [["ab"], ["ab"]]


def test_tasks_with_other_limits_share_only_what_they_read_alike(
    tmp_path: Path, tiny_backbones: Mapping[str, Any]
) -> None:
    backbone, made = tiny_backbones["bert"], {}
    for seed, limit in enumerate((None, 6, 6)):
        task = laws.prepared("text-classification", max_tokens=limit)
        with laws.adapter(backbone, "text-classification", METHODS["lora-top"], task=task, seed=seed) as adapted:
            laws.disturb(adapted, size=0.2, seed=seed)
            made[str(seed)] = laws.write(tmp_path / str(seed), adapted)
    with mounted(backbone, made) as host:
        counts = count_rows(host)
        found = host.predict_all(TEXT)
    assert counts == {0: 2, 1: 2, 2: 3}
    for name, folder in made.items():
        assert differences([found[name]], artifacts.alone(folder, backbone, [TEXT])) == [], name


def test_heads_alone_share_a_text_where_layers_are_not_known(tiny_backbones: Mapping[str, Any], folders: Any) -> None:
    """Such a trunk may well split."""
    made = {name: folder for name, folder in folders("bert").items() if name in ("head", "second-head")}
    backbone = replace(tiny_backbones["bert"], _found_sites=SiteError("layers that are not known"))
    with mounted(backbone, made) as host:
        found = host.predict_all(ROW)
    for name, folder in made.items():
        assert differences([found[name]], artifacts.alone(folder, tiny_backbones["bert"], [ROW])) == [], name
