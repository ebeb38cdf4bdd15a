"""Names that users of PEFT, Trainer, setfit and AdapterHub bring along: what each is called here.

A name that means the same is read as ours, with a note. One that means something else, or nothing, is refused with what
to write in its place.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]


class Unreadable(Exception):  # noqa: N818 - it never leaves this module
    """A neighbour's value that has no counterpart here; its text says what to write."""


@dataclass(frozen=True)
class Neighbour:
    """A foreign name."""

    path: str = ""
    """The field that it is here; "" where there is none."""
    read: Callable[[Any], Any] = lambda value: value
    """Its value as the field has it; None drops the name, `Unreadable` says why not."""
    hint: str = ""
    """What to know of it, for the note or the refusal."""
    switch: bool = False
    """Whether it is true or false there, and something else here."""


SITES = {
    **dict.fromkeys(("query", "q_proj", "q", "q_lin", "query_proj"), "attention.query"),
    **dict.fromkeys(("key", "k_proj", "k", "k_lin", "key_proj"), "attention.key"),
    **dict.fromkeys(("value", "v_proj", "v", "v_lin", "value_proj"), "attention.value"),
    **dict.fromkeys(("o_proj", "out_proj", "o", "out_lin"), "attention.output"),
}
"""Module names of common families -> sites."""


def _sites(value: Any) -> Any:
    if value == "all-linear":
        return value
    names = [value] if isinstance(value, str) else value
    unknown = [name for name in names if name not in SITES] if isinstance(names, list) else [value]
    if unknown:
        shown = ", ".join(map(repr, unknown))
        raise Unreadable(f"{shown}: write method.sites with sites (attention.query, feedforward.output) or all-linear")
    return list(dict.fromkeys(SITES[name] for name in names))


def _trackers(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    return [] if names in (None, ["none"]) else "auto" if names == ["all"] else names


def _precision(name: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, bool):
            raise Unreadable(f"found {value!r:.40}, expected true or false; or write training.precision: {name}")
        return name if value else None

    return read


def _strategy(value: Any) -> Any:
    if value == "no":
        raise Unreadable("write data.validation: null, which keeps the last state")
    return "epoch" if value == "epoch" else None  # of "steps" the number says it


def _schedule(value: Any) -> Any:
    if value not in ("linear", "cosine", "constant", "constant_with_warmup"):
        raise Unreadable("write training.schedule: linear, cosine or constant")
    return value.partition("_")[0]


BATCH = "training.batch_size counts the rows of a whole step, over all processes and parts"

NEIGHBOURS: Mapping[str, Neighbour] = {
    "lr": Neighbour("training.learning_rate"),
    **dict.fromkeys(("num_train_epochs", "num_epochs"), Neighbour("training.epochs")),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size"), Neighbour("training.batch_size", hint=BATCH)),
    "gradient_accumulation_steps": Neighbour("training.accumulate", hint=BATCH),
    "per_device_eval_batch_size": Neighbour("training.evaluation_batch_size"),
    **dict.fromkeys(("warmup_ratio", "warmup_steps"), Neighbour("training.warmup")),
    "max_grad_norm": Neighbour("training.clip"),
    "lr_scheduler_type": Neighbour("training.schedule", _schedule),
    "label_smoothing_factor": Neighbour("training.label_smoothing"),
    "bf16": Neighbour("training.precision", _precision("bf16"), switch=True),
    "fp16": Neighbour("training.precision", _precision("fp16"), switch=True),
    "report_to": Neighbour("training.trackers", _trackers),
    "save_steps": Neighbour("training.checkpoint_every"),
    "eval_steps": Neighbour("training.evaluate_every"),
    **dict.fromkeys(("eval_strategy", "evaluation_strategy"), Neighbour("training.evaluate_every", _strategy)),
    "load_best_model_at_end": Neighbour("training.keep_best"),
    "early_stopping_patience": Neighbour("training.patience"),
    "metric_for_best_model": Neighbour("task.metric"),
    **dict.fromkeys(("max_length", "max_seq_length"), Neighbour("task.max_tokens")),
    "normalize_embeddings": Neighbour("head.normalize"),
    "output_dir": Neighbour("output"),
    **dict.fromkeys(("model_name_or_path", "base_model_name_or_path"), Neighbour("backbone.name")),
    "train_file": Neighbour("data.train"),
    "validation_file": Neighbour("data.validation"),
    "test_file": Neighbour("data.test"),
    "sep": Neighbour("data.delimiter"),
    **dict.fromkeys(("r", "lora_r"), Neighbour("method.rank")),
    "lora_alpha": Neighbour("method.alpha"),
    "lora_dropout": Neighbour("method.dropout"),
    "target_modules": Neighbour("method.sites", _sites),
    "use_rslora": Neighbour("method.rslora"),
    "use_dora": Neighbour("method.dora"),
    "layers_to_transform": Neighbour("method.layers"),
    "modules_to_save": Neighbour(hint="the head is trained and saved without being named; remove it"),
    "task_type": Neighbour(hint="task.kind says it (text-classification, token-classification, causal-lm, …)"),
    "save_total_limit": Neighbour(hint="one checkpoint is kept while a run lasts, and none after it; remove it"),
    "logging_steps": Neighbour(hint="every step stands in the run's journal; remove it"),
    "optim": Neighbour(hint="the optimizer is AdamW; remove it, or train in a loop of your own (ak.build)"),
}
"""A neighbour's name -> what it is here. A name of ours in a wrong block is none; `problems` refuses it."""


def translate(raw: dict[str, Any], known: Mapping[str, frozenset[str]]) -> tuple[list[str], list[tuple[Path, str]]]:
    """Read neighbours' names in a recipe's raw mapping as ours, in place. Returns notes, and what cannot be read.

    `known`: block -> its own fields, "" -> the blocks; a name that stands where it belongs is nobody else's.
    """
    notes: list[str] = []
    problems: list[tuple[Path, str]] = []
    accumulated = any("per_device_train_batch_size" in block for _, block in _blocks(raw, known))
    for where, block in list(_blocks(raw, known)):
        for name in [name for name in block if name in NEIGHBOURS and name not in known[where]]:
            neighbour, path, value = NEIGHBOURS[name], (*([where] if where else []), name), block[name]
            problem = ""
            try:
                if not neighbour.path:
                    raise Unreadable(neighbour.hint)
                value = neighbour.read(value)
                problem = "" if value is None else _put(raw, neighbour.path, value)
            except Unreadable as reason:
                problem = f"is not a known name; {reason}"
            del block[name]
            if problem:
                problems.append((path, problem))
                continue
            shown = ".".join(map(str, path))
            hint = f" ({neighbour.hint})" if neighbour.hint else ""
            read = f"is read as {neighbour.path}" if value is not None else f"changes nothing: {neighbour.path} says it"
            notes.append(f"{shown} {read}{hint}")
    if accumulated:
        _whole_batches(raw)
    return notes, problems


def _blocks(raw: dict[str, Any], known: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", raw
    yield from ((name, raw[name]) for name in known if name and isinstance(raw.get(name), dict))


def _put(raw: dict[str, Any], path: str, value: Any) -> str:
    """Set a field; returns what is in the way, or ""."""
    *blocks, name = path.split(".")
    block = raw
    for one in blocks:
        if block.get(one) is None:
            block[one] = {}
        if not isinstance(block[one], dict):
            return f"is {path} here, and {one} is no block"
        block = block[one]
    if name in block and block[name] != value:
        return f"is {path} here, which stands beside it; set one of the two"
    block[name] = value
    return ""


def _whole_batches(raw: dict[str, Any]) -> None:
    """Rows of a device and a part, as Trainer counts them, become rows of a step, as they are counted here."""
    training = raw.get("training")
    if isinstance(training, dict):
        rows, parts = (training.get(name) for name in ("batch_size", "accumulate"))
        if isinstance(rows, int) and isinstance(parts, int):
            training["batch_size"] = rows * parts
