"""transformers' `Trainer` over an adapter: its callbacks, schedules, checkpoints and trackers, our artifacts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import AdamW
from transformers import Trainer, TrainingArguments

from adapterkit.adapted import Adapted
from adapterkit.data import Rows, as_rows, named_rows, rows_of
from adapterkit.errors import BackboneError, TrainingError
from adapterkit.metrics import Metric
from adapterkit.recipe import TrainingSettings
from adapterkit.scoring import score
from adapterkit.tasks.protocol import Batch, Feature, Task
from adapterkit.training.learner import rate_groups
from adapterkit.training.own_loop import save

TENSORS = "adapter.safetensors"
"""What a checkpoint of Trainer's holds of the adapter; the backbone is not copied."""


class AdapterTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """A `Trainer` that trains an `Adapted`, scores it as `adapterkit evaluate` does, and writes artifacts.

    The optimizer is AdamW, with `learning_rate` for the method and `head_learning_rate` for a head of its own; pass
    `optimizers` for another. Everything else is Trainer's: see its own documentation. `scores`: of the last `evaluate`,
    with intervals."""

    control: Any
    optimizer: Any

    def __init__(
        self,
        adapted: Adapted | Callable[[Any], Adapted],
        args: TrainingArguments | None = None,
        *,
        train_rows: Any,
        eval_rows: Any = None,
        head_learning_rate: float | None = None,
        **settings: Any,
    ) -> None:
        """
        Args:
            adapted: of `ak.build`; or what makes one for each trial of `hyperparameter_search`.
            train_rows: see `data.rows_of`; rows that cannot be used are left out.
            eval_rows: of `evaluate`.
            head_learning_rate: None for 5 times the learning rate, as in a recipe.
            settings: of Trainer: callbacks, optimizers, …

        Raises:
            BackboneError: the backbone is on another device than Trainer trains on.
            DataError: no row can be used.
        """
        first = adapted if isinstance(adapted, Adapted) else adapted(None)
        args = args or TrainingArguments(output_dir="trainer", report_to="none")
        device = first.backbone.device
        if device.type != args.device.type:
            raise BackboneError(
                f"the backbone is on {device}, and Trainer trains on {args.device}",
                remedy=f'Load it there: ak.Backbone.load(…, device="{args.device.type}").',
            )
        if args.gradient_checkpointing:
            first.checkpoint_layers()
            args.gradient_checkpointing = False  # Trainer would ask the model's own class for it
        args.dataloader_pin_memory &= device.type == "cuda"  # it warns where there is nothing to copy to
        first.compute_dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else first.compute_dtype
        self.scores: dict[str, Metric] = {}
        self._head_learning_rate = head_learning_rate
        self._train_rows = _usable(train_rows, first.task, "train")
        self._eval_rows = None if eval_rows is None else _usable(eval_rows, first.task, "score")
        made = {"model": adapted} if isinstance(adapted, Adapted) else {"model_init": adapted}
        super().__init__(
            args=args,
            data_collator=self._collated,
            train_dataset=first.task.encode(self._train_rows, first.vocabulary, "train").features,
            eval_dataset=self._eval_rows,
            **made,
            **settings,
        )
        self.model_accepts_loss_kwargs = False  # micro-batches are averaged, as Trainer does for any other model

    @property
    def adapted(self) -> Adapted:
        """What is trained. Raises TrainingError after a search, which lets go of what it tried."""
        if self.model is None:
            raise TrainingError("a search keeps no adapter", remedy="Train once more with what it found: train().")
        found: Adapted = self.model
        return found

    def save_artifact(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the adapter as it stands, with the scores of the last `evaluate`. Errors are those of `ak.save`."""
        metrics = {"validation": self.scores} if self.scores else {}
        rows = self._train_rows
        return save(self.adapted, folder, metrics=metrics, rows=rows, seed=self.args.seed, overwrite=overwrite)

    # -- what Trainer asks for

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Batch], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The task's own loss, a mean over what the batch weighs."""
        task, batch = self.adapted.task, inputs["batch"].to(self.adapted.backbone.device)
        logits = model(batch.inputs, task.answered(batch))
        loss = task.loss(logits, batch, label_smoothing=self.args.label_smoothing_factor).mean
        return (loss, {"logits": logits}) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The task's metrics over all rows; their intervals stand in `scores`."""
        rows = self._eval_rows if eval_dataset is None else _usable(eval_dataset, self.adapted.task, "score")
        if rows is None:
            raise ValueError("AdapterTrainer.evaluate needs eval_rows, or rows as its first argument")
        size = self.args.per_device_eval_batch_size
        self.scores = score(self.adapted, rows, batch_size=size, accelerator=self.accelerator)
        found = {f"{metric_key_prefix}_{name}": metric.value for name, metric in self.scores.items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def create_optimizer(self, *_: Any, **__: Any) -> Any:
        """AdamW over what trains, by rate and weight decay, unless one was passed."""
        if self.optimizer is None:
            settings = TrainingSettings(
                learning_rate=self.args.learning_rate,
                head_learning_rate=self._head_learning_rate,
                weight_decay=self.args.weight_decay,
            )
            groups = rate_groups(self.adapted, settings)
            betas, eps = (self.args.adam_beta1, self.args.adam_beta2), self.args.adam_epsilon
            self.optimizer = AdamW(
                [{"params": inside, "lr": rate, "weight_decay": decay} for (rate, decay), inside in groups.items()],
                lr=self.args.learning_rate,
                betas=betas,
                eps=eps,
            )
        return self.optimizer

    def _collated(self, features: Sequence[Feature]) -> dict[str, Batch]:
        epoch = int(self.state.epoch or 0)
        batch = self.adapted.task.collate(features, self.adapted.vocabulary, seed=self.args.seed, epoch=epoch)
        return {"batch": batch}

    def _move_model_to_device(self, model: Any, device: Any) -> Any:
        return model  # its memory is the backbone's, which others may use

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {name: one.contiguous() for name, one in self.adapted.state().items()}
        save_file(tensors, folder / TENSORS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.adapted.load_state(load_file(Path(resume_from_checkpoint) / TENSORS))

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def _usable(rows: Any, task: Task, purpose: Any) -> Rows:
    return as_rows(task.check_rows(named_rows(rows_of(rows), {}, needs=task.columns), purpose).rows)
