"""What becomes of adapters on another backbone: what fits, what a copy loses, what training regains."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.artifact import Artifact, check_output, open_artifact, save_version
from adapterkit.artifact.golden import compute_golden, golden_problems
from adapterkit.artifact.loading import find_backbone
from adapterkit.backbone import Backbone
from adapterkit.errors import AdapterkitError, DataError
from adapterkit.evaluation.outcome import ask, made
from adapterkit.evaluation.rows import kept_recipe
from adapterkit.metrics.paired import difference
from adapterkit.recipe.kinds import FACTS
from adapterkit.records.versions import UpgradedAdapter, UpgradeRecord, UpgradeTrial, Way
from adapterkit.training import train


def upgrade(
    runs: Sequence[str | Path],
    old: Backbone | str | Path,
    new: Backbone | str | Path,
    *,
    output: str | Path | None = None,
    epochs: float = 1.0,
    data_root: str | Path | None = None,
    batch_size: int = 64,
    resamples: int = 1000,
    quiet: bool = True,
) -> UpgradeRecord:
    """Try every way of each adapter onto another backbone, on the adapter's own rows, and advise the cheapest.

    copy  its tensors as they are, where widths, layers and sites are the same
    head  the head alone, trained anew on the bare new backbone, whose states are computed once and kept
    warm  method and head, by the adapter's own recipe, trained on from the copy
    anew  the same from nothing

    A way loses nothing where the paired 95 % interval of its main metric does not lie on the wrong side of 0.

    Args:
        runs: artifacts on the old backbone, with recipes whose rows are still there. They stay as they are.
        old: the backbone that is left.
        new: the one that takes its place.
        output: where the artifacts of every way are kept, as RUN/WAY; None keeps none.
        epochs: of every training.
        batch_size: rows that are answered at once.

    Raises:
        DataError: two runs have one name, or an artifact keeps no recipe.
        OutputError: something stands at a folder of `output`.
        AdapterkitError: as of `train` and `evaluate`.
    """
    opened = [open_artifact(run) for run in runs]
    names = [artifact.folder.resolve().name for artifact in opened]
    problems = [f"{name}: the name of several runs" for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [f"{each.folder}: keeps no recipe" for each in opened if not each.manifest.recipe]
    if problems or not opened:
        raise DataError("these runs cannot be upgraded together", problems or ["runs: expected one or more"])
    for name in names if output is not None else ():
        check_output(Path(output or "") / name, overwrite=False)
    before, after = find_backbone(opened[0], old), find_backbone(opened[0], new)
    for artifact in opened:
        artifact.check_backbone(before)
    with ExitStack() as stack:
        kept = Path(output) if output is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trying = _Trying(before, after, epochs, data_root, batch_size, resamples, quiet, output is not None)
        adapters = tuple(trying.adapter(each, kept / name) for each, name in zip(opened, names, strict=True))
    return UpgradeRecord(**made(), old=before.fingerprint, new=after.fingerprint, epochs=epochs, adapters=adapters)


@dataclass(frozen=True)
class _Trying:
    """Everything that is the same for all adapters."""

    old: Backbone
    new: Backbone
    epochs: float
    root: str | Path | None
    batch_size: int
    resamples: int
    quiet: bool
    keeps: bool

    def adapter(self, opened: Artifact, folder: Path) -> UpgradedAdapter:
        """Try one."""
        question = ask(opened, data_root=self.root, batch_size=self.batch_size, backbone=self.old)
        before = question.answers()
        metric = before.task.main_metric

        def trial(way: Way, artifact: str | Path, seconds: float) -> UpgradeTrial:
            found = open_artifact(artifact)
            after = question.answers(found, on=self.new)
            lost = difference(*(one.metrics(resamples=self.resamples)[metric] for one in (before, after)))
            shown, size = str(found.folder) if self.keeps else None, found.manifest.size_bytes
            return UpgradeTrial(way=way, difference=lost, seconds=round(seconds, 1), size_bytes=size, output=shown)

        misfits = tuple(opened.contract.differences(self.new.contract, generates=opened.task.generates))
        trials, golden, copy = list[UpgradeTrial](), None, folder / "copy"
        if not misfits:
            golden = self._copy(opened, copy)
            trials.append(trial("copy", copy, 0.0))
        if opened.manifest.method.attaches and not FACTS[opened.task.kind].borrows_head:
            trials.append(trial("head", *self._trained(opened, {"method": {"kind": "none"}}, folder / "head")))
        if not misfits:
            trials.append(trial("warm", *self._trained(opened, {}, folder / "warm", start=copy)))
        trials.append(trial("anew", *self._trained(opened, {}, folder / "anew")))
        fine = [each.way for each in trials if each.difference.verdict != "worse"]
        return UpgradedAdapter(
            run=str(opened.folder),
            answering=before.answering,
            data=question.used,
            metric=metric,
            misfits=misfits,
            golden=golden,
            trials=tuple(trials),
            advised=fine[0] if fine else None,
        )

    def _copy(self, opened: Artifact, folder: Path) -> tuple[int, int]:
        """Put the same tensors on the new backbone. Returns how many golden rows are answered otherwise, of all."""
        new = self.new
        backbone: dict[str, Any] = {"name": new.name, "revision": new.revision, "fingerprint": new.fingerprint}
        backbone |= {"part": new.part} if new.part else {}
        backbone |= {"coverage": new.coverage, "contract": new.contract.to_dict()}
        changes: dict[str, Any] = {"backbone": backbone, "metrics": {}, "recipe": self._recipe(opened)}
        with opened.adapted(new, other_version=True) as adapted:
            problems = golden_problems(adapted, opened.manifest.golden)
            golden = compute_golden(adapted, [row.row for row in opened.manifest.golden.rows])
        changes["golden"] = golden.model_dump(mode="json")
        folder.parent.mkdir(parents=True, exist_ok=True)
        save_version(folder, opened.folder, changes)
        return len(problems), len(opened.manifest.golden.rows)

    def _recipe(self, opened: Artifact) -> dict[str, Any]:
        recipe: dict[str, Any] = dict(opened.manifest.recipe)
        named = {"name": self.new.name, "revision": self.new.revision}
        return {**recipe, "backbone": {**recipe["backbone"], **named}}

    def _trained(
        self, opened: Artifact, changes: Mapping[str, Any], folder: Path, start: Path | None = None
    ) -> tuple[Path, float]:
        """Train by the adapter's recipe with these changes. Returns the artifact, and how many seconds it took."""
        # The precision is that which the new backbone is loaded in; an objective shapes the method that was there.
        asked: dict[str, Any] = {"epochs": self.epochs, "max_steps": None, "precision": "auto"}
        asked["start_from"] = None if start is None else {"run": str(start)}
        asked |= {"objective": None} if "method" in changes else {}
        recipe = {**kept_recipe(opened, self.root, **asked), "backbone": self._recipe(opened)["backbone"], **changes}
        started = time.monotonic()
        try:
            result = train({**recipe, "output": str(folder)}, backbone=self.new, quiet=self.quiet)
        except AdapterkitError as error:
            told = [f"{opened.folder}: {error.message}"]
            raise DataError(
                "an adapter could not be trained on the new backbone", told, "Correct it, or leave this run out."
            ) from error
        return Path(result.artifact), time.monotonic() - started
