"""Documents of a causal language model: texts, prompts with completions, and chats, as one sequence of tokens each."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from adapterkit.errors import DataError
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.alpaca import alpaca_problem, alpaca_prompt, alpaca_turns, is_alpaca
from adapterkit.tasks.chat_template import ChatTemplate, Document
from adapterkit.tasks.chats import ASSISTANT, ChatProblem, Turn, asked, chat_of, chat_problem, is_chat
from adapterkit.tasks.checked_rows import is_missing, listed, optional_text, places_of, refuse_rows, text_problem
from adapterkit.tasks.encoding import bare_ids, surroundings
from adapterkit.tasks.values import Row, Vocabulary

T = TypeVar("T")


class WrittenPrompt(NamedTuple):
    """What an answer follows, and the texts at which it ends besides those of the task."""

    ids: list[int]
    stop: tuple[str, ...] = ()


class Pair(NamedTuple):
    """A prompt, and the completion that is learned behind it; "" where it is to be generated, and behind a text."""

    prompt: str
    completion: str


class WrittenChat(NamedTuple):
    """The turns of a chat, and the tools that it offers."""

    turns: list[Turn]
    tools: list[Any] | None


def document_problem(row: Row, *, predict: bool, completions_only: bool) -> str | None:
    """Why a row is no document; None where it is one."""
    if is_chat(row):
        return chat_problem(row, predict=predict, needs_answer=completions_only and not predict)
    if is_alpaca(row) or not is_missing(row.get("prompt")):
        problem = alpaca_problem(row) if is_alpaca(row) else text_problem(row, "prompt")
        return problem if problem or predict else text_problem(row, "completion")
    if is_missing(row.get("text")):
        return "no text, no prompt or instruction, and no messages"
    if completions_only and not predict:
        return "a text has no completion, and completions_only is set"
    return text_problem(row, "text")


class Documents:
    """Reads rows with a tokenizer, as a task's settings say, and counts those of the Alpaca format; `refused` says why
    a row cannot be written by the chat template, by its position.

    Texts and prompts begin with the token that the tokenizer puts first (`begin_token`), and documents end with its end
    token, or with the task's `end_text`. A prompt and its completion are tokenised apart, as they are when a completion
    is generated. A chat is what the tokenizer's template makes of it; with `completions_only` the assistant's turns
    count.
    """

    def __init__(self, vocabulary: Vocabulary, settings: TaskSettings) -> None:
        self._vocabulary, self._settings = vocabulary, settings
        tokenizer = vocabulary.tokenizer
        self._chats_alpaca = bool(tokenizer.chat_template)
        self._begin, _ = surroundings(vocabulary)
        self._bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        if settings.begin_token == "always":
            self._begin = self._begin or self._bos
        self._end = [] if settings.end_text or tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        self.refused: dict[int, str] = {}
        self.alpaca = 0

    def read(self, rows: Sequence[Row]) -> list[Document | None]:
        """Every row as a document; None for those that are `refused`.
        Raises DataError: a row is no document; BackboneError: a chat, and the tokenizer has no template for it."""
        only = self._settings.completions_only
        refuse_rows(rows, lambda row: document_problem(row, predict=False, completions_only=only), "are no documents")
        return [
            self._pair(reading, ids, completion)
            if isinstance(reading, Pair)
            else self._unless_refused(index, self._learned, reading)
            for index, (reading, ids, completion) in enumerate(self._tokenised(rows, self._settings.end_text or ""))
        ]

    def prompts(self, rows: Sequence[Row]) -> list[WrittenPrompt | None]:
        """What generation continues: a prompt, a beginning, or a chat up to the assistant's turn; None for the refused.
        Raises BackboneError: a chat, and the tokenizer has no template for it."""
        return [
            WrittenPrompt(self._begun(ids))
            if isinstance(reading, Pair)
            else self._unless_refused(index, self._asked, reading)
            for index, (reading, ids, _) in enumerate(self._tokenised(rows))
        ]

    def refusal(self, rows: Sequence[Row]) -> DataError:
        """The error for rows that were refused: the reason itself where there is but one row."""
        if len(rows) == 1:
            return DataError(self.refused[0])
        return DataError(f"{len(self.refused)} of {len(rows)} rows cannot be used", self._reasons(rows))

    def _reasons(self, rows: Sequence[Row]) -> list[str]:
        places = places_of(rows)
        return listed(f"{places[index]}: {why}" for index, why in sorted(self.refused.items()))

    def notes(self, rows: Sequence[Row], *, alpaca: bool) -> list[str]:
        """What to tell of the rows that were read. `alpaca`: whether to say how rows of the Alpaca format are read."""
        found = []
        if self.refused:
            found.append(f"{len(self.refused):,} of {len(rows):,} rows are left out: {'; '.join(self._reasons(rows))}")
        if self.alpaca and alpaca:
            how = "chats, through the tokenizer's template" if self._chats_alpaca else "prompts, as Alpaca has them"
            found.append(f"{self.alpaca:,} of {len(rows):,} rows are of the Alpaca format, and are read as {how}")
        return found

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self._vocabulary)

    def _tokenised(
        self, rows: Sequence[Row], end: str = ""
    ) -> Iterator[tuple[WrittenChat | Pair, list[int], list[int]]]:
        """Every row as it is read, with the tokens of its prompt and of its completion, `end` behind them."""
        readings = [self._reading(row) for row in rows]
        self.alpaca += sum(is_alpaca(row) for row in rows if not is_chat(row))
        known, completions = [""] * len(rows), [""] * len(rows)
        for index, reading in enumerate(readings):
            if isinstance(reading, Pair):
                known[index] = reading.prompt + end * (not reading.completion)
                completions[index] = reading.completion + end * bool(reading.completion)
        yield from zip(
            readings, bare_ids(self._vocabulary, known), bare_ids(self._vocabulary, completions), strict=True
        )

    def _reading(self, row: Row) -> WrittenChat | Pair:
        if is_chat(row):
            return WrittenChat(*chat_of(row))
        answer = optional_text(row, "completion") or ""
        if not is_alpaca(row):
            prompt = optional_text(row, "prompt")
            return Pair(row["text"], "") if prompt is None else Pair(prompt, answer)
        if not self._chats_alpaca:
            return Pair(alpaca_prompt(row), answer)
        answers = [{"role": ASSISTANT, "content": answer}] if answer else []
        return WrittenChat([*alpaca_turns(row), *answers], None)

    def _pair(self, pair: Pair, ids: Sequence[int], completion: Sequence[int]) -> Document:
        only, known = self._settings.completions_only, self._begun(ids)
        counted = [not only] * len(known) + [True] * (len(completion) + len(self._end))
        characters = len(pair.completion) + (0 if only else len(pair.prompt) - self._unread(ids))
        return Document([*known, *completion, *self._end], counted, characters)

    def _begun(self, ids: Sequence[int]) -> list[int]:
        """A text with what stands before it: the begin token, where there is any, before no text at all."""
        return [*self._begin, *ids] or list(self._bos)

    def _unread(self, ids: Sequence[int]) -> int:
        """Characters of a first token that nothing predicts, since no begin token stands before it."""
        return 0 if self._begin else len(str(self._vocabulary.tokenizer.decode(list(ids[:1]))))

    def _learned(self, chat: WrittenChat) -> Document:
        write = self._template.answers if self._settings.completions_only else self._template.whole
        return write(chat.turns, chat.tools)

    def _asked(self, chat: WrittenChat) -> WrittenPrompt:
        return WrittenPrompt(self._template.prompt(asked(chat.turns), chat.tools), self._template.stops)

    def _unless_refused(self, index: int, write: Callable[[WrittenChat], T], chat: WrittenChat) -> T | None:
        try:
            return write(chat)
        except ChatProblem as problem:
            self.refused[index] = str(problem)
            return None
