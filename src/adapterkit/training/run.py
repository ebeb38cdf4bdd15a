"""One training run, from a recipe to an artifact."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from adapterkit.adapted import Adapted, build
from adapterkit.artifact import KEPT, check_output, round_weights, save
from adapterkit.artifact.save import SaveDtype
from adapterkit.backbone import Backbone
from adapterkit.data import Rows
from adapterkit.errors import OutputError, TrainingError
from adapterkit.evaluation.score import outputs_of, score
from adapterkit.recipe import Recipe, resolve
from adapterkit.tasks.confidence import Metric
from adapterkit.tasks.protocol import Feature, GeneratingTask
from adapterkit.training.batches import Batches, HeldBatches, StreamedBatches
from adapterkit.training.checkpoint import FOLDER, Progress, load_checkpoint, read_progress, save_checkpoint
from adapterkit.training.console import RunConsole
from adapterkit.training.datasets import RecipeRows, read_recipe_rows
from adapterkit.training.interrupt import Interrupt
from adapterkit.training.journal import Journal
from adapterkit.training.loop import Step, training_steps
from adapterkit.training.optimizer import make_optimizer, make_schedule
from adapterkit.training.plot import plot_run
from adapterkit.training.precision import backbone_dtype, compute_dtype
from adapterkit.training.trackers import tracker_names

RUN_FOLDER = "training"
"""Where journal, picture, trackers and checkpoint stand inside the output folder."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a training run gave.

    Attributes:
        artifact: its folder.
        metrics: split -> metric -> value with its 95 % interval.
        steps: optimizer steps taken.
    """

    artifact: Path
    metrics: dict[str, dict[str, Metric]]
    steps: int


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    backbone: Backbone | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result:
    """Train an adapter as a recipe says, and write its artifact.

    Args:
        recipe: a file, the name of a shipped recipe, an artifact's folder, a mapping or a Recipe.
        backbone: a loaded backbone to train on; it is given back as it was. None loads the recipe's.
        overrides: "path=value" each, set on top of the recipe.
        resume: go on from the checkpoint of a run that was stopped.
        overwrite: replace what stands at the output.
        quiet: show no progress.

    Raises:
        AdapterkitError: of the kind that fits: recipe, data, backbone, site, head, device, output or training.
        KeyboardInterrupt: stopped by the user, after a checkpoint was written.
    """
    resolved = resolve(recipe, overrides)
    for note in resolved.notes:
        logger.warning(note)
    settings = resolved.recipe.training
    output = Path(resolved.recipe.output or Path("runs") / Path(resolved.name).stem)
    check_output(output, overwrite=overwrite or resume, keep=KEPT)
    names = tracker_names(settings)
    accelerator = Accelerator(
        mixed_precision="fp16" if settings.precision == "fp16" else "no",
        log_with=names or None,
        project_dir=str(output / RUN_FOLDER),
        cpu=resolved.recipe.backbone.device == "cpu",
    )
    console = RunConsole(quiet=quiet or not accelerator.is_main_process)
    with torch.random.fork_rng(devices=[]), console:
        torch.manual_seed(settings.seed + accelerator.process_index)
        source = recipe if isinstance(recipe, str | Path) else None
        folder = Path(source).parent if source is not None and Path(source).is_file() else None
        rows = read_recipe_rows(resolved.recipe, folder)
        for note in rows.notes:
            console.warn(note)
        on = backbone or _load_backbone(resolved.recipe, accelerator)
        narrow = compute_dtype(resolved.recipe, on)
        with build(on, rows.task, resolved.recipe.method, resolved.recipe.head, settings.seed) as adapted:
            adapted.compute_dtype = narrow
            run = _Run(resolved.recipe, rows, adapted, accelerator, console, output, resume, overwrite)
            return run.go()


def _load_backbone(recipe: Recipe, accelerator: Accelerator) -> Backbone:
    wanted = recipe.backbone
    return Backbone.load(
        wanted.name,
        revision=wanted.revision,
        dtype=backbone_dtype(recipe),
        device=str(accelerator.device) if wanted.device == "auto" else wanted.device,
        trust_remote_code=wanted.trust_remote_code,
    )


class _Run:
    """The state that the parts of one run share."""

    def __init__(
        self,
        recipe: Recipe,
        rows: RecipeRows,
        adapted: Adapted,
        accelerator: Accelerator,
        console: RunConsole,
        output: Path,
        resume: bool,
        overwrite: bool,
    ) -> None:
        self.recipe, self.rows, self.adapted = recipe, rows, adapted
        self.accelerator, self.console, self.output = accelerator, console, output
        self.settings = recipe.training
        self.task = rows.task
        self.folder = output / RUN_FOLDER
        self.overwrite = overwrite or resume
        self.progress = Progress(_digest(recipe, rows))
        self.best: dict[str, Tensor] | None = None
        self.resumed = self._find_checkpoint(resume, overwrite)
        self.main_metric = self.task.main_metric
        self.validation_features: list[Feature] = []

    def _find_checkpoint(self, resume: bool, overwrite: bool) -> bool:
        """Whether the run goes on from a checkpoint.

        Raises:
            OutputError: an unfinished run stands there and neither `resume` nor `overwrite` says what to do with it.
            TrainingError: there is nothing to go on from, or it is another run's.
        """
        found = read_progress(self.folder / FOLDER)
        if not resume:
            if found is not None and not overwrite:
                raise OutputError(
                    f"{self.output} holds a run that was stopped at step {found.steps}",
                    [f"{self.folder / FOLDER}: a checkpoint"],
                    "Go on with it (resume=True, --resume) or begin anew (overwrite=True, --overwrite).",
                )
            return False
        if found is None:
            raise TrainingError(
                f"{self.output} has no checkpoint to go on from", remedy="Leave out --resume to begin a run."
            )
        if found.recipe != self.progress.recipe:
            raise TrainingError(
                f"the checkpoint in {self.output} belongs to another run",
                ["its recipe or its rows were others than those of this run"],
                "Resume with the recipe and data that it began with, or begin anew: --overwrite.",
            )
        self.progress = found
        return True

    def go(self) -> Result:
        """Train, choose the best state, evaluate and save."""
        features = self._encode()
        batches = self._batches(features)
        optimizer = make_optimizer(self.adapted, self.settings)
        schedule = make_schedule(optimizer, self.settings, batches.total_steps)
        model, prepared = self.accelerator.prepare(self.adapted, optimizer)
        parameters = {**self.adapted.method_parameters(), **self.adapted.head_parameters()}
        if self.resumed:
            self.best = load_checkpoint(self.folder / FOLDER, parameters, prepared, schedule, self.accelerator)
            self.console.say(f"Going on after step {self.progress.steps} of {batches.total_steps}.")
        self._begin_tracking()
        weights = self.task.class_weights(self.settings.class_weights, _held(self.rows))
        with self._journal() as journal, Interrupt(self.accelerator) as interrupt:
            journal.write("begin", step=self.progress.steps, total_steps=batches.total_steps, **self._sizes())
            self.console.begin(batches.total_steps, self.progress.steps)
            steps = training_steps(
                model,
                self.adapted,
                batches,
                prepared,
                schedule,
                self.settings,
                self.accelerator,
                done=self.progress.steps,
                position=self.progress.position,
                class_weights=None if weights is None else torch.tensor(weights, device=self.accelerator.device),
            )
            for step in steps:
                self.progress.steps, self.progress.position = step.number, step.position
                self._report(step, batches, journal)
                last = step.number == batches.total_steps
                due = _due(self.settings.evaluate_every, step.number, batches)
                if self.rows.validation is not None and (last or due):
                    self._validate(step, journal)
                stopped = interrupt.wished()
                enough = self.settings.patience is not None and self.progress.since_best >= self.settings.patience
                if stopped or (_due(self.settings.checkpoint_every, step.number, batches) and not (last or enough)):
                    save_checkpoint(
                        self.folder / FOLDER, self.progress, parameters, self.best, optimizer=prepared,
                        schedule=schedule, accelerator=self.accelerator,
                    )  # fmt: skip
                if stopped:
                    raise KeyboardInterrupt
                if enough:
                    self.console.say(f"No better validation in {self.settings.patience}: stopped early.")
                    break
            self.console.finish()
            metrics = self._finish(journal)
        self._draw()
        self.accelerator.end_training()
        return Result(self.output, metrics, self.progress.steps)

    def _encode(self) -> list[Feature]:
        adapted, rows = self.adapted, self.rows
        if rows.validation is not None:
            encoded = self.task.encode(rows.validation, adapted.vocabulary, "score")
            self.validation_features = encoded.features
            self._cut("validation", encoded.truncation)
        if not isinstance(rows.train, Rows):
            return []
        encoded = self.task.encode(rows.train, adapted.vocabulary, "train")
        self._cut("train", encoded.truncation)
        return encoded.features

    def _cut(self, part: str, truncation: Any) -> None:
        if truncation.rows:
            self.console.warn(f"{part}: {truncation}")

    def _batches(self, features: list[Feature]) -> Batches:
        train = self.rows.train
        if isinstance(train, Rows):
            return HeldBatches(features, train.numbers, self.settings)
        return StreamedBatches(train, self.task, self.adapted.vocabulary, self.settings)

    def _journal(self) -> Journal:
        path = self.folder / "journal.jsonl" if self.accelerator.is_main_process else Path("/dev/null")
        return Journal(path, resume_after=self.progress.steps if self.resumed else None)

    def _begin_tracking(self) -> None:
        flat = {"/".join(path): value for path, value in _leaves(self.recipe.to_dict())}
        self.accelerator.init_trackers("trackers", config=flat)

    def _sizes(self) -> dict[str, Any]:
        count = sum(p.numel() for p in self.adapted.method_parameters().values())
        head = sum(p.numel() for p in self.adapted.head_parameters().values())
        return {"method_parameters": count, "head_parameters": head, "rows": self.rows.facts.rows}

    def _report(self, step: Step, batches: Batches, journal: Journal) -> None:
        values = {
            "loss": step.loss,
            "gradient_norm": step.gradient_norm,
            "learning_rate": step.learning_rate,
            "seconds": round(step.seconds, 4),
        }
        journal.write("step", step=step.number, **values, rows=step.rows, tokens=step.tokens)
        self.accelerator.log({f"train/{name}": value for name, value in values.items()}, step=step.number)
        self.console.step(step, batches.steps_per_epoch)

    def _validate(self, step: Step, journal: Journal) -> None:
        """Score the validation rows and remember the best state."""
        rows, progress = self.rows.validation, self.progress
        assert rows is not None
        metrics = self._score(rows, self.validation_features, resamples=0)
        value = metrics[self.main_metric].value
        sign = 1 if self.task.higher_is_better(self.main_metric) else -1
        better = progress.best_value is None or sign * value > sign * progress.best_value
        progress.history.append({"step": step.number, **{name: metric.value for name, metric in metrics.items()}})
        if better:
            progress.best_value, progress.best_step, progress.since_best = value, step.number, 0
            self.best = {name: tensor.cpu() for name, tensor in self.adapted.state().items()}
        else:
            progress.since_best += 1
        plain = {name: metric.value for name, metric in metrics.items()}
        journal.write("validation", step=step.number, metrics=plain, best=better)
        self.accelerator.log({f"validation/{name}": value for name, value in plain.items()}, step=step.number)
        self.console.validation(step.number, metrics, self.main_metric, best=better, loss=step.loss)

    def _score(self, rows: Rows, features: list[Feature] | None, *, resamples: int) -> dict[str, Metric]:
        generated = resamples > 0 or (
            isinstance(self.task, GeneratingTask) and self.main_metric in self.task.generated_metrics
        )
        return score(
            self.adapted,
            rows,
            features,
            batch_size=self.settings.evaluation_batch_size,
            resamples=resamples,
            generated=generated,
            accelerator=self.accelerator,
        )

    def _finish(self, journal: Journal) -> dict[str, dict[str, Metric]]:
        """Take the best state, round it to the artifact's format, score it on every split, and save."""
        if self.best is not None and self.settings.keep_best:
            self.adapted.load_state(self.best)
        dtype = _save_dtype(self.recipe, self.adapted)
        round_weights(self.adapted, dtype)
        self._calibrate()
        metrics: dict[str, dict[str, Metric]] = {}
        for split, rows, features in (
            ("validation", self.rows.validation, self.validation_features),
            ("test", self.rows.test, None),
        ):
            if rows is not None:
                self.console.say(f"scoring {len(rows):,} {split} rows …")
                metrics[split] = self._score(rows, features, resamples=1000)
                shown = {name: [m.value, m.low, m.high] for name, m in metrics[split].items()}
                journal.write("score", step=self.progress.steps, split=split, metrics=shown)
        if self.accelerator.is_main_process:
            golden = self.rows.validation or self.rows.test or _held(self.rows)
            save(
                self.output,
                self.adapted,
                recipe=self.recipe,
                data=self.rows.facts,
                metrics=metrics,
                seed=self.settings.seed,
                golden=golden,
                golden_rows=self.settings.golden_rows,
                overwrite=self.overwrite,
                dtype=dtype,
            )
            _remove_checkpoint(self.folder / FOLDER)
        self.accelerator.wait_for_everyone()
        return metrics

    def _calibrate(self) -> None:
        """Let the task choose on validation rows what is chosen there (the threshold of questions without answer)."""
        rows, features = self.rows.validation, self.validation_features
        if rows is not None:
            outputs = outputs_of(
                self.adapted,
                features,
                batch_size=self.settings.evaluation_batch_size,
                accelerator=self.accelerator,
            )
            self.task = self.adapted.task = self.task.calibrated(rows, features, outputs)

    def _draw(self) -> None:
        if self.accelerator.is_main_process:
            title = f"{self.task.kind}, {self.recipe.method.kind} on {self.recipe.backbone.name}"
            plot_run(self.folder / "journal.jsonl", self.folder / "training.png", self.main_metric, title)


def _due(every: int | str, step: int, batches: Batches) -> bool:
    if every == "epoch":
        every = batches.steps_per_epoch or max(1, batches.total_steps // 10)
    return step % int(every) == 0


def _held(rows: RecipeRows) -> Rows:
    return rows.train if isinstance(rows.train, Rows) else rows.train.take(2000)


def _save_dtype(recipe: Recipe, adapted: Adapted) -> SaveDtype:
    """The artifact's number format: what was computed in, unless the recipe says otherwise."""
    wanted = recipe.training.save_dtype
    if wanted != "auto":
        return wanted
    return str(adapted.compute_dtype).removeprefix("torch.")  # type: ignore[return-value]


def _digest(recipe: Recipe, rows: RecipeRows) -> str:
    """What a checkpoint has to agree on: everything in the recipe but its output, and the rows."""
    content = {**recipe.to_dict(), "output": None, "rows": rows.facts.digests}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, item in value.items():
        if isinstance(item, Mapping):
            found += _leaves(item, (*path, name))
        else:
            found.append(((*path, name), item if isinstance(item, int | float | str | bool) else str(item)))
    return found


def _remove_checkpoint(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
