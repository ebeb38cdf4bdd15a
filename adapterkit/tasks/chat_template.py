"""Chats through a tokenizer's template: as text, as a prompt, and with what the assistant said in it.

Where the template marks itself what is generated (`{% generation %}`), that is learned. Else the assistant's turns are
found by their characters: a turn begins where the prompt for it ends, and ends with what the template puts behind an
answer. Tokens are those of the whole chat, as `apply_chat_template` gives them.
"""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from adapterkit.errors import BackboneError
from adapterkit.tasks.chats import ASSISTANT, ChatProblem, Turn
from adapterkit.tasks.encoding import needs_fast
from adapterkit.tasks.values import Vocabulary

PROBE = "Lorem0ipsum"
"""A text that no template writes by itself."""
WORD = "the"
"""A word that shares a token with a space before it, if any word does."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Tools = list[Any] | None
Span = tuple[int, int]


class Document(NamedTuple):
    """A document's tokens, whether each is learned, and how many characters the learned ones write."""

    ids: list[int]
    counted: list[bool]
    characters: int


class ChatTemplate:
    """The template of a tokenizer: the `header` that asks the assistant, "" where there is none, the `end` behind an
    answer, and `stops`, the token that closes a turn of the assistant or all that is written there."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises BackboneError: the tokenizer has no template."""
        self._tokenizer = vocabulary.tokenizer
        self._vocabulary = vocabulary
        if not self._tokenizer.chat_template:
            raise BackboneError(
                "the tokenizer has no chat template, so messages cannot be read",
                remedy="Use a chat model, or rows with prompt and completion.",
            )
        self.header, self.end = self._marks()
        end = self.end.strip()
        first = self._vocabulary.bare(end)["input_ids"][:1] if end else []
        is_mark = bool(first) and first[0] in self._tokenizer.added_tokens_decoder
        self.stops = (str(self._tokenizer.decode(first)).strip(),) if is_mark else (end,) * bool(end)

    def prompt(self, turns: Sequence[Turn], tools: Tools = None) -> list[int]:
        """The tokens that an answer follows. White space at their end that would be a part of the answer's first token
        is left to the answer, as it is where the whole chat is learned.

        Raises ChatProblem: the template refuses the chat.
        """
        text = self.write(turns, tools, answer=True)
        if not text[-1:].isspace() or not self._tokenizer.is_fast:
            return list(self._vocabulary.bare(text)["input_ids"])
        ids, spans = self._tokens(text + WORD)
        return [token for token, (_, stop) in zip(ids, spans, strict=True) if stop <= len(text)]

    def whole(self, turns: Sequence[Turn], tools: Tools = None) -> Document:
        """A chat of which everything is learned. Raises ChatProblem: the template refuses it."""
        text = self.write(turns, tools)
        ids = list(self._vocabulary.bare(text)["input_ids"])
        return Document(ids, [True] * len(ids), len(text))

    def answers(self, turns: Sequence[Turn], tools: Tools = None) -> Document:
        """A chat of which the assistant's turns are learned, but for those of weight 0.
        Raises ChatProblem: the template refuses the chat, or does not write its turns so that they can be found;
        BackboneError: a tokenizer that does not say which characters a token stands for."""
        needs_fast(self._vocabulary, "causal-lm with completions_only on chats", "assistant turns are found by them.")
        text = self.write(turns, tools)
        ids, spans = self._tokens(text)
        marked = _GENERATION.search(str(self._tokenizer.get_chat_template(None, tools)))
        told = self._told(turns, tools) if marked else None
        found = _Turns(self, text, turns, tools)
        answers = [place for place, turn in enumerate(turns) if _is_answer(turn)]
        silent = _within(spans, [found.span(place) for place in answers if turns[place].get("weight") == 0])
        if told is None:
            told = _within(spans, [found.span(place) for place in answers if turns[place].get("weight") != 0])
        counted = [yes and not no for yes, no in zip(told, silent, strict=True)]
        written = {place for span, yes in zip(spans, counted, strict=True) if yes for place in range(*span)}
        return Document(ids, counted, len(written))

    def write(self, turns: Sequence[Turn], tools: Tools = None, *, answer: bool = False) -> str:
        """The chat as the template writes it; with `answer` up to where the assistant begins.
        Raises ChatProblem: the template refuses it."""
        from jinja2.exceptions import TemplateError  # what renders templates is imported where there is one

        try:
            return str(self._apply(turns, tools, tokenize=False, add_generation_prompt=answer))
        # A template is a program of strangers: what it raises beside jinja's own errors is whatever its filters raise.
        except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            if any(turn.get("content", "") is None for turn in turns):
                return self.write(
                    [{**turn, "content": turn.get("content") or ""} for turn in turns], tools, answer=answer
                )
            lines = str(error).strip().splitlines()
            raise ChatProblem(
                f"the chat template refuses it: {lines[0][:200] if lines else type(error).__name__}"
            ) from error

    def _apply(self, turns: Sequence[Turn], tools: Tools, **settings: Any) -> Any:
        return self._tokenizer.apply_chat_template([dict(turn) for turn in turns], tools=tools, **settings)

    def _tokens(self, text: str) -> tuple[list[int], list[Span]]:
        batch = self._vocabulary.bare(text, offsets=True)
        return list(batch["input_ids"]), [(int(first), int(last)) for first, last in batch["offset_mapping"]]

    def _told(self, turns: Sequence[Turn], tools: Tools) -> list[bool] | None:
        """The template's own mask; None where it marks nothing."""
        told = self._apply(turns, tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        mask = [bool(mark) for mark in told["assistant_masks"]]
        return mask if any(mask) else None

    def _marks(self) -> tuple[str, str]:
        user = {"role": "user", "content": "Dolor0sit"}
        try:
            before, after = self.write([user]), self.write([user], answer=True)
            _, found, end = self.write([user, {"role": ASSISTANT, "content": PROBE}]).rpartition(PROBE)
        except ChatProblem:
            return "", ""
        return after[len(before) :] if after.startswith(before) else "", end if found else ""


class _Turns:
    """The assistant's turns in a chat that is written."""

    def __init__(self, template: ChatTemplate, text: str, turns: Sequence[Turn], tools: Tools) -> None:
        self._template, self._text, self._turns, self._tools = template, text, turns, tools

    def span(self, place: int) -> Span:
        """The characters of a turn, with what is written behind it: the end that has to be learned.
        Raises ChatProblem: the turn cannot be found."""
        start = self._start(place)
        stop = self._stop(place, start)
        if stop <= start:
            raise ChatProblem(f"messages[{place}]: the chat template does not write the answer as it is")
        return start, stop

    def _start(self, place: int) -> int:
        """Where the prompt for the turn ends, or its header where the template rewrites what stands before."""
        text, before = self._text, self._turns[:place]
        if before:
            asked = self._template.write(before, self._tools, answer=True)
            if text.startswith(asked):
                return len(asked)
            if text.startswith(self._template.write(before, self._tools)):
                return _alike(text, asked)
        header, at = self._template.header, 0
        for number, turn in enumerate(self._turns[: place + 1]):
            behind_header = self._text.find(header, at) + len(header) if header and _is_answer(turn) else 0
            at = max(at, behind_header)
            if number < place:
                at = max(at, self._behind(turn, at))
        return at if header else max(at, self._text.find(_content(self._turns[place]), at))

    def _stop(self, place: int, start: int) -> int:
        """Where the chat up to the turn ends, or what is written behind an answer where the template rewrites it."""
        text, turn, end = self._text, self._turns[place], self._template.end
        written = self._template.write(self._turns[: place + 1], self._tools)
        if text.startswith(written):
            return len(written)
        behind = self._behind(turn, start)
        if behind > start and not turn.get("tool_calls"):
            return behind + _alike(end, text[behind:])
        marker = end.strip()
        found = text.find(marker, max(behind, start)) if marker else -1
        passed = [_content(later) in text[start:found] for later in self._turns[place + 1 :] if _content(later)]
        if found < 0 or any(passed):
            return start
        stop = found + len(marker)
        return stop + _alike(end[end.index(marker) + len(marker) :], text[stop:])

    def _behind(self, turn: Turn, at: int) -> int:
        """Where a turn's own text ends; -1 where it is not written as it is."""
        content = _content(turn)
        found = self._text.find(content, at) if content else -1
        return found + len(content) if found >= 0 else -1


def _content(turn: Turn) -> str:
    return str(turn.get("content") or "").strip()


def _is_answer(turn: Turn) -> bool:
    return bool(turn["role"] == ASSISTANT)


def _alike(first: str, second: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _within(spans: Sequence[Span], wanted: Sequence[Span]) -> list[bool]:
    """Whether each token belongs to one of the wanted spans: the first one may begin with the space before it."""
    return [any(start < last <= stop for start, stop in wanted) and first < last for first, last in spans]
