"""Chats through the templates of real models: what is learned, what is asked, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from adapterkit.errors import BackboneError, DataError
from adapterkit.tasks.values import IGNORED, Vocabulary
from tests.tasks.chat_templates import CHAT, CHATML, SPECIAL, TEMPLATES
from tests.tasks.test_protocol import Make
from tests.tiny_tokenizers import tokenizer_of

KIND = "causal-lm"
ONLY = {"completions_only": True}
Speaking = Callable[[str], Vocabulary]


@pytest.fixture(scope="module")
def speaking() -> Speaking:
    """A tokenizer's vocabulary with a chat template."""

    def make(source: str) -> Vocabulary:
        tokenizer = tokenizer_of("qwen2")
        tokenizer.add_special_tokens(
            {"bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": SPECIAL},
            replace_extra_special_tokens=False,
        )
        tokenizer.chat_template = source
        return Vocabulary.of(tokenizer, 512)

    return make


def learned(vocabulary: Vocabulary, feature: Any) -> str:
    return str(vocabulary.tokenizer.decode([label for label in feature.labels if label != IGNORED]))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_assistant_s_turns_are_learned_with_their_ends(name: str, speaking: Speaking, task_of: Make) -> None:
    case = TEMPLATES[name]
    vocabulary, rows = speaking(case.source), [{"messages": CHAT}]
    (feature,) = task_of(KIND, rows, **ONLY).encode(rows, vocabulary).features
    whole = vocabulary.tokenizer.apply_chat_template(CHAT)["input_ids"]
    assert feature.inputs["input_ids"] == whole  # the tokens are transformers' own
    assert learned(vocabulary, feature) == case.learned
    (everything,) = task_of(KIND, rows).encode(rows, vocabulary).features
    assert everything.labels[1:] == whole[1:]


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_asked_is_what_the_answer_was_learned_behind(name: str, speaking: Speaking, task_of: Make) -> None:
    case = TEMPLATES[name]
    vocabulary, rows = speaking(case.source), [{"messages": CHAT[:2]}]
    task = task_of(KIND, rows, **ONLY)
    (feature,) = task.encode(rows, vocabulary).features
    first = next(place for place, label in enumerate(feature.labels) if label != IGNORED)
    (asked,) = task.encode(rows, vocabulary, "predict").features  # the answer that stands there is not asked with
    before, more = asked.inputs["input_ids"][:first], asked.inputs["input_ids"][first:]
    assert before == feature.inputs["input_ids"][:first]
    assert vocabulary.tokenizer.decode(more) == case.asks
    assert task.stops(asked) == (case.stop,)


@pytest.mark.parametrize("name", ["SmolLM", "Qwen2.5", "Qwen3", "Llama-3", "Zephyr", "Unsloth"])
def test_a_turn_of_the_assistant_may_come_first(name: str, speaking: Speaking, task_of: Make) -> None:
    vocabulary = speaking(TEMPLATES[name].source)
    rows = [{"messages": [{"role": "assistant", "content": "the lazy fox"}, *CHAT[:2]]}]
    (feature,) = task_of(KIND, rows, **ONLY).encode(rows, vocabulary).features
    (later,) = task_of(KIND, rows, **ONLY).encode([{"messages": CHAT[:2]}], vocabulary).features
    text, answer = learned(vocabulary, feature), learned(vocabulary, later)
    assert text.strip().startswith("the lazy fox")
    assert text.endswith(answer)
    assert "assistant" not in text.lower()


def test_thoughts_of_earlier_turns_are_not_learned_where_the_template_drops_them(
    speaking: Speaking, task_of: Make
) -> None:
    vocabulary = speaking(TEMPLATES["Qwen3"].source)
    turns = [dict(turn) for turn in CHAT]
    for turn in turns[1::2]:
        turn["content"] = f"<think>\nhm\n</think>\n\n{turn['content']}"
    (feature,) = task_of(KIND, [{"messages": turns}], **ONLY).encode([{"messages": turns}], vocabulary).features
    assert learned(vocabulary, feature) == "in London<|im_end|>\n<think>\nhm\n</think>\n\nover the dog<|im_end|>\n"


def test_a_template_that_rewrites_what_was_said_before_is_read_by_its_turns(speaking: Speaking, task_of: Make) -> None:
    vocabulary = speaking("{{ messages | length }}{% for m in messages %}|{{ m['content'] }}{% endfor %}")
    (feature,) = task_of(KIND, [{"messages": CHAT}], **ONLY).encode([{"messages": CHAT}], vocabulary).features
    assert learned(vocabulary, feature) == "in Londonover the dog"


def test_an_answer_that_is_not_written_as_it_is_makes_a_row_unusable(speaking: Speaking, task_of: Make) -> None:
    vocabulary = speaking("{{ messages | length }}{% for m in messages %}|{{ m['content'] | length }}{% endfor %}")
    with pytest.raises(DataError) as caught:
        task_of(KIND, [{"messages": CHAT}], **ONLY).encode([{"messages": CHAT}], vocabulary)
    assert caught.value.summary == "messages[1]: the chat template does not write the answer as it is"


def test_the_template_s_own_mask_is_what_is_learned(speaking: Speaking, task_of: Make) -> None:
    source = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
        "{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    )
    vocabulary, rows = speaking(source), [{"messages": CHAT}]
    (feature,) = task_of(KIND, rows, **ONLY).encode(rows, vocabulary).features
    theirs = vocabulary.tokenizer.apply_chat_template(CHAT, return_assistant_tokens_mask=True)["assistant_masks"]
    assert [int(label != IGNORED) for label in feature.labels] == theirs
    assert learned(vocabulary, feature) == "in London<|im_end|>over the dog<|im_end|>"


def test_turns_of_weight_zero_are_context(speaking: Speaking, task_of: Make) -> None:
    turns = [CHAT[0], {**CHAT[1], "weight": 0}, CHAT[2], {**CHAT[3], "weight": 1}]
    for source in (CHATML, TEMPLATES["Phi-3"].source):
        vocabulary = speaking(source)
        (feature,) = task_of(KIND, [{"messages": turns}], **ONLY).encode([{"messages": turns}], vocabulary).features
        assert learned(vocabulary, feature).startswith("over the dog")
    task = task_of(KIND, [{"messages": CHAT}], **ONLY)
    reason = task.problem_of({"messages": turns[:2]}, "train")
    assert reason == "no turn of the assistant, and completions_only is set"


def test_a_row_that_the_template_refuses_is_named_and_the_others_go_on(speaking: Speaking, task_of: Make) -> None:
    system, user = {"role": "system", "content": "be short"}, {"role": "user", "content": "and ?"}
    rows = [{"messages": CHAT}, {"messages": [system, *CHAT]}, {"messages": [CHAT[0], user, CHAT[1]]}]
    for purpose in ("train", "score"):
        vocabulary = speaking(TEMPLATES["Gemma"].source)
        features, _, note = task_of(KIND, rows, **ONLY).encode(rows, vocabulary, purpose)
        assert {feature.row for feature in features} == {0}
        assert note == (
            "2 of 3 rows are left out: row 2: the chat template refuses it: System role not supported; row 3: the "
            "chat template refuses it: Conversation roles must alternate user/assistant/user/assistant/..."
        )
    with pytest.raises(DataError, match="2 of 3 rows cannot be used") as caught:
        task_of(KIND, rows).encode(rows, vocabulary, "predict")
    assert [problem[:6] for problem in caught.value.problems] == ["row 2:", "row 3:"]


def test_a_tokenizer_without_a_template_is_refused(speaking: Speaking, task_of: Make) -> None:
    with pytest.raises(BackboneError, match="no chat template"):
        task_of(KIND, [{"messages": CHAT}]).encode([{"messages": CHAT}], speaking(""))


CALL = {"name": "find", "arguments": {"animal": "fox"}}
WRITTEN = '\n<tool_call>\n{"name": "find", "arguments": {"animal": "fox"}}\n</tool_call>'
FOUND = {"role": "tool", "content": "dog"}
FORMS: dict[str, list[dict[str, Any]]] = {
    "OpenAI's": [
        {"role": "user", "content": [{"type": "text", "text": "where is "}, {"type": "text", "text": "the fox ?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {**CALL, "arguments": json.dumps(CALL["arguments"])}}
            ],
        },
        {**FOUND, "tool_call_id": "1"},
        {"role": "assistant", "content": "over the dog"},
    ],
    "transformers'": [
        {"role": "user", "content": "where is the fox ?"},
        {"role": "assistant", "tool_calls": [{"type": "function", "function": CALL}]},
        FOUND,
        {"role": "assistant", "content": "over the dog"},
    ],
    "ShareGPT's": [
        {"from": "human", "value": "where is the fox ?"},
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "dog"},
        {"from": "gpt", "value": "over the dog"},
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_calls_of_tools_are_read_in_every_form(form: str, speaking: Speaking, task_of: Make) -> None:
    vocabulary, rows = speaking(TEMPLATES["Qwen3"].source), [{"messages": FORMS[form], "tools": json.dumps([CALL])}]
    task = task_of(KIND, rows, **ONLY)
    (feature,) = task.encode(rows, vocabulary).features
    thought = "<think>\n\n</think>\n\n"
    assert learned(vocabulary, feature) == f"{thought}{WRITTEN}<|im_end|>\n{thought}over the dog<|im_end|>\n"
    theirs = vocabulary.tokenizer.apply_chat_template(FORMS["transformers'"], tools=[CALL])["input_ids"]
    assert feature.inputs["input_ids"] == theirs


def test_sharegpt_s_chats_and_prompts_of_turns_are_chats(speaking: Speaking, task_of: Make) -> None:
    vocabulary = speaking(CHATML)
    shared = [
        {"from": "human", "value": "where is Ada ?"},
        {"from": "gpt", "value": "in London"},
        {"from": "human", "value": "and the fox ?"},
        {"from": "gpt", "value": "over the dog"},
    ]
    system = {"role": "system", "content": "be short"}
    rows: list[dict[str, Any]] = [
        {"messages": [system, *CHAT]},
        {"messages": shared, "system": "be short"},
        {"prompt": [system, *CHAT[:3]], "completion": [CHAT[3]]},
        {"prompt": [system, *CHAT[:3]], "completion": "over the dog"},
    ]
    features = task_of(KIND, rows).encode(rows, vocabulary).features
    assert [feature.inputs["input_ids"] for feature in features] == [features[0].inputs["input_ids"]] * 4


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"from": "narrator", "value": "x"}, "messages[0]: from is 'narrator', expected one of human, user, gpt, "),
        ({"from": "gpt"}, "messages[0]: no content, and no tool_calls"),
        ({"role": "assistant", "content": None}, "messages[0]: no content, and no tool_calls"),
        (
            {"role": "user", "content": [{"type": "image", "url": "x"}]},
            "messages[0].content: a part is of type 'image', ",
        ),
        ({"role": "user", "content": 3}, "messages[0]: content is int, expected text"),
        ({"role": "assistant", "tool_calls": [{"arguments": "{}"}]}, "messages[0]: a tool call has no name"),
        ({"from": "function_call", "value": "find the fox"}, "messages[0].value is no JSON: 'find the fox'"),
    ],
)
def test_turns_that_cannot_be_read_say_why(turn: dict[str, Any], reason: str, task_of: Make) -> None:
    found = task_of(KIND, [{"messages": CHAT}]).problem_of({"messages": [turn]}, "train")
    assert found is not None
    assert found.startswith(reason)
