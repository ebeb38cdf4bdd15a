"""Chats as data sets have them, read as transformers' templates ask for them: a list of turns with role and content."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapterkit.tasks.checked_rows import is_missing, string_problem, text_problem
from adapterkit.tasks.values import Row

ASSISTANT = "assistant"
"""The role whose turns are answers."""

SHAREGPT_ROLES: Mapping[str, str] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), ASSISTANT),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}
"""ShareGPT's `from` -> the role of transformers' templates. `function_call` is an assistant's call of a tool."""

TEXT_PARTS = ("text", "input_text", "output_text")

Turn = dict[str, Any]


class ChatProblem(Exception):  # noqa: N818 - what is wrong with one row, caught where rows are checked
    """Why a row is no chat."""


def is_chat(row: Row) -> bool:
    """Whether a row is a chat: messages, or a prompt that is a list of turns."""
    return not is_missing(row.get("messages")) or isinstance(row.get("prompt"), list)


def chat_problem(row: Row, *, predict: bool, needs_answer: bool) -> str | None:
    """Why a row's messages are no chat; None where they are one.
    `predict`: whether the last turn is to be answered; an answer that stands there is no part of the prompt.
    `needs_answer`: whether there has to be a turn of the assistant to learn."""
    try:
        turns, _ = chat_of(row)
        if predict:
            asked(turns)
    except ChatProblem as problem:
        return str(problem)
    if needs_answer and not any(turn["role"] == ASSISTANT and turn.get("weight") != 0 for turn in turns):
        return f"no turn of the {ASSISTANT}, and completions_only is set"
    return None


def chat_of(row: Row) -> tuple[list[Turn], list[Any] | None]:
    """The turns of a row and the tools that it offers, as transformers' templates ask for them.
    Raises ChatProblem: the row holds no chat."""
    messages = row.get("messages")
    if is_missing(messages) and isinstance(row.get("prompt"), list):
        messages = [*row["prompt"], *_answers(row.get("completion"))]
    if not isinstance(messages, list) or not messages:
        raise ChatProblem("messages is not a list of turns")
    turns = [_turn(message, f"messages[{place}]") for place, message in enumerate(messages)]
    if not is_missing(row.get("system")) and turns[0]["role"] != "system":
        if problem := text_problem(row, "system"):
            raise ChatProblem(problem)
        turns.insert(0, {"role": "system", "content": row["system"]})
    return turns, _tools(row.get("tools"))


def asked(turns: Sequence[Turn]) -> list[Turn]:
    """The chat up to where the assistant is to answer: without the answer, where it stands there."""
    found = list(turns[:-1] if turns[-1]["role"] == ASSISTANT else turns)
    if not found:
        raise ChatProblem("messages holds an answer alone, and nothing to answer")
    return found


def _answers(completion: Any) -> list[Any]:
    """The turns of a completion."""
    if isinstance(completion, str):
        return [{"role": ASSISTANT, "content": completion}]
    return [] if is_missing(completion) else completion if isinstance(completion, list) else [completion]


def _turn(message: Any, place: str) -> Turn:
    if not isinstance(message, Mapping):
        raise ChatProblem(f"{place} is {type(message).__name__}, expected role and content")
    turn = _of_sharegpt(message, place) if "role" not in message and "from" in message else dict(message)
    if problem := text_problem(turn, "role"):
        raise ChatProblem(f"{place}: {problem}")
    if turn.get("tool_calls"):
        turn["tool_calls"] = [_tool_call(call, place) for call in _listed(turn["tool_calls"], f"{place}.tool_calls")]
    content = turn.get("content")
    if isinstance(content, list):
        turn["content"] = content = "".join(_written(part, f"{place}.content") for part in content)
    if content is None:
        if not turn.get("tool_calls"):
            raise ChatProblem(f"{place}: no content" + ("" if "content" not in turn else ", and no tool_calls"))
    elif problem := string_problem(content, "content"):
        raise ChatProblem(f"{place}: {problem}")
    return turn


def _of_sharegpt(message: Mapping[str, Any], place: str) -> Turn:
    speaker, value = message["from"], message.get("value")
    rest = {key: item for key, item in message.items() if key not in ("from", "value")}
    if speaker == "function_call":
        return {"role": ASSISTANT, "content": None, "tool_calls": [_json(value, f"{place}.value")], **rest}
    if speaker not in SHAREGPT_ROLES:
        known = ", ".join([*SHAREGPT_ROLES, "function_call"])
        raise ChatProblem(f"{place}: from is {speaker!r:.40}, expected one of {known}")
    return {"role": SHAREGPT_ROLES[speaker], "content": value, **rest}


def _tool_call(call: Any, place: str) -> Any:
    """A call as templates print it: arguments as an object, where OpenAI's format has them as JSON in a text."""
    if not isinstance(call, Mapping):
        raise ChatProblem(f"{place}: a tool call is {type(call).__name__}, expected a name with arguments")
    if "function" not in call:
        call = {"type": "function", "function": dict(call)}
    function = call["function"]
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ChatProblem(f"{place}: a tool call has no name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _json(arguments, f"{place}: the arguments of {function['name']}")
    return {**call, "function": {**function, "arguments": arguments}}


def _written(part: Any, place: str) -> str:
    """The text of one content part."""
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    if kind in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    raise ChatProblem(f"{place}: a part is of type {kind!r:.40}, and the backbone reads text alone")


def _tools(tools: Any) -> list[Any] | None:
    if is_missing(tools):
        return None
    return _listed(_json(tools, "tools") if isinstance(tools, str) else tools, "tools") or None


def _listed(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise ChatProblem(f"{place} is {type(value).__name__}, expected a list")
    return value


def _json(text: Any, place: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise ChatProblem(f"{place} is no JSON: {text!r:.60}") from error
