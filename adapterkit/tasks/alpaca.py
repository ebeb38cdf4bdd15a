"""Rows of the Alpaca format: an instruction, what it is about, and the output; earlier turns and a system text too.

The columns are Alpaca's (Taori et al. 2023), with the `system` and `history` that collections in its format add. The
prompt is the one that Alpaca was trained with.
"""

from typing import Any

from adapterkit.tasks.checked_rows import is_missing, optional_text, text_problem
from adapterkit.tasks.values import Row

PREAMBLE = "Below is an instruction that describes a task{}. Write a response that appropriately completes the request."
WITH_INPUT = ", paired with an input that provides further context"

OPTIONAL = ("input", "system", "history")
"""Columns that a row may have beside its instruction."""


def is_alpaca(row: Row) -> bool:
    """Whether a row is of the format: an instruction, or a prompt with an input, a system text or a history."""
    if is_missing(row.get("prompt")):
        return not is_missing(row.get("instruction"))
    return any(not is_missing(row.get(name)) for name in OPTIONAL)


def alpaca_problem(row: Row) -> str | None:
    """What is wrong with the columns of a row but its output; None where nothing is."""
    return text_problem(row, _instruction(row)) or optional_problem(row, "input", "system")


def optional_problem(row: Row, *names: str) -> str | None:
    """What is wrong with the text columns `names`, where they are there, and with the history."""
    if problem := text_problem(row, optional=names):
        return problem
    history = row.get("history")
    if not is_missing(history) and not (isinstance(history, list) and all(map(_is_exchange, history))):
        return "history is not a list of [question, answer]"
    return None


def earlier(row: Row) -> list[list[str]]:
    """The questions and answers before the row's own."""
    history = row.get("history")
    return [] if is_missing(history) else list(history or [])


def alpaca_turns(row: Row) -> list[dict[str, Any]]:
    """The row as a chat, up to the answer."""
    system = optional_text(row, "system")
    turns = [{"role": "system", "content": system}] if system else []
    for question, answer in earlier(row):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*turns, {"role": "user", "content": lines(row[_instruction(row)], optional_text(row, "input"))}]


def alpaca_prompt(row: Row) -> str:
    """The row as one prompt, which the output follows."""
    given = optional_text(row, "input")
    sections = [optional_text(row, "system") or PREAMBLE.format(WITH_INPUT if given else "")]
    for question, answer in earlier(row):
        sections += [f"### Instruction:\n{question}", f"### Response:\n{answer}"]
    sections += [f"### Instruction:\n{row[_instruction(row)]}", *[f"### Input:\n{given}"] * bool(given)]
    return "\n\n".join([*sections, "### Response:\n"])


def lines(*texts: str | None) -> str:
    """Texts that are there, one below the other."""
    return "\n".join(text for text in texts if text)


def _instruction(row: Row) -> str:
    return "instruction" if is_missing(row.get("prompt")) else "prompt"


def _is_exchange(turns: Any) -> bool:
    return isinstance(turns, list | tuple) and len(turns) == 2 and all(isinstance(turn, str) for turn in turns)
