"""Golden rows: a few inputs with the outputs of the saved weights, so that anyone can prove the same answers.

They are computed one row at a time, so that neither padding nor neighbours take part, from weights that were rounded
to the dtype in which they are saved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from adapterkit.errors import AdapterkitError, ArtifactError
from adapterkit.manifest import GoldenFacts, GoldenRow

if TYPE_CHECKING:
    from adapterkit.adapted import Adapted
    from adapterkit.tasks.protocol import Task

TOLERANCE: Mapping[str, float] = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-1, "nf4": 0.5}
"""By how much a number may differ, as a share of the largest number of its row (at least of 1).

The coarser of the two dtypes counts. Processors, thread counts and library versions add in another order: in fp32
that moves logits by some 1e-5, on GPUs that multiply in TF32 by some 1e-4, so 1e-3 leaves a margin of ten. fp16 has
11 bits and bf16 8, so one rounding is 5e-4 or 4e-3, and a deep model adds up a few dozen of them.
"""

NOT_FINITE = "what the adapter computes is not finite"
TOO_LARGE = "Its weights are too large for the number format: train it again."

MAX_ROW_BYTES = 2_000
EXCERPT_CHARACTERS = 600
"""A language model's row may be a whole book: excerpts of this length stand for it."""
MAX_EXCERPTS = 64
MAX_NUMBERS = 256
NEW_TOKENS = 8
"""A generated text of this length proves the generation config, the stops and the prompt's layout."""


def choose_rows(task: Task, rows: Sequence[Mapping[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Pick short rows, by their digest: the same ones every time, in whatever order the rows come.

    Only the task's columns are kept, and only rows that it can use. Where all rows are long, the shortest are taken; of
    a language model's long texts, excerpts.
    """
    candidates: dict[str, dict[str, Any]] = {}
    for row in chain.from_iterable(_excerpts(task, whole) for whole in rows):
        if task.problem_of(row, task.proof) is not None:
            continue
        kept = {name: row[name] for name in task.columns if row.get(name) is not None}
        try:
            candidates[json.dumps(kept, sort_keys=True, ensure_ascii=False, allow_nan=False)] = kept
        except (TypeError, ValueError):
            continue

    def rank(text: str) -> tuple[int, str]:
        size_bytes = len(text.encode("utf-8", "surrogatepass"))
        return max(0, size_bytes - MAX_ROW_BYTES), sha256(f"{seed} {text}".encode("utf-8", "surrogatepass")).hexdigest()

    return [candidates[text] for text in sorted(candidates, key=rank)[:count]]


def _excerpts(task: Task, row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    text = row.get("text")
    if not task.running_text or not isinstance(text, str) or len(text) <= EXCERPT_CHARACTERS:
        yield row
        return
    starts = range(0, len(text) - EXCERPT_CHARACTERS + 1, EXCERPT_CHARACTERS)
    for start in starts[:: max(1, len(starts) // MAX_EXCERPTS)]:
        yield {**row, "text": text[start : start + EXCERPT_CHARACTERS]}


def compute_golden(adapted: Adapted, rows: Sequence[Mapping[str, Any]]) -> GoldenFacts:
    """Answer rows with the weights as they are. Rows that encode to nothing are left out.
    Raises ArtifactError: an answer is no number: the weights are too large to compute with."""
    answers = [(row, answer) for row in rows for answer in _answer(adapted, row)]
    lost = [f"golden row {at}: {NOT_FINITE}" for at, (_, answer) in enumerate(answers, start=1) if answer is None]
    if lost:
        raise ArtifactError("this adapter answers with what is no number, so it is not saved", lost, TOO_LARGE)
    found = tuple(GoldenRow(row=dict(row), **answer) for row, answer in answers if answer is not None)
    return GoldenFacts(dtype=_word(adapted), rows=found)  # type: ignore[arg-type]


def row_problems(task: Task, golden: GoldenFacts) -> list[str]:
    """Rows that the task cannot read."""
    problems = [(number, task.problem_of(each.row, task.proof)) for number, each in enumerate(golden.rows)]
    return [f"golden.rows.{number}.row: {problem}" for number, problem in problems if problem is not None]


def golden_problems(adapted: Adapted, golden: GoldenFacts) -> list[str]:
    """Answer the golden rows again. Returns every row whose answer is another one."""
    word = max(golden.dtype, _word(adapted), key=lambda name: TOLERANCE[name])
    tolerance = TOLERANCE[word]
    problems = []
    for number, stored in enumerate(golden.rows, start=1):
        try:
            answer = next(_answer(adapted, stored.row), {"numbers": ()})
        except AdapterkitError as error:
            problems.append(f"golden row {number}: {error.message}")
            continue
        if answer is None:
            problems.append(f"golden row {number}: {NOT_FINITE}. {TOO_LARGE}")
            continue
        if len(answer["numbers"]) != len(stored.numbers):
            problems.append(f"golden row {number}: {len(answer['numbers'])} numbers, expected {len(stored.numbers)}")
            continue
        scale = max(1.0, *(abs(value) for value in stored.numbers))
        worst = max(abs(a - b) for a, b in zip(answer["numbers"], stored.numbers, strict=True))
        if not worst <= tolerance * scale:
            problems.append(
                f"golden row {number}: numbers differ by {worst:.3g}, expected at most {tolerance * scale:.3g}"
            )
        elif word == "float32" and not _alike(answer["prediction"], stored.prediction, tolerance):
            ours, theirs = _shown(answer["prediction"]), _shown(stored.prediction)
            problems.append(f"golden row {number}: answered {ours}, expected {theirs}")
        elif word == "float32" and stored.text not in (None, answer["text"]):
            ours, theirs = _shown(answer["text"]), _shown(stored.text)
            problems.append(f"golden row {number}: goes on with {ours}, expected {theirs}")
    return problems


def _answer(adapted: Adapted, row: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """The prediction, the numbers and the text of one row, None where they are not finite; nothing where it encodes to
    nothing."""
    task, was_training = adapted.task, adapted.training
    features = task.encode([row], adapted.vocabulary, task.proof).features
    if not features:
        return
    batch = task.collate(features, adapted.vocabulary, seed=None).to(adapted.backbone.device)
    adapted.eval()
    try:
        with torch.inference_mode():
            logits = adapted(batch.inputs)
            if not torch.isfinite(logits).all():
                yield None
                return
            if task.proof == "score":
                numbers, prediction = [float(task.loss(logits, batch).mean)], None
            else:
                numbers = _thinned(logits)
                alone = [replace(feature, row=0) for feature in features]
                prediction = task.predictions([row], alone, task.outputs(logits, batch))[0]
    finally:
        adapted.train(was_training)
    yield {
        "prediction": _rounded(prediction),
        "numbers": tuple(float(f"{number:.7g}") for number in numbers),
        "text": _continued(adapted, row),
    }


def _continued(adapted: Adapted, row: Mapping[str, Any]) -> str | None:
    """How a kind that generates goes on from a row's prompt; None of every other kind."""
    task = adapted.task
    if not task.generates or task.problem_of(row, "predict") is not None:
        return None
    try:
        features = task.encode([row], adapted.vocabulary, "predict").features
    except AdapterkitError:  # a chat, say, whose template can be learned from and gives no prompt
        return None
    texts = adapted.generate(features, new_tokens=NEW_TOKENS, beams=1)
    return texts[0] if texts else None


def _thinned(logits: torch.Tensor) -> list[float]:
    """All values of a small tensor; MAX_NUMBERS evenly spaced ones of a large one, the first and the last included."""
    flat = logits.float().flatten().cpu()
    keep = torch.linspace(0, len(flat) - 1, min(len(flat), MAX_NUMBERS), dtype=torch.float64).round().long()
    return [float(value) for value in flat[keep]]


def _rounded(value: Any) -> Any:
    """Floats with seven digits, which is all that float32 has."""
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _alike(found: Any, expected: Any, tolerance: float) -> bool:
    """Equal, but for floats that may differ by the tolerance."""
    if isinstance(found, dict) and isinstance(expected, dict):
        # An answer may say more than it did when it was saved.
        return expected.keys() <= found.keys() and all(_alike(found[key], expected[key], tolerance) for key in expected)
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(lambda a, b: _alike(a, b, tolerance), found, expected))
    numbers = (int, float)
    if isinstance(found, numbers) and isinstance(expected, numbers) and float in (type(found), type(expected)):
        return abs(found - expected) <= tolerance * max(1.0, abs(expected))
    return bool(found == expected)


def _word(adapted: Adapted) -> str:
    return adapted.backbone.quantised or str(adapted.compute_dtype).removeprefix("torch.")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 120 else f"{text[:117]}..."
