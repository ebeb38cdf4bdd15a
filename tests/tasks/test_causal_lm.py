from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from adapterkit.errors import DataError
from adapterkit.tasks import GeneratingTask
from adapterkit.tasks.values import IGNORED
from tests.tasks.conftest import ROWS
from tests.tasks.test_protocol import Make, Vocabularies
from tests.tiny import DECODERS

KIND = "causal-lm"
LONG = [{"text": "the quick brown fox jumps over the lazy dog " * 12}, {"text": "my card was lost"}]
CHAT = [
    {
        "messages": [
            {"role": "user", "content": "where is Ada ?"},
            {"role": "assistant", "content": "in London"},
            {"role": "user", "content": "and the fox ?"},
            {"role": "assistant", "content": "over the dog"},
        ]
    }
]


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("purpose", ["train", "score"])
def test_every_token_is_predicted_once_and_no_block_mixes_documents(
    family: str, purpose: Any, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    vocabulary = vocabulary_of(family)
    features = task_of(KIND, LONG, block_tokens=20).encode(LONG, vocabulary, purpose).features
    tokenizer = vocabulary.tokenizer
    for index, row in enumerate(LONG):
        predicted = [
            label for feature in features if feature.row == index for label in feature.labels if label != IGNORED
        ]
        whole = [*tokenizer(row["text"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        # Llama alone puts a begin token first; without one there is nothing to predict a first token from.
        assert predicted == (whole if family == "llama" else whole[1:])
    for feature in features:
        assert feature.length_tokens <= 20
        assert feature.labels[0] == IGNORED
        kept = list(zip(feature.inputs["input_ids"], feature.labels, strict=True))
        assert all(label in (token, IGNORED) for token, label in kept)
    if purpose == "score":
        later = [feature for before, feature in itertools.pairwise(features) if before.row == feature.row]
        assert all(feature.labels[:10] == [IGNORED] * 10 for feature in later)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_perplexity_is_that_of_the_model_on_the_whole_document(
    family: str, tiny_folders: Mapping[str, Path], task_of: Make, vocabulary_of: Vocabularies
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folders[family]).eval()
    task, vocabulary, rows = task_of(KIND), vocabulary_of(family), ROWS[KIND]
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    with torch.no_grad():
        found = task.score(rows, features, task.outputs(model(**batch.inputs).logits, batch), resamples=0)
        nats, tokens = 0.0, 0
        for feature in features:
            ids = torch.tensor([feature.inputs["input_ids"]])
            nats += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
    assert found["perplexity"].value == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    firsts = [vocabulary.tokenizer.decode(feature.inputs["input_ids"][:1]) for feature in features]
    unread = 0 if family == "llama" else sum(map(len, firsts))  # characters of tokens that nothing predicts
    characters = sum(len(row["text"]) for row in rows) - unread
    assert found["bits_per_character"].value == pytest.approx(nats / math.log(2) / characters, rel=1e-4)


@pytest.mark.parametrize("only", [False, True])
def test_a_prompt_is_context_or_target_as_the_recipe_says(
    only: bool, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    vocabulary = vocabulary_of("llama")
    rows = [{"prompt": "the fox", "completion": " jumps over"}]
    task = task_of(KIND, rows, completions_only=only)
    (feature,) = task.encode(rows, vocabulary).features
    tokenizer = vocabulary.tokenizer
    prompt = tokenizer("the fox")["input_ids"]
    completion = [*tokenizer(" jumps over", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert feature.inputs["input_ids"] == [*prompt, *completion]
    assert feature.labels == [*([IGNORED] * len(prompt) if only else [IGNORED, *prompt[1:]]), *completion]
    assert feature.extras["characters"] == len(" jumps over") + (0 if only else len("the fox"))
    (asked,) = task.encode(rows, vocabulary, "predict").features
    assert asked.inputs["input_ids"] == prompt


def test_characters_are_counted_where_the_first_blocks_hold_the_prompt_only(
    task_of: Make, vocabulary_of: Vocabularies
) -> None:
    rows = [{"prompt": "the quick brown fox " * 9, "completion": "jumps"}]
    features = task_of(KIND, rows, completions_only=True, block_tokens=16).encode(rows, vocabulary_of("gpt2")).features
    assert sum(feature.extras["characters"] for feature in features) == 5
    assert all(any(label != IGNORED for label in feature.labels) for feature in features)


def test_only_the_assistant_s_turns_of_a_chat_are_trained(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("qwen2")
    (feature,) = task_of(KIND, CHAT, completions_only=True).encode(CHAT, vocabulary).features
    trained = [label for label in feature.labels if label != IGNORED]
    assert vocabulary.tokenizer.decode(trained) == "in London<|im_end|>\nover the dog<|im_end|>\n"
    (whole,) = task_of(KIND, CHAT).encode(CHAT, vocabulary).features
    assert whole.inputs["input_ids"] == feature.inputs["input_ids"]
    assert whole.labels[1:] == whole.inputs["input_ids"][1:]


def test_a_chat_is_continued_where_the_assistant_speaks(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("qwen2")
    rows = [{"messages": CHAT[0]["messages"][:1]}]
    (feature,) = task_of(KIND, CHAT).encode(rows, vocabulary, "predict").features
    asked = vocabulary.tokenizer.decode(feature.inputs["input_ids"])
    assert asked == "<|im_start|>user\nwhere is Ada ?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt-neox"])
def test_a_begin_token_stands_where_the_tokenizer_puts_one(
    family: str, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    vocabulary = vocabulary_of(family)
    tokenizer, pair = vocabulary.tokenizer, {"prompt": "the fox", "completion": " jumps"}
    for row in ({"text": "the fox"}, pair):
        theirs = tokenizer("the fox")["input_ids"]
        (asked,) = task_of(KIND).encode([row], vocabulary, "predict").features
        assert asked.inputs["input_ids"] == theirs  # as transformers would be asked
        (learned,) = task_of(KIND).encode([row], vocabulary).features
        assert learned.inputs["input_ids"][: len(theirs)] == theirs
        (always,) = task_of(KIND, begin_token="always").encode([row], vocabulary, "predict").features
        bare = tokenizer("the fox", add_special_tokens=False)["input_ids"]
        assert always.inputs["input_ids"] == [tokenizer.bos_token_id, *bare]
    (nothing,) = task_of(KIND).encode([{"text": ""}], vocabulary, "predict").features
    assert nothing.inputs["input_ids"] == [tokenizer.bos_token_id]


def test_artifacts_of_earlier_versions_keep_their_begin_token(task_of: Make) -> None:
    task = task_of(KIND)
    assert task.settings.begin_token == "auto"
    stored = task.to_dict()
    assert type(task).from_dict(stored) == task
    del stored["settings"]["begin_token"]  # as they wrote it, when a begin token always stood first
    assert type(task).from_dict(stored).settings.begin_token == "always"
    other = task_of("seq2seq-lm").to_dict()
    assert "begin_token" not in other["settings"]


def test_an_end_text_is_learned_in_the_place_of_the_end_token(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("llama")
    rows = [{"prompt": "the fox", "completion": " jumps"}, {"text": "my card"}]
    task = task_of(KIND, rows, end_text=" .\n", stop=["!"])
    features = task.encode(rows, vocabulary).features
    written = [
        vocabulary.tokenizer.decode(feature.inputs["input_ids"], skip_special_tokens=False) for feature in features
    ]
    assert [text.endswith(" .\n") for text in written] == [True, True]
    assert all(vocabulary.tokenizer.eos_token_id not in feature.inputs["input_ids"] for feature in features)
    asked = task.encode(rows, vocabulary, "predict").features
    assert not any("\n" in vocabulary.tokenizer.decode(feature.inputs["input_ids"]) for feature in asked)
    assert task.stops(asked[0]) == ("!", " .\n")
    assert task.stops(asked[0], []) == (" .\n",)


@pytest.mark.parametrize(
    ("row", "only", "reason"),
    [
        ({}, False, "no text, no prompt or instruction, and no messages"),
        ({"text": "x"}, True, "a text has no completion, and completions_only is set"),
        ({"text": ""}, False, "no text, no prompt or instruction, and no messages"),
        ({"prompt": "x"}, False, "no completion"),
        ({"prompt": "x", "completion": ""}, False, "no completion"),
        ({"messages": []}, False, "messages is not a list of turns"),
        ({"messages": ["hello"]}, False, "messages[0] is str, expected role and content"),
        ({"messages": [{"role": "user"}]}, False, "messages[0]: no content"),
        ({"messages": CHAT[0]["messages"][:1]}, True, "no turn of the assistant, and completions_only is set"),
    ],
)
def test_rows_that_cannot_be_used_say_why(
    row: dict[str, Any], only: bool, reason: str, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    task = task_of(KIND, CHAT, completions_only=only)
    assert task.problem_of(row, "train") == reason
    with pytest.raises(DataError, match="row 1"):
        task.encode([row], vocabulary_of("qwen2"))


def test_prompts_are_padded_and_cut_on_the_left(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("gpt2")
    task = task_of(KIND, LONG, max_tokens=12)
    features, truncation, _ = task.encode([{"text": "my card was lost " * 9}, {"text": "fox"}], vocabulary, "predict")
    assert truncation.rows == 1
    assert features[0].length_tokens == 12
    assert isinstance(task, GeneratingTask)
    batch = task.collate_prompts(features, vocabulary)
    assert batch.inputs["attention_mask"][1, 0] == 0
    assert batch.inputs["attention_mask"][:, -1].tolist() == [1, 1]
    assert vocabulary.tokenizer.decode(batch.inputs["input_ids"][0]).endswith("my card was lost ")


def test_generation_stops_where_the_backbone_is_full(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary, task = vocabulary_of("gpt2"), task_of(KIND, LONG)
    assert isinstance(task, GeneratingTask)
    features = task.encode(LONG, vocabulary, "predict").features
    batch = task.collate_prompts(features, vocabulary)
    # 64 of 128 places are taken; one more token may follow the last place.
    assert task.new_tokens(batch) == 65
    assert task.new_tokens(task.collate_prompts(features[1:], vocabulary)) == 129 - features[1].length_tokens
    assert task.predictions(LONG, [], []) == [{"loss_nats": 0.0, "tokens": 0}] * 2
    assert task.groups(LONG) == [[0], [1]]
    assert task.score_texts(LONG, ["a", "b"]) == {}


def test_a_prompt_leaves_room_for_what_is_generated(task_of: Make, vocabulary_of: Vocabularies) -> None:
    for max_new_tokens, prompt_tokens in ((50, 78), (100, 64), (1000, 64)):  # of the backbone's 128
        task = task_of(KIND, LONG, max_new_tokens=max_new_tokens)
        features, *_ = task.encode(LONG, vocabulary_of("gpt2"), "predict")
        assert features[0].length_tokens == prompt_tokens
