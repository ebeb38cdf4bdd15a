"""The `training` block: how long, how fast, how precisely, and what is kept."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from adapterkit.recipe.settings import Many, Settings, foreign, refuse

Positive = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]

NEAREST = "nearest"
"""In the place of a run to start from: the one that suits the training rows best."""


CONTRASTIVE = ("supervised-contrastive", "simcse")
TEMPERATURES = {"supervised-contrastive": 0.1, "simcse": 0.05}
"""As in the papers."""
WIDTH = 128


class ObjectiveSettings(Settings):
    """What shapes the representation beside the task's loss."""

    kind: Literal["supervised-contrastive", "simcse", "near-backbone", "near-start"]
    """supervised-contrastive: rows of one label near each other (Khosla et al. 2020). simcse: each row near itself
    under another dropout, far from all others (Gao et al. 2021). near-backbone: hidden states near those of the frozen
    backbone. near-start: the method's weights near those that it began with (Li et al. 2018)."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor on it; that of the task's loss is 1. Higher: the representation follows the labels less."""
    alone: bool = False
    """Whether a contrastive term alone shapes the method: the task's loss then ends at the head, which learns on what
    it is given."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Of a contrastive term. Lower: the nearest rows count more. null: 0.1, or 0.05 for simcse."""
    width: Annotated[int, Field(ge=2, le=4096)] | None = None
    """Of the vectors that a contrastive term compares, behind a projection that no artifact holds. null: 128."""
    distance: Literal["squares", "cosine"] | None = None
    """How far states are from the backbone's. squares: mean square of the differences. cosine: 1 - cosine, whatever
    their lengths. null: squares."""

    @property
    def contrasts(self) -> bool:
        """Whether rows of a batch are compared with each other."""
        return self.kind in CONTRASTIVE

    @property
    def reads_rows(self) -> bool:
        """Whether it looks at what the trunk makes of rows, and not at weights alone."""
        return self.kind != "near-start"

    @model_validator(mode="after")
    def _together(self) -> Self:
        owners = {**dict.fromkeys(("alone", "temperature", "width"), CONTRASTIVE), "distance": ("near-backbone",)}
        refuse(foreign([name for name in owners if getattr(self, name)], owners, self.kind))
        return self


class StartFrom(Settings):
    """What first weights are taken from. A plain name stands for its `run`."""

    run: Text
    """Folder of an artifact on the same backbone. nearest: of those in `among`, the one on whose representation a probe
    of the training rows does best; the bare backbone where that does better (a folder of this name: ./nearest)."""
    take: Annotated[Many[Literal["method", "head"]], Field(min_length=1)] | None = None
    """What is taken: method, head or both. null: both, as far as the recipe has them; of the nearest the method."""
    among: Annotated[Many[Text], Field(min_length=1)] | None = None
    """Where the nearest is looked for: artifacts, or folders of them. null: runs."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.among is not None and self.run != NEAREST:
            refuse([("among", f"has no meaning beside run: {self.run}; remove it, or write run: nearest")])
        return self


def _named(value: Any) -> Any:
    return {"run": value} if isinstance(value, str) else value


class TrainingSettings(Settings):
    """How long, how fast, how precisely, and what is kept."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training rows. Higher: more accurate up to a point, proportionally longer."""
    max_steps: Positive | None = None
    """Stop after this many optimizer steps, even if epochs are left. null: only epochs count."""
    batch_size: Positive = 32
    """Rows per optimizer step, over all processes. Higher: smoother steps, fewer of them, more memory."""
    batch_tokens: Positive | None = None
    """Tokens per optimizer step instead of rows: short rows share a step, long ones do not. null: batch_size counts."""
    accumulate: Positive = 1
    """Parts into which a step's rows are cut. Higher: less memory, slower; the result is the same."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Highest rate of the adapter's parameters. Higher: faster, less stable. Adapters want 10 to 50 times what full
    fine-tuning wants."""
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Highest rate of a head of its own. null: 5 times learning_rate."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls after warm-up. cosine: stays high longer. constant: never falls, ends less well."""
    warmup: Annotated[float, Field(ge=0)] = 0.06
    """Rise of the rate at the start: a share of all steps if below 1, else a number of steps. Higher: more stable."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Pull of the weights towards zero, biases and norms excepted. Higher: less over-fitting, slower learning."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient. Lower: more stable, slower. null: never clipped."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the computation. auto: bf16 where the hardware is fast at it, else fp32."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of every random choice. The same seed, data, machine and kept states (see cache) give the same bytes."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes. Higher: less sure of itself, often better calibrated."""
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Weight of each label in the loss. balanced: rare labels count more: better macro-F1, worse accuracy."""
    evaluate_every: Positive | Literal["epoch"] = "epoch"
    """Steps between validations. Lower: a better best checkpoint, more time spent on validation."""
    patience: Positive | None = None
    """Stop after this many validations without a better one. Lower: shorter, may stop too early. null: never."""
    checkpoint_every: Positive | Literal["epoch"] = "epoch"
    """Steps between resumable checkpoints. Lower: less is lost when a run is stopped, more writing."""
    keep_best: bool = True
    """Whether the artifact is the state that validated best; of those within a standard error of it, the latest. false:
    the last one, whatever it scored."""
    trackers: Many[Annotated[str, Field(min_length=1)]] | Literal["auto"] = "auto"
    """Trackers by Accelerate's names (tensorboard, wandb, mlflow). auto: tensorboard where installed. []: none."""
    save_dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    """Number format in the artifact. bfloat16: half the size. int8: a quarter, and plain PEFT cannot read it. auto: the
    format of the computation."""
    evaluation_batch_size: Positive = 64
    """Rows per batch where nothing trains. Higher: faster up to a point, more memory."""
    gradient_checkpointing: bool = False
    """Whether layers are computed again in the backward. true: far less memory, about a third slower."""
    cache: Annotated[str, Field(min_length=1)] = "auto"
    """Keep on disk what the frozen layers below the lowest adapted one make of each text: auto (where it pays), off, or
    a folder to keep it in. Less computing in every epoch after the first, more space on the disk."""
    packed: Literal["auto", "off"] = "auto"
    """Multiply with the frozen weights in layouts for this CPU. auto: where a measurement says that it pays, in memory
    beside the weights, at most twice their bytes. off: less memory, slower."""
    golden_rows: Annotated[int, Field(ge=1, le=64)] = 4
    """Rows whose answers are kept in the artifact as a proof. Higher: a stronger proof, a larger manifest."""
    start_from: Annotated[StartFrom | None, BeforeValidator(_named, json_schema_input_type=StartFrom | Text | None)] = (
        None
    )
    """An artifact whose weights this run begins with: runs/a, or {run: runs/a, take: [method]}. Labels that it knows
    stay, new ones get rows of their own in the head. null: weights drawn from the seed."""

    objective: ObjectiveSettings | None = None
    """What shapes the representation beside the task's loss: {kind: supervised-contrastive, weight: 0.5}. null: the
    task's loss alone."""

    @model_validator(mode="before")
    @classmethod
    def _without_shares(cls, given: Any) -> Any:
        """Recipes that older artifacts keep hold the default of a field that there is no more, which said nothing."""
        if isinstance(given, Mapping) and given.get("shares") == 1:
            return {name: value for name, value in given.items() if name != "shares"}
        return given

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = []
        if self.batch_tokens is not None and "batch_size" in self.model_fields_set:
            problems.append(
                ("batch_tokens", f"stands beside batch_size ({self.batch_size}); set one of the two (null for none)")
            )
        if self.objective is not None and self.objective.reads_rows:
            problems += self._beside(self.objective)
        if self.class_weights == {}:
            problems.append(("class_weights", 'is empty; name weights, or write "balanced" or null'))
        refuse(problems)
        return self

    def _beside(self, objective: ObjectiveSettings) -> list[tuple[str, str]]:
        """What does not go with an objective that looks at all rows of a step, and at their states."""
        problems = []
        if self.accumulate > 1:
            problems.append(
                ("accumulate", f"cuts a step's rows, and objective.kind {objective.kind} reads all; write 1")
            )
        if self.cache not in ("auto", "off"):
            problems.append(
                ("cache", f"keeps states below the adapter, and {objective.kind} reads those of all layers")
            )
        if objective.contrasts and self.batch_tokens is None and self.batch_size == 1:
            problems.append(("batch_size", f"is 1, and {objective.kind} compares the rows of a step; write 2 or more"))
        return problems

    @model_serializer(mode="wrap")
    def _one_batch_rule(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave batch_size out where batch_tokens counts, so that a written block reads back."""
        written: dict[str, Any] = handler(self)
        if self.batch_tokens is not None:
            written.pop("batch_size", None)
        return written
