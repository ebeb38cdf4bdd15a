"""Whether what was written for other programs answers as the adapter does: the rows, the answers, the comparison."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.adapted import Adapted
from adapterkit.artifact.reading import Artifact
from adapterkit.errors import ExportError
from adapterkit.heads.headed import logits_of
from adapterkit.tasks.confident import temperature_of
from adapterkit.tasks.protocol import Feature, Task

REMEDY = "Nothing was written. Please report it with the model's family; ak.Host and ak.load serve the artifact."


def example_features(adapted: Adapted, artifact: Artifact) -> list[Feature]:
    """What there is of a few rows: the golden rows, else sentences of ours."""
    task = adapted.task
    rows: Sequence[Mapping[str, Any]] = [row.row for row in artifact.manifest.golden.rows]
    rows = rows or task.sample_rows(task.labels, task.problem)
    return [one for row in rows for one in task.encode([row], adapted.vocabulary, task.proof).features]


def expected_answers(
    adapted: Adapted, artifact: Artifact, trunk_only: bool
) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
    """A few inputs, and what the adapter answers to them; see `plain_answer`."""
    features, task = example_features(adapted, artifact), adapted.task
    batches = [task.collate([feature], adapted.vocabulary, seed=None).inputs for feature in features]
    return batches, [plain_answer(adapted, batch, trunk_only) for batch in batches]


def visible(answer: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """The answers (N, …) at the tokens of the inputs, of one for each token (B, T, …); any other as it is.

    At padding a model answers at will: what it computes there depends on how it was told that nothing is there.
    """
    mask = inputs.get("attention_mask")
    if mask is None or answer.dim() < 3 or "decoder_input_ids" in inputs:
        return answer
    return answer[mask.bool()] if mask.shape == answer.shape[:2] else answer


def plain_answer(model: nn.Module, inputs: dict[str, Tensor], trunk_only: bool) -> Tensor:
    """Logits, or the trunk's states, where there is a token; of an encoder-decoder's trunk those of its encoder, which
    needs no target."""
    if trunk_only:
        trunk: Any = model.backbone.trunk if isinstance(model, Adapted) else model
        rows = {name: value.reshape(-1, value.shape[-1]) for name, value in inputs.items()}
        if trunk.config.is_encoder_decoder:
            trunk, rows = trunk.get_encoder(), {name: rows[name] for name in ("input_ids", "attention_mask")}
        rows.pop("labels", None)
        with torch.inference_mode():
            return visible(trunk(**rows).last_hidden_state.float(), rows)
    with torch.inference_mode():
        if isinstance(model, Adapted):
            tempered: Tensor = model(inputs).float() / temperature_of(model.task)
            return visible(tempered, inputs)
        return visible(logits_of(model(**inputs)).float(), inputs)


def temper(own: Mapping[str, Tensor], trained: Iterable[str], task: Task) -> None:
    """Divide logits by the task's temperature, in the weights of the head's last linear with one output per class. The
    answers are compared afterwards, which proves that it was the one. `own`: tensors by name, changed in place.
    `trained`: names of the head's."""
    weights = {name: own[name] for name in trained if name.endswith(".weight")}
    ends = [name for name, tensor in weights.items() if tensor.dim() == 2 and len(tensor) == task.classes]
    for name in (each for end in ends[-1:] for each in (end, f"{end.removesuffix('weight')}bias") if each in own):
        own[name].div_(temperature_of(task))


def check_answers(summary: str, found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Raises ExportError with every row whose answer is another one."""
    problems = [] if expected else ["there is no row to compare by"]
    for number, (answer, wanted) in enumerate(zip(found, expected, strict=True), start=1):
        allowed = tolerance * max(1.0, float(wanted.abs().max()))
        worst = float((answer - wanted).abs().max()) if answer.shape == wanted.shape else float("inf")
        if not worst <= allowed:
            problems.append(f"row {number}: differs by {worst:.3g}, expected at most {allowed:.3g}")
    if problems:
        raise ExportError(summary, problems, REMEDY)
