"""Make an artifact smaller, as far as its answers to given rows bear it.

Axes: R rank, I inputs, O outputs.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

import torch

from adapterkit.adapted import PREFIX, Adapted, build
from adapterkit.artifact import Artifact, check_output, open_artifact, save
from adapterkit.artifact.lowrank import LowRank, truncated
from adapterkit.artifact.saving import SaveDtype, name_of, pick_dtype, round_weights, rounded
from adapterkit.artifact.updates import updates_of
from adapterkit.backbone import Backbone, Site
from adapterkit.compose.mountable import MethodState, of_artifact
from adapterkit.compose.updates import lora_of
from adapterkit.errors import DataError
from adapterkit.evaluation.outcome import HowAnswered, Outcome, ask, made
from adapterkit.manifest import KEPT, CompactionFacts, open_manifest
from adapterkit.methods.table import method_of
from adapterkit.metrics import Metric
from adapterkit.metrics.paired import Difference, difference
from adapterkit.records import Answerer, CompactionRecord
from adapterkit.records.evaluation import TriedRecord

DROPPED = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 0.0)
"""Shares of Σ‖ΔW‖² that are tried to leave out, the largest first."""

SPLIT = "compacted"
"""What the manifest calls the rows that decided."""

Rank = int | Literal["auto", "keep"]


@dataclass(frozen=True, eq=False)
class _Smaller:
    """A candidate: the share of Σ‖ΔW‖² that it leaves out, its method, and its outcome with the metrics of both."""

    dropped: float
    own: MethodState
    outcome: Outcome
    metrics: Mapping[str, Metric]
    difference: Difference
    numbers: int


def compact(
    artifact: str | Path,
    output: str | Path,
    data: Any = None,
    *,
    to: SaveDtype = "int8",
    rank: Rank = "auto",
    tolerance: float = 0.002,
    resamples: int = 1000,
    overwrite: bool = False,
    **how: Unpack[HowAnswered],
) -> CompactionRecord:
    """Write a smaller version of an artifact, whose main metric on rows is at most `tolerance` worse.

    A LoRA loses the directions that change least: over all sites together, the smallest singular values of ΔW go first
    (Eckart and Young 1936), so that sites which do not matter end at rank 1, or go with their whole layer. What is left
    is stored in the number format; the expanding factor is fitted to what the shrinking one became.

    Args:
        artifact: its folder, which stays as it is.
        output: where the new version shall stand.
        data: rows that were not trained on, as `evaluate` takes them; None takes the test rows of its recipe.
        to: number format of the tensors; see `docs/artifact-format.md` for "int8".
        rank: "auto" lowers it as far as the tolerance allows, where the method has a rank; a number is the highest that
            any site keeps; "keep" leaves it.
        tolerance: how much worse the main metric may become: in its own units where higher is better, else as a share
            of it.

    Raises:
        DataError: the metric becomes worse than that, or the arguments cannot be followed; nothing is written.
        ArtifactError, ContractError, BackboneError: the artifact or its backbone cannot be used.
        OutputError: something stands at `output`.
    """
    check_output(Path(output), overwrite=overwrite, keep=KEPT)
    opened = open_artifact(artifact, parts=how.get("parts"))
    _check(opened, rank, tolerance)
    question = ask(opened, data, **how)
    under, used = question.backbone, question.used
    before = question.answers().metrics(resamples=resamples)
    methods = list(_candidates(opened, under, rank, to))
    tried: list[_Smaller] = []

    def worth(place: int) -> bool:
        dropped, own = methods[place]
        with _built(opened, own, under, to) as adapted:
            outcome = question.answers_of(adapted)
            numbers = sum(tensor.numel() for tensor in adapted.state().values())
        after = outcome.metrics(resamples=resamples)
        main = difference(before[opened.task.main_metric], after[opened.task.main_metric])
        tried.append(_Smaller(dropped, own, outcome, after, main, numbers))
        return _lost(main) <= tolerance

    kept = bisect_left(range(len(methods)), True, key=worth)  # what follows one that is worth it, is too
    if kept == len(methods):
        raise _too_much(tried[-1], opened.task.main_metric, tolerance, to)
    chosen = next(one for one in tried if one.own is methods[kept][1])
    facts = CompactionFacts(
        to=name_of(to),
        tolerance=tolerance,
        dropped=chosen.dropped,
        metric=opened.task.main_metric,
        before=chosen.difference.a,
        after=chosen.difference.b,
        low=chosen.difference.low,
        high=chosen.difference.high,
        rows=used.rows,
        digest=used.digest,
        size_bytes=opened.manifest.size_bytes,
    )
    with _built(opened, chosen.own, under, to) as adapted:
        manifest = opened.manifest
        save(
            output,
            adapted,
            recipe=manifest.recipe,
            data=manifest.data,
            metrics={SPLIT: chosen.metrics},
            seed=manifest.seed,
            golden=[row.row for row in manifest.golden.rows],
            golden_rows=max(1, len(manifest.golden.rows)),
            parent=opened.folder,
            composition=manifest.composition,
            compaction=facts,
            overwrite=overwrite,
            dtype=to,
        )
    after = open_manifest(output)
    return CompactionRecord(
        **made(),
        answering=Answerer.of(after, chosen.outcome.answering.dtype),
        data=used,
        resamples=resamples,
        metric=facts.metric,
        tolerance=tolerance,
        difference=chosen.difference,
        tried=tuple(
            TriedRecord(dropped=one.dropped, numbers=one.numbers, difference=one.difference, kept=one is chosen)
            for one in tried
        ),
        size_bytes=(opened.manifest.size_bytes, after.size_bytes),
    )


def _check(opened: Artifact, rank: Rank, tolerance: float) -> None:
    method = opened.manifest.method
    reason = method_of(method).why_not_summed(method)
    problems = []
    if not (isinstance(tolerance, int | float) and math.isfinite(tolerance) and tolerance >= 0):
        problems.append(f"tolerance: found {tolerance!r}, expected 0 or more")
    if isinstance(rank, int) and (isinstance(rank, bool) or rank < 1):
        problems.append(f"rank: found {rank!r}, expected 1 or more")
    elif not isinstance(rank, int) and rank not in ("auto", "keep"):
        problems.append(f'rank: found {rank!r}, expected a number, "auto" or "keep"')
    elif isinstance(rank, int) and reason:
        problems.append(f"rank: {method.words} cannot be given another: {reason}")
    if problems:
        raise DataError(f"{opened.folder} cannot be compacted so", problems)


def _candidates(opened: Artifact, backbone: Backbone, rank: Rank, to: SaveDtype) -> Iterator[tuple[float, MethodState]]:
    """Methods of smaller and larger updates, the smallest first, with the share of Σ‖ΔW‖² that each leaves out."""
    (own,) = of_artifact(opened).methods
    row = method_of(own.method)
    if rank == "keep" or not row.low_rank or row.why_not_summed(own.method):
        yield 0.0, own
        return
    whole = {
        site: truncated(update, update.rank)
        for site, update in updates_of(own.method, own.config, own.state, backbone).items()
    }
    squares = {site: (update.b**2).sum(0) * (update.a**2).sum(1) for site, update in whole.items()}
    total = float(sum(each.sum() for each in squares.values()))
    counts = [_counts(squares, share * total) for share in DROPPED]
    if isinstance(rank, int):
        counts = [{site: min(rank, len(each)) for site, each in squares.items()}]
    seen: list[Mapping[Site, int]] = []
    for kept in counts:
        if kept not in seen and any(kept.values()):
            seen.append(kept)
            left = sum(float(squares[site][count:].sum()) for site, count in kept.items())
            updates = {site: _fitted(whole[site], count, to) for site, count in kept.items() if count}
            yield (left / total if total else 0.0), lora_of(updates, opened, backbone)


def _counts(squares: Mapping[Site, torch.Tensor], most: float) -> dict[Site, int]:
    """How many singular values each site keeps, where the smallest of all go first and their squares sum to at most
    `most`. Those that are nothing go in any case."""
    ordered = sorted((float(value), site) for site, each in squares.items() for value in each)
    counts, left = {site: len(each) for site, each in squares.items()}, 0.0
    floor = 1e-14 * sum(value for value, _ in ordered)
    for value, site in ordered:
        left += value
        if left > max(most, floor):
            break
        counts[site] -= 1
    return counts


def _fitted(whole: LowRank, count: int, to: SaveDtype) -> LowRank:
    """The leading directions, with `a` as it will be read again, and the `b` that is best beside it: ‖b·a - b'·a'‖ is
    least for b' = b·a·a'⁺."""
    a_RI, b_OR = whole.a[:count], whole.b[:, :count]
    kept_RI = rounded(a_RI.float(), pick_dtype(to)).double()
    return LowRank(kept_RI, b_OR @ (a_RI @ torch.linalg.pinv(kept_RI)))


def _built(opened: Artifact, own: MethodState, backbone: Backbone, to: SaveDtype) -> Adapted:
    """An adapter with this method and the artifact's head, rounded as it would be saved."""
    manifest = opened.manifest
    heads = {f"{PREFIX}{name}" for name in manifest.head_tensors}
    given = {**own.state, **{name: tensor for name, tensor in opened.state.items() if name in heads}}
    adapted = build(backbone, opened.task, own.method, manifest.head, manifest.seed, parts=opened.parts(backbone))
    adapted.load_state({name: given[name] for name in adapted.state()})
    round_weights(adapted, to)
    return adapted


def _lost(found: Difference) -> float:
    """How much worse it became; a value that is no number is as bad as can be."""
    lost = -found.difference if found.higher_is_better else found.difference / max(abs(found.a), 1e-12)
    return lost if math.isfinite(lost) else math.inf


def _too_much(last: _Smaller, metric: str, tolerance: float, to: SaveDtype) -> DataError:
    found = last.difference
    rank = "at the rank that was asked for" if last.dropped else "with every direction kept"
    problem = f"{metric}: {found.a:.4f} → {found.b:.4f} [{found.low:+.4f}, {found.high:+.4f}] in {to}, {rank}"
    return DataError(
        f"{metric} would become worse than a tolerance of {tolerance:g} allows",
        [problem],
        "Allow more, give more rows, or take bfloat16. Nothing was written.",
    )
