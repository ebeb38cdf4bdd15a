"""The official JSON of SQuAD 1.1 and 2.0: articles of paragraphs of questions, as rows of one question each."""

from collections.abc import Iterator
from typing import Any

from adapterkit.data.problems import Problems
from adapterkit.data.rows import Row


def is_article(value: Any) -> bool:
    """Whether a value is one of SQuAD's articles."""
    if not isinstance(value, dict) or not isinstance(value.get("paragraphs"), list) or not value["paragraphs"]:
        return False
    first = value["paragraphs"][0]
    return isinstance(first, dict) and "context" in first and isinstance(first.get("qas"), list)


def flatten(article: dict[str, Any], place: str, problems: Problems) -> Iterator[Row]:
    """The questions of an article as `datasets` has them: answers are {"text": [...], "answer_start": [...]}.

    What else a question says of itself (`is_impossible`, `plausible_answers`) stays beside it.
    """
    about = {name: value for name, value in article.items() if name != "paragraphs"}
    for paragraph_place, paragraph in enumerate(article["paragraphs"], start=1):
        where = f"{place}, paragraph {paragraph_place}"
        if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
            problems.add(where, "expected an object with a context and its questions (qas)")
            continue
        shared = {**about, **{name: value for name, value in paragraph.items() if name != "qas"}}
        for question_place, question in enumerate(paragraph["qas"], start=1):
            if not isinstance(question, dict):
                problems.add(f"{where}, question {question_place}", "expected an object")
                continue
            row: Row = {**question, **shared}
            if "answers" in question:
                row["answers"] = _answers(question["answers"])
                if question.get("is_impossible") is True and question["answers"]:
                    problems.add(f"{where}, question {question_place}", "is_impossible is true, and it has answers")
            yield row


def _answers(value: Any) -> Any:
    """A list of answers as one object of lists; anything else stays, and the task says what it thinks of it."""
    if not isinstance(value, list) or not all(isinstance(answer, dict) for answer in value):
        return value
    names = ("text", "answer_start")
    others = dict.fromkeys(name for answer in value for name in answer if name not in names)
    return {name: [answer.get(name) for answer in value] for name in (*names, *others)}
