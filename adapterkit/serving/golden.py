"""Whether what is mounted still answers its golden rows: asked of the host itself, as any client would."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterkit.artifact.golden import NEW_TOKENS, TOLERANCE
from adapterkit.errors import AdapterkitError
from adapterkit.host import Host
from adapterkit.manifest import MANIFEST, open_manifest


def problem_of(host: Host, name: str, folder: str) -> str:
    """What is wrong with the golden rows of what is mounted under a name, or "".

    In float32 every answer and every greedy text has to be the one that was saved. In a coarser format a label whose
    probability is nearly another's may change, so the numbers count, and half of the words. A composition's `folder`
    has no golden rows.
    """
    if not (Path(folder) / MANIFEST).is_file():
        return ""
    golden = open_manifest(folder).golden
    own = host.backbone.quantised or str(host.backbone.dtype).removeprefix("torch.")
    word = max(golden.dtype, own, key=lambda each: TOLERANCE[each])
    answered = [(number, row) for number, row in enumerate(golden.rows, 1) if row.prediction is not None]
    continued = [(number, row) for number, row in enumerate(golden.rows, 1) if row.text is not None]
    try:
        found = host.predict([(name, dict(row.row)) for _, row in answered])
        texts = host.generate([(name, dict(row.row)) for _, row in continued], max_new_tokens=NEW_TOKENS, num_beams=1)
    except AdapterkitError as error:
        return error.message
    pairs = [(number, answer, row.prediction) for (number, row), answer in zip(answered, found, strict=True)]
    pairs += [(number, text, row.text) for (number, row), text in zip(continued, texts, strict=True)]
    same: list[bool] = []
    for number, answer, expected in pairs:
        for one, other in _leaves(answer, expected, whole=word == "float32"):
            if isinstance(other, float):
                near = isinstance(one, int | float) and abs(one - other) <= TOLERANCE[word] * max(1.0, abs(other))
                if not near:
                    return f"golden row {number} has another number"
            else:
                same.append(one == other)
                if word == "float32" and not same[-1]:
                    return f"golden row {number} has another answer"
    if 2 * sum(same) < len(same):
        return f"{len(same) - sum(same)} of {len(same)} words of golden rows are others"
    return ""


def _leaves(found: Any, expected: Any, whole: bool) -> Iterator[tuple[Any, Any]]:
    """Pairs of values at the same place; None where nothing was found.
    `whole`: whether lists have to be alike too; otherwise only their words count, as far as both go."""
    if isinstance(expected, Mapping):
        of = found if isinstance(found, Mapping) else {}
        for name, value in expected.items():  # an answer may say more than it did when it was saved
            yield from _leaves(of.get(name), value, whole)
    elif isinstance(expected, list | tuple):
        items = list(found) if isinstance(found, list | tuple) else []
        if whole and len(items) != len(expected):
            yield len(items), str(len(expected))
        for one, other in zip(items, expected, strict=False):
            yield from (pair for pair in _leaves(one, other, whole) if whole or not isinstance(pair[1], float))
    else:
        yield found, expected
