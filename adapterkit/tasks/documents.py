"""Documents of a causal language model: texts, prompts with completions, and chats, as one sequence of tokens each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from adapterkit.errors import BackboneError, DataError
from adapterkit.tasks.checked_rows import is_missing, listed, numbers_of, optional_text, string_problem, text_problem
from adapterkit.tasks.encoding import bare_ids, needs_fast, surroundings
from adapterkit.tasks.values import Row, Vocabulary

ASSISTANT = "assistant"
"""The role whose turns are completions."""


class Document(NamedTuple):
    """One document.

    Attributes:
        ids: its tokens, with a begin token where the tokenizer has one, and an end token.
        counted: whether each token is predicted.
        characters: characters of the text that is predicted.
    """

    ids: list[int]
    counted: list[bool]
    characters: int


def document_problem(row: Row, *, predict: bool, completions_only: bool) -> str | None:
    """Why a row is no document; None where it is one."""
    if row.get("messages") is not None:
        return _chat_problem(row["messages"], completions_only and not predict)
    if not is_missing(row.get("prompt")):
        problem = text_problem(row, "prompt")
        if problem or predict:
            return problem
        return text_problem(row, "completion")
    if is_missing(row.get("text")):
        return "no text, no prompt with completion, and no messages"
    if completions_only and not predict:
        return "a text has no completion, and completions_only is set"
    return text_problem(row, "text")


def encode_documents(rows: Sequence[Row], vocabulary: Vocabulary, *, completions_only: bool) -> list[Document]:
    """Every row as a document.

    A text and a prompt get the begin token that the tokenizer puts first, else its bos token, so that even the first
    token of a text is predicted. A prompt and its completion are tokenised apart, as they are when a completion is
    generated. A chat is what the tokenizer's template makes of it; with `completions_only` the assistant's turns count.

    Raises:
        DataError: a row is no document.
        BackboneError: no chat template, or one that does not let assistant turns be found.
    """
    bad = [
        f"line {line}: {problem}"
        for row, line in zip(rows, numbers_of(rows), strict=True)
        if (problem := document_problem(row, predict=False, completions_only=completions_only))
    ]
    if bad:
        raise DataError(f"{len(bad)} rows are no documents", listed(bad))
    begin, end = _begin(vocabulary), _end(vocabulary)
    texts = bare_ids(vocabulary, [optional_text(row, "prompt") or optional_text(row, "text") or "" for row in rows])
    completions = bare_ids(vocabulary, [row.get("completion") or "" for row in rows])
    found = []
    for row, ids, completion in zip(rows, texts, completions, strict=True):
        if row.get("messages") is not None:
            found.append(_chat(row["messages"], vocabulary, completions_only=completions_only))
        elif not is_missing(row.get("prompt")):
            known = [*begin, *ids]
            counted = [not completions_only] * len(known) + [True] * (len(completion) + len(end))
            characters = len(row["completion"]) + (0 if completions_only else len(row["prompt"]))
            found.append(Document([*known, *completion, *end], counted, characters))
        else:
            whole = [*begin, *ids, *end]
            found.append(Document(whole, [True] * len(whole), len(row["text"])))
    return found


def encode_prompts(rows: Sequence[Row], vocabulary: Vocabulary) -> list[list[int]]:
    """The tokens that generation continues: a prompt, a beginning, or a chat up to the assistant's turn."""
    begin = _begin(vocabulary)
    texts = bare_ids(vocabulary, [optional_text(row, "prompt") or optional_text(row, "text") or "" for row in rows])
    found = []
    for row, ids in zip(rows, texts, strict=True):
        if row.get("messages") is not None:
            found.append(bare_ids(vocabulary, [_render(row["messages"], vocabulary, answer=True)])[0])
        else:
            found.append([*begin, *ids])
    return found


def _begin(vocabulary: Vocabulary) -> list[int]:
    before, _ = surroundings(vocabulary)
    bos = vocabulary.tokenizer.bos_token_id
    return before or ([bos] if bos is not None else [])


def _end(vocabulary: Vocabulary) -> list[int]:
    eos = vocabulary.tokenizer.eos_token_id
    return [eos] if eos is not None else []


def _chat_problem(messages: Any, needs_assistant: bool) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages is not a list of turns"
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping):
            return f"messages[{place}] is {type(message).__name__}, expected role and content"
        for name in ("role", "content"):
            if problem := string_problem(message.get(name), name):
                return f"messages[{place}]: {problem}"
    if needs_assistant and not any(message["role"] == ASSISTANT for message in messages):
        return f"no turn of the {ASSISTANT}, and completions_only is set"
    return None


def _render(messages: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, *, answer: bool) -> str:
    """The chat as the tokenizer's template writes it; with `answer` up to where the assistant begins."""
    if not vocabulary.tokenizer.chat_template:
        raise BackboneError(
            "the tokenizer has no chat template, so messages cannot be read",
            remedy="Use a chat model, or rows with prompt and completion.",
        )
    from jinja2.exceptions import TemplateError  # what renders templates is imported where there is one

    turns = [dict(message) for message in messages]
    try:
        return str(vocabulary.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer))
    except TemplateError as error:
        raise DataError(f"the tokenizer's chat template refuses these turns: {error}") from error


def _chat(messages: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, *, completions_only: bool) -> Document:
    text = _render(messages, vocabulary, answer=False)
    if not completions_only:
        (ids,) = bare_ids(vocabulary, [text])
        return Document(ids, [True] * len(ids), len(text))
    needs_fast(vocabulary, "causal-lm with completions_only on chats", "assistant turns are found by them.")
    spans = [
        _turn(messages, place, text, vocabulary)
        for place, message in enumerate(messages)
        if message["role"] == ASSISTANT
    ]
    batch = vocabulary.read(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True)
    counted = [
        any(start <= first and first < last <= stop for start, stop in spans) for first, last in batch["offset_mapping"]
    ]
    return Document(list(batch["input_ids"]), counted, sum(stop - start for start, stop in spans))


def _turn(messages: Sequence[Mapping[str, Any]], place: int, text: str, vocabulary: Vocabulary) -> tuple[int, int]:
    """The characters of an assistant turn, with what the template puts behind it: the end that it has to learn."""
    before = _render(messages[:place], vocabulary, answer=True) if place else ""
    behind = _render(messages[: place + 1], vocabulary, answer=False)
    if not (text.startswith(before) and text.startswith(behind) and len(before) < len(behind)):
        raise BackboneError(
            "the tokenizer's chat template rewrites earlier turns, so assistant turns cannot be told apart",
            [f"turn {place}: the chat up to it is not the beginning of the whole chat"],
            "Use rows with prompt and completion, or set task.completions_only=false.",
        )
    return len(before), len(behind)
